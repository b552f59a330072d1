//! Colour operations on the planes of one image, written so that the compiler vectorises them.

/// Weights of red, green and blue in grey (ITU-R 601, as torchvision rounds them).
pub(super) const GREY: [f32; 3] = [0.2989, 0.587, 0.114];

pub(super) fn brightness(pixels: &mut [f32], factor: f32) {
    pixels.iter_mut().for_each(|x| *x = (*x * factor).clamp(0.0, 1.0));
}

pub(super) fn solarize(pixels: &mut [f32], threshold: f32) {
    pixels.iter_mut().for_each(|x| *x = if *x >= threshold { 1.0 - *x } else { *x });
}

/// `clamp(f x + (1 - f) other)`.
pub(super) fn blend(pixels: &mut [f32], factor: f32, other: f32) {
    let add = (1.0 - factor) * other;
    pixels.iter_mut().for_each(|x| *x = (*x * factor + add).clamp(0.0, 1.0));
}

/// Mean grey of an RGB image with planes of `plane` pixels.
pub(super) fn mean_grey(pixels: &[f32], plane: usize) -> f32 {
    pixels.chunks_exact(plane).zip(GREY).map(|(p, weight)| weight * sum(p)).sum::<f32>() / plane as f32
}

/// A sum in eight lanes: faster than one after the other, and more exact.
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0; 8];
    let chunks = values.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    chunks.for_each(|chunk| lanes.iter_mut().zip(chunk).for_each(|(l, v)| *l += v));
    lanes.iter().sum::<f32>() + rest
}

/// Calls `change` with red, green and blue of every pixel.
fn rgb(pixels: &mut [f32], plane: usize, change: impl Fn([f32; 3]) -> [f32; 3]) {
    let (red, rest) = pixels.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        [*r, *g, *b] = change([*r, *g, *b]);
    }
}

pub(super) fn saturation(pixels: &mut [f32], plane: usize, factor: f32) {
    rgb(pixels, plane, |[r, g, b]| {
        let grey = (1.0 - factor) * (GREY[0] * r + GREY[1] * g + GREY[2] * b);
        [r, g, b].map(|x| (factor * x + grey).clamp(0.0, 1.0))
    });
}

pub(super) fn hue(pixels: &mut [f32], plane: usize, turn: f32) {
    let turn = 6.0 * turn;
    rgb(pixels, plane, |[r, g, b]| {
        let high = r.max(g).max(b);
        let chroma = high - r.min(g).min(b);
        let scale = 1.0 / if chroma > 0.0 { chroma } else { 1.0 };
        // The hue in sixths of the circle: 0 red, 2 green, 4 blue.
        let h = if high == r {
            (g - b) * scale
        } else if high == g {
            2.0 + (b - r) * scale
        } else {
            4.0 + (r - g) * scale
        };
        let h = h + turn;
        let h = if h < 0.0 { h + 6.0 } else { h };
        let h = if h >= 6.0 { h - 6.0 } else { h };
        // Back from hue, chroma and maximum without a branch: channel n falls off from the maximum by the distance of
        // (n + h) mod 6 from the half circle.
        [5.0, 3.0, 1.0].map(|n| {
            let k: f32 = n + h;
            let k = if k >= 6.0 { k - 6.0 } else { k };
            high - chroma * k.min(4.0 - k).clamp(0.0, 1.0)
        })
    });
}
