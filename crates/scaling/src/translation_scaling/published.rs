//! Published losses and BLEU scores of small translation models.

/// A published model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishedPoint {
    /// Parameters by [`stacked_parameters`].
    pub n: f64,
    /// Bytes of training text.
    pub bytes: f64,
    /// Cross-entropy on the development set, nats per token.
    pub loss: f64,
    /// BLEU there.
    pub bleu: f64,
}

/// Parameters of an encoder and a decoder of `layers` layers each without embeddings, in Gordon, Duh and Kaplan's count, which leaves the
/// attention from decoder to encoder out: `2 layers (4 d^2 + 2 d d_ff)`. It is no input for laws of two sizes.
///
/// ```
/// assert_eq!(autodidact_scaling::translation_scaling::stacked_parameters(6, 512, 2048), 37_748_736.0);
/// ```
pub fn stacked_parameters(layers: usize, d: usize, d_ff: usize) -> f64 {
    (2 * layers * (4 * d * d + 2 * d * d_ff)) as f64
}

/// Bytes of training text.
const BYTES: [f64; 9] =
    [6805504.0, 13553664.0, 27088896.0, 54286336.0, 108449792.0, 217077760.0, 434356224.0, 868360192.0, 1736732672.0];

/// Layers, width, hidden width; losses by data; BLEU by data.
type Row = ([usize; 3], [f64; 9], [f64; 9]);

const GERMAN_ENGLISH: [Row; 6] = [
    (
        [1, 128, 512],
        [4.34778, 3.57089, 2.95982, 2.58958, 2.36474, 2.28863, 2.25397, 2.24579, 2.24128],
        [8.86, 13.51, 18.62, 22.41, 24.32, 24.78, 25.24, 25.44, 25.59],
    ),
    (
        [1, 256, 1024],
        [4.14668, 3.40255, 2.78925, 2.40757, 2.11933, 1.94435, 1.91260, 1.89881, 1.88503],
        [10.23, 15.68, 20.56, 25.01, 28.11, 30.74, 30.81, 31.13, 31.48],
    ),
    (
        [1, 512, 2048],
        [4.17716, 3.21578, 2.67264, 2.29229, 2.01012, 1.79162, 1.68442, 1.63604, 1.62967],
        [11.68, 16.68, 21.51, 25.66, 29.40, 32.90, 34.77, 35.54, 35.34],
    ),
    (
        [3, 512, 2048],
        [4.00726, 3.10475, 2.42454, 2.00418, 1.71586, 1.52442, 1.41480, 1.37875, 1.36327],
        [12.77, 18.07, 26.00, 30.07, 33.93, 37.37, 39.20, 40.03, 40.13],
    ),
    (
        [6, 512, 2048],
        [4.07032, 3.13437, 2.38656, 1.94663, 1.67785, 1.46531, 1.36114, 1.30967, 1.30003],
        [11.17, 17.66, 26.29, 31.01, 34.64, 38.23, 40.01, 41.05, 41.54],
    ),
    (
        [6, 624, 2496],
        [4.00298, 3.10363, 2.35900, 1.92521, 1.66799, 1.45585, 1.34072, 1.30398, 1.27698],
        [12.16, 17.69, 26.16, 30.70, 34.71, 38.47, 40.69, 41.36, 41.79],
    ),
];

/// Gordon, Duh and Kaplan's (2021) models from German to English, of six sizes on nine amounts of text: losses and BLEU scores on a
/// development set of mixed origin, as they published them.
pub fn published_points() -> Vec<PublishedPoint> {
    let row = |([layers, d, d_ff], losses, scores): Row| {
        let n = stacked_parameters(layers, d, d_ff);
        (0..BYTES.len()).map(move |i| PublishedPoint { n, bytes: BYTES[i], loss: losses[i], bleu: scores[i] })
    };
    GERMAN_ENGLISH.into_iter().flat_map(row).collect()
}
