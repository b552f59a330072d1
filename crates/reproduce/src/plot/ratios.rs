//! Bars of ratios on a logarithmic axis, from 1 to the left or the right.

use super::{Area, FONT, colour, text, tick};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A ratio with its interval.
#[derive(Debug, Clone)]
pub struct Ratio {
    /// Beside the bar.
    pub label: String,
    /// The ratio, above 0.
    pub value: f64,
    /// Ends of its interval.
    pub interval: (f64, f64),
    /// A marked value on the same axis.
    pub target: Option<f64>,
    /// Which colour.
    pub colour: usize,
}

/// Pixels of the drawing's width (that of a phone or so), of a row (the name above its bar), of the values, and of the axis
/// with its title.
const WIDTH: u32 = 420;
const ROW: i32 = 36;
const VALUES: i32 = 48;
const AXIS: i32 = 50;

pub(super) fn size(ratios: &[Ratio]) -> (u32, u32) {
    (WIDTH, (ROW * ratios.len() as i32 + AXIS) as u32)
}

/// Bars from 1; ends of the axis are given, so that several drawings have the same.
pub(super) fn draw(root: &Area<'_>, ratios: &[Ratio], (low, high): (f64, f64), title: &str) -> Result<()> {
    let positive = low > 0.0 && low < 1.0 && high > 1.0 && ratios.iter().all(|r| r.value > 0.0 && r.interval.0 > 0.0);
    if ratios.is_empty() || !positive {
        return Err(anyhow!("no positive ratios, or an axis without 1"));
    }
    let (from, to) = (20, WIDTH as i32 - VALUES);
    let place = |v: f64| {
        let share = (v.clamp(low, high).ln() - low.ln()) / (high.ln() - low.ln());
        from + (share * f64::from(to - from)).round() as i32
    };
    let bottom = ROW * ratios.len() as i32;
    let style = |h, v| FONT.into_text_style(root).pos(Pos::new(h, v));
    for v in ticks(low, high) {
        let strength = if v == 1.0 { 0.8 } else { 0.15 };
        root.draw(&PathElement::new([(place(v), 18), (place(v), bottom)], BLACK.mix(strength))).map_err(text)?;
        let label = Text::new(tick(v), (place(v), bottom + 6), style(HPos::Center, VPos::Top));
        root.draw(&label).map_err(text)?;
    }
    let middle = ((from + to) / 2, bottom + 28);
    root.draw(&Text::new(title.to_owned(), middle, style(HPos::Center, VPos::Top))).map_err(text)?;
    for (i, r) in ratios.iter().enumerate() {
        let top = ROW * i as i32;
        root.draw(&Text::new(r.label.clone(), (0, top + 2), style(HPos::Left, VPos::Top))).map_err(text)?;
        let y = top + 25;
        let (a, b) = (place(r.value).min(place(1.0)), place(r.value).max(place(1.0)));
        root.draw(&Rectangle::new([(a, y - 6), (b, y + 6)], colour(r.colour).filled())).map_err(text)?;
        let (low, high) = (place(r.interval.0), place(r.interval.1));
        for line in [[(low, y), (high, y)], [(low, y - 4), (low, y + 4)], [(high, y - 4), (high, y + 4)]] {
            root.draw(&PathElement::new(line, BLACK.stroke_width(1))).map_err(text)?;
        }
        if let Some(target) = r.target {
            let at = place(target);
            root.draw(&PathElement::new([(at, y - 9), (at, y + 9)], BLACK.stroke_width(3))).map_err(text)?;
        }
        let value = format!("{:.*}", if r.value < 0.1 { 3 } else { 2 }, r.value);
        root.draw(&Text::new(value, (to + 8, y), style(HPos::Left, VPos::Center))).map_err(text)?;
    }
    Ok(())
}

/// 1, 3, 10, 30, ... and 1/3 as 0.3, within the ends.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let all = (-9..9).flat_map(|e| [10f64.powi(e), 3.0 * 10f64.powi(e)]);
    all.filter(|v| (low..=high).contains(v)).collect()
}
