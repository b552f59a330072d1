//! The UCI digits, shipped with the crate.

use super::ImageSet;
use flate2::read::GzDecoder;
use std::io::Read;
use tch::Tensor;

// 1,797 records of 64 pixels (0 to 16) and a label, gzip; made by scripts/digits.py.
static RECORDS: &[u8] = include_bytes!("../../data/digits.bin.gz");

/// The UCI digits: 1,797 handwritten digits of 8x8 pixels by 13 people (Alpaydin and Kaynak 1998, "Optical Recognition
/// of Handwritten Digits", test part, CC BY 4.0); `Uint8 [1797, 1, 8, 8]`, classes `"0"` to `"9"`.
///
/// The original's 17 grey levels are spread over 0 to 255: level `v` becomes `round(v * 255 / 16)`.
///
/// ```
/// let digits = autodidact_datasets::image::digits();
/// assert_eq!(digits.images.size(), [1797, 1, 8, 8]);
/// assert_eq!(digits.labels.int64_value(&[5]), 5);
/// ```
pub fn digits() -> ImageSet {
    let mut records = Vec::new();
    GzDecoder::new(RECORDS).read_to_end(&mut records).expect("the shipped file is intact");
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for record in records.chunks_exact(65) {
        pixels.extend(record[..64].iter().map(|&v| ((u32::from(v) * 255 + 8) / 16) as u8));
        labels.push(i64::from(record[64]));
    }
    let images = Tensor::from_slice(&pixels).view([labels.len() as i64, 1, 8, 8]);
    ImageSet::new(images, Tensor::from_slice(&labels), (0..10).map(|k| k.to_string()).collect())
        .expect("the shipped file is intact")
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    #[test]
    fn the_shipped_digits_are_the_published_ones() {
        let digits = super::digits();
        // Sums of load_digits().data and of its squares, and the class sizes, from scikit-learn.
        let level = (digits.images.to_kind(Kind::Double) * 16.0 / 255.0).round();
        assert_eq!(level.sum(Kind::Double).double_value(&[]), SUM);
        assert_eq!(level.square().sum(Kind::Double).double_value(&[]), SUM_OF_SQUARES);
        let counts = Vec::<i64>::try_from(digits.labels.bincount::<&tch::Tensor>(None, 10)).unwrap();
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    }

    const SUM: f64 = 561718.0;
    const SUM_OF_SQUARES: f64 = 6907012.0;
}
