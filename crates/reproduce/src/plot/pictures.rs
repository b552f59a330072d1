//! Rows of small pictures, as PNGs inside of the SVG.

use super::colour;
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};
use plotters::style::RGBColor;
use std::fmt::Write as _;
use tch::{Device, Kind, Tensor};

/// A picture.
#[derive(Debug, Clone)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    /// Of an image `[3, H, W]`, `Uint8`.
    ///
    /// # Errors
    /// Another shape or kind.
    pub fn of_image(image: &Tensor) -> Result<Self> {
        let size = image.size();
        ensure!(size.len() == 3 && size[0] == 3 && image.kind() == Kind::Uint8, "no Uint8 image [3, H, W]: {size:?}");
        let rgb = image.permute([1, 2, 0]).contiguous().view(-1).to_device(Device::Cpu);
        Ok(Self { width: size[2] as u32, height: size[1] as u32, rgb: rgb.try_into()? })
    }

    /// Of the values of a square image of one or three channels `[C, side, side]`, black at `low` and white at `high`.
    pub fn of_values(values: &[f64], side: usize, low: f64, high: f64) -> Self {
        let plane = side * side;
        let channels = (values.len() / plane.max(1)).max(1);
        let byte = |v: f64| (255.0 * ((v - low) / (high - low)).clamp(0.0, 1.0)).round() as u8;
        let rgb = (0..plane).flat_map(|at| [0, 1, 2].map(|c| byte(values[c.min(channels - 1) * plane + at]))).collect();
        Self { width: side as u32, height: side as u32, rgb }
    }

    /// Of a map of classes by rows, each class in the colour that [`colour`] gives its number.
    pub fn of_classes(classes: &[f64], width: usize) -> Self {
        let rgb = classes.iter().flat_map(|c| {
            let RGBColor(r, g, b) = colour(*c as usize);
            [r, g, b]
        });
        let rgb = rgb.collect();
        Self { width: width as u32, height: (classes.len() / width.max(1)) as u32, rgb }
    }

    fn data(&self) -> Result<String> {
        let mut png = vec![];
        PngEncoder::new(&mut png).write_image(&self.rgb, self.width, self.height, ExtendedColorType::Rgb8)?;
        Ok(STANDARD.encode(png))
    }
}

/// Side of a picture, and what lies between two.
const SIDE: usize = 96;
const GAP: usize = 6;
/// Width of the rows' names.
const NAMES: usize = 190;

/// Rows with names, top to bottom.
pub(super) fn svg(rows: &[(String, Vec<Picture>)]) -> Result<String> {
    let most = rows.iter().map(|(_, pictures)| pictures.len()).max().unwrap_or(0);
    ensure!(most > 0, "nothing to draw");
    let (width, height) = (NAMES + most * (SIDE + GAP), rows.len() * (SIDE + GAP));
    let mut out = format!("<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" ");
    out += "xmlns=\"http://www.w3.org/2000/svg\">\n";
    for (row, (name, pictures)) in rows.iter().enumerate() {
        let top = row * (SIDE + GAP);
        let name = name.replace('&', "&amp;").replace('<', "&lt;");
        let y = top + SIDE / 2 + 5;
        writeln!(
            out,
            "<text x=\"4\" y=\"{y}\" font-family=\"sans-serif\" font-size=\"15\" fill=\"#000000\">{name}</text>"
        )?;
        for (column, picture) in pictures.iter().enumerate() {
            let x = NAMES + column * (SIDE + GAP);
            let data = picture.data().with_context(|| format!("picture {column} of {name}"))?;
            write!(out, "<image x=\"{x}\" y=\"{top}\" width=\"{SIDE}\" height=\"{SIDE}\" ")?;
            writeln!(out, "style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{data}\"/>")?;
        }
    }
    Ok(out + "</svg>\n")
}
