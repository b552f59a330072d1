//! Plots as SVG, with one look: arms keep their colour everywhere, axes are named with units, and the drawing adapts to a
//! light or dark page (its ink is the page's text colour).

mod pictures;
mod ratios;

pub use pictures::Picture;
pub use ratios::Ratio;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 430);
/// Of narrow drawings, which a phone shows whole, without their legend; and the height of a line of that.
const NARROW: (u32, u32) = (420, 290);
const LINE: i32 = 22;
const FONT: (&str, i32) = ("sans-serif", 15);

/// Okabe and Ito's palette, which people with colour blindness can tell apart, darkened where it was too light for white.
const PALETTE: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 160, 213),
    RGBColor(200, 140, 0),
    RGBColor(120, 94, 200),
    RGBColor(128, 128, 128),
    RGBColor(150, 60, 60),
];

/// The colour of the `i`-th arm.
pub fn colour(i: usize) -> RGBColor {
    PALETTE[i % PALETTE.len()]
}

/// `(middle of the bin, percent of the values)` for equal bins between two ends; values outside count among all.
pub fn histogram(values: &[f64], (low, high): (f64, f64), bins: usize) -> Vec<(f64, f64)> {
    let width = ((high - low) / bins as f64).max(f64::MIN_POSITIVE);
    let mut counts = vec![0usize; bins];
    for v in values.iter().filter(|v| (low..=high).contains(*v)) {
        counts[(((v - low) / width) as usize).min(bins - 1)] += 1;
    }
    let percent = |c: usize| 100.0 * c as f64 / values.len() as f64;
    counts.into_iter().enumerate().map(|(i, c)| (low + (i as f64 + 0.5) * width, percent(c))).collect()
}

/// Points with a name.
#[derive(Debug, Clone)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// `(x, y, half width of the interval)`; the half width may be 0.
    pub points: Vec<(f64, f64, f64)>,
    /// Which colour (of the arm).
    pub colour: usize,
    /// Dashed: predictions, limits, references.
    pub dashed: bool,
    /// Dots at the points, and no line.
    pub dots: bool,
    /// The name stands beside the points, and not in the legend.
    pub labelled: bool,
}

impl Series {
    /// A line without intervals.
    pub fn line(name: impl Into<String>, colour: usize, points: &[(f64, f64)]) -> Self {
        let points = points.iter().map(|&(x, y)| (x, y, 0.0)).collect();
        Self { name: name.into(), points, colour, dashed: false, dots: false, labelled: false }
    }

    /// A line with intervals.
    pub fn with_intervals(name: impl Into<String>, colour: usize, points: Vec<(f64, f64, f64)>) -> Self {
        Self { name: name.into(), points, colour, dashed: false, dots: false, labelled: false }
    }

    /// The same, dashed.
    pub fn dashed(mut self) -> Self {
        self.dashed = true;
        self
    }

    /// The same as dots.
    pub fn dots(mut self) -> Self {
        self.dots = true;
        self
    }

    /// The same as dots with the name beside them.
    pub fn labelled(mut self) -> Self {
        self.labelled = true;
        self.dots()
    }
}

/// What is drawn.
#[derive(Debug, Clone)]
pub enum Drawing {
    /// Lines over a numeric axis.
    Lines {
        /// Lines.
        series: Vec<Series>,
        /// Logarithmic horizontal axis.
        log_x: bool,
        /// Logarithmic vertical axis.
        log_y: bool,
    },
    /// Horizontal bars: `(label, value, half width of the interval, colour)`.
    Bars(Vec<(String, f64, f64, usize)>),
    /// Matrices side by side in one colour scale: `(title, rows, columns, row-major values)`, and the scale's ends.
    Heat {
        /// Matrices.
        panels: Vec<(String, usize, usize, Vec<f64>)>,
        /// Value of the lowest colour; its negation's opposite is white at 0 for symmetric scales.
        low: f64,
        /// Value of the highest colour.
        high: f64,
    },
    /// Ratios as bars from 1 on a logarithmic axis with these ends.
    Ratios(Vec<Ratio>, (f64, f64)),
    /// Rows of pictures, with the rows' names.
    Pictures(Vec<(String, Vec<Picture>)>),
}

/// A plot of a record.
#[derive(Debug, Clone)]
pub struct Plot {
    /// File name without ending.
    pub name: String,
    /// What it shows, in one sentence.
    pub caption: String,
    /// Horizontal axis, with unit.
    pub x: String,
    /// Vertical axis, with unit.
    pub y: String,
    /// Content.
    pub drawing: Drawing,
    /// Lines only: small, with the legend below.
    pub narrow: bool,
}

impl Plot {
    fn new(name: &str, caption: &str, [x, y]: [&str; 2], drawing: Drawing) -> Self {
        Self { name: name.into(), caption: caption.into(), x: x.into(), y: y.into(), drawing, narrow: false }
    }

    /// A line plot with linear axes.
    pub fn lines(name: &str, caption: &str, x: &str, y: &str, series: Vec<Series>) -> Self {
        Self::new(name, caption, [x, y], Drawing::Lines { series, log_x: false, log_y: false })
    }

    /// The same with logarithmic axes.
    pub fn log(mut self, x: bool, y: bool) -> Self {
        if let Drawing::Lines { log_x, log_y, .. } = &mut self.drawing {
            (*log_x, *log_y) = (x, y);
        }
        self
    }

    /// The same, half as wide, with the legend below.
    pub fn narrow(mut self) -> Self {
        self.narrow = true;
        self
    }

    /// A bar plot.
    pub fn bars(name: &str, caption: &str, x: &str, bars: Vec<(String, f64, f64, usize)>) -> Self {
        Self::new(name, caption, [x, ""], Drawing::Bars(bars))
    }

    /// Matrices side by side.
    pub fn heat(name: &str, caption: &str, panels: Vec<(String, usize, usize, Vec<f64>)>, low: f64, high: f64) -> Self {
        Self::new(name, caption, ["column", "row"], Drawing::Heat { panels, low, high })
    }

    /// Ratios on a logarithmic axis from `ends.0` below 1 to `ends.1` above.
    pub fn ratios(name: &str, caption: &str, x: &str, ratios: Vec<Ratio>, ends: (f64, f64)) -> Self {
        Self::new(name, caption, [x, ""], Drawing::Ratios(ratios, ends))
    }

    /// Rows of pictures with names; there are no axes.
    pub fn pictures(name: &str, caption: &str, rows: Vec<(String, Vec<Picture>)>) -> Self {
        Self::new(name, caption, ["", ""], Drawing::Pictures(rows))
    }

    /// The drawing as an SVG document.
    ///
    /// # Errors
    /// Nothing to draw.
    pub fn svg(&self) -> Result<String> {
        let mut out = String::new();
        let size = match &self.drawing {
            Drawing::Bars(bars) => (SIZE.0, 90 + 30 * bars.len() as u32),
            Drawing::Ratios(ratios, _) => ratios::size(ratios),
            Drawing::Lines { series, .. } if self.narrow => {
                (NARROW.0, NARROW.1 + (LINE as usize * series.len()) as u32 + 12)
            }
            _ => SIZE,
        };
        if let Drawing::Pictures(rows) = &self.drawing {
            out = pictures::svg(rows).map_err(|e| anyhow!("plot {}: {e:#}", self.name))?;
        } else {
            let root = SVGBackend::with_string(&mut out, size).into_drawing_area();
            match &self.drawing {
                Drawing::Lines { series, log_x, log_y } => self.draw_lines(&root, series, *log_x, *log_y),
                Drawing::Bars(bars) => self.draw_bars(&root, bars),
                Drawing::Ratios(ratios, ends) => ratios::draw(&root, ratios, *ends, &self.x),
                Drawing::Heat { panels, low, high } => draw_heat(&root, panels, *low, *high),
                Drawing::Pictures(_) => Ok(()),
            }
            .map_err(|e| anyhow!("plot {}: {e}", self.name))?;
            root.present().map_err(|e| anyhow!("plot {}: {e}", self.name))?;
        }
        // Ink in the page's colour, and scaling with the page's width.
        let out = out.replace("\"#000000\"", "\"currentColor\"");
        Ok(out.replacen("<svg ", "<svg role=\"img\" style=\"max-width:100%;height:auto\" ", 1))
    }

    fn draw_lines(&self, root: &Area<'_>, series: &[Series], log_x: bool, log_y: bool) -> Result<()> {
        // Logarithmic axes are linear ones of exponents: base 2 across (batch sizes, widths), base 10 upwards.
        let (across, upwards) = (
            move |x: f64| if log_x { x.log2() } else { x },
            move |y: f64| if log_y { y.max(f64::MIN_POSITIVE).log10() } else { y },
        );
        let place = |s: &Series| -> Vec<(f64, f64, f64, f64)> {
            let place = |p: &(f64, f64, f64)| (across(p.0), upwards(p.1), upwards(p.1 - p.2), upwards(p.1 + p.2));
            s.points.iter().map(place).filter(|p| p.0.is_finite() && p.1.is_finite()).collect()
        };
        let placed: Vec<_> = series.iter().map(place).collect();
        // Names beside points need room.
        let aside = if series.iter().any(|s| s.labelled) { 0.13 } else { 0.02 };
        let x = range(placed.iter().flatten().map(|p| p.0), aside)?;
        let y = range(placed.iter().flatten().flat_map(|p| [p.2, p.3]), 0.06)?;
        let tall = self.narrow || y.end - y.start > 1.0;
        let listed = series.iter().filter(|s| !s.labelled);
        let longest = listed.clone().map(|s| s.name.chars().count()).max().unwrap_or(0) as i32;
        let listed = listed.count();
        let legend = if listed > 1 { 46 + 8 * longest } else { 0 };
        let (area, side) =
            if self.narrow { root.split_vertically(NARROW.1) } else { root.split_horizontally(SIZE.0 as i32 - legend) };
        let (first, listed) = if self.narrow { (10, true) } else { (26, listed > 1) };
        let mut chart = ChartBuilder::on(&area);
        chart.margin(12).x_label_area_size(48).y_label_area_size(72);
        let mut chart = chart.build_cartesian_2d(x, y).map_err(text)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .label_style(FONT)
            .axis_desc_style(FONT)
            .x_desc(&self.x)
            .y_desc(&self.y)
            .x_labels(if self.narrow { 6 } else { 8 })
            .x_label_formatter(&|v| tick(if log_x { v.exp2() } else { *v }))
            .y_label_formatter(&|v| if log_y { power(*v, tall) } else { tick(*v) })
            .draw()
            .map_err(text)?;
        for (row, (s, points)) in series.iter().zip(&placed).filter(|(s, _)| !s.labelled).enumerate() {
            let style = colour(s.colour).stroke_width(2);
            let line: Vec<(f64, f64)> = points.iter().map(|p| (p.0, p.1)).collect();
            for p in points.iter().filter(|p| p.3 > p.2) {
                chart.draw_series([ErrorBar::new_vertical(p.0, p.2, p.1, p.3, style, 8)]).map_err(text)?;
            }
            let (mut sample, middle) = (vec![(14, 0), (36, 0)], first + LINE * row as i32);
            if s.dots {
                chart.draw_series(line.iter().map(|&p| Circle::new(p, 3, style.filled()))).map_err(text)?;
                sample = vec![];
                side.draw(&Circle::new((25, middle), 3, style.filled())).map_err(text)?;
            } else if s.dashed {
                chart.draw_series(DashedLineSeries::new(line, 7, 5, style)).map_err(text)?;
                side.draw(&PathElement::new(vec![(29, middle), (36, middle)], style)).map_err(text)?;
                sample[1].0 = 21;
            } else {
                chart.draw_series(LineSeries::new(line, style)).map_err(text)?;
            }
            if listed {
                let sample: Vec<_> = sample.into_iter().map(|(x, _)| (x, middle)).collect();
                side.draw(&PathElement::new(sample, style)).map_err(text)?;
                side.draw(&Text::new(s.name.clone(), (43, middle - 8), FONT)).map_err(text)?;
            }
        }
        for (s, points) in series.iter().zip(&placed).filter(|(s, _)| s.labelled) {
            let label = |p: &(f64, f64, f64, f64)| {
                let dot = Circle::new((0, 0), 4, colour(s.colour).filled());
                EmptyElement::at((p.0, p.1)) + dot + Text::new(s.name.clone(), (6, -16), FONT)
            };
            chart.draw_series(points.iter().map(label)).map_err(text)?;
        }
        Ok(())
    }

    fn draw_bars(&self, root: &Area<'_>, bars: &[(String, f64, f64, usize)]) -> Result<()> {
        let mut x = range(bars.iter().flat_map(|b| [b.1 - b.2, b.1 + b.2, 0.0]), 0.05)?;
        if bars.iter().all(|b| b.1 - b.2 >= 0.0) {
            x.start = 0.0;
        }
        let n = bars.len();
        // As in legends, a letter takes seven pixels or so; half of the drawing is left to the bars.
        let longest = bars.iter().map(|b| b.0.chars().count()).max().unwrap_or(0) as i32;
        let names = (20 + 7 * longest).clamp(210, SIZE.0 as i32 / 2);
        let mut chart = ChartBuilder::on(root);
        chart.margin(12).margin_right(20).x_label_area_size(48).y_label_area_size(names);
        let mut chart = chart.build_cartesian_2d(x, -0.5..n as f64 - 0.5).map_err(text)?;
        let label = |v: &f64| {
            let i = v.round();
            let on = (v - i).abs() < 0.01 && i >= 0.0 && (i as usize) < n;
            if on { bars[n - 1 - i as usize].0.clone() } else { String::new() }
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .label_style(FONT)
            .axis_desc_style(FONT)
            .x_desc(&self.x)
            .y_labels(n.max(2) * 2)
            .y_label_formatter(&label)
            .x_label_formatter(&|v| tick(*v))
            .draw()
            .map_err(text)?;
        for (i, (_, value, half, c)) in bars.iter().enumerate() {
            let at = (n - 1 - i) as f64;
            chart
                .draw_series([Rectangle::new([(0.0, at - 0.32), (*value, at + 0.32)], colour(*c).filled())])
                .map_err(text)?;
            if *half > 0.0 {
                let bar = ErrorBar::new_horizontal(at, value - half, *value, value + half, BLACK.stroke_width(2), 8);
                chart.draw_series([bar]).map_err(text)?;
            }
        }
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn text(e: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{e}")
}

fn tick(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if !(1e-3..1e5).contains(&a) => format!("{v:.1e}").replace(".0e", "e"),
        a => {
            // Four digits, whatever the size; exponents of logarithmic axes are not round.
            let text = format!("{v:.*}", (3 - a.log10().floor() as i32).max(0) as usize);
            let round = text.contains('.').then(|| text.trim_end_matches('0').trim_end_matches('.').to_owned());
            round.unwrap_or(text)
        }
    }
}

/// A tick of a logarithmic axis; two digits are enough where it spans powers of ten.
fn power(exponent: f64, tall: bool) -> String {
    let v = 10f64.powf(exponent);
    if !tall {
        return tick(v);
    }
    let unit = 10f64.powf(exponent.floor() - 1.0);
    tick((v / unit).round() * unit)
}

fn range(values: impl Iterator<Item = f64>, margin: f64) -> Result<std::ops::Range<f64>> {
    let known = values.filter(|v| v.is_finite());
    let (low, high) = autodidact_core::stats::extent(known);
    if low > high {
        return Err(anyhow!("nothing to draw"));
    }
    let pad = if high > low { (high - low) * margin } else { low.abs().max(1.0) * 0.1 };
    Ok(low - pad..high + pad)
}

fn draw_heat(root: &Area<'_>, panels: &[(String, usize, usize, Vec<f64>)], low: f64, high: f64) -> Result<()> {
    if panels.is_empty() {
        return Err(anyhow!("nothing to draw"));
    }
    for (area, (title, rows, columns, values)) in root.split_evenly((1, panels.len())).iter().zip(panels) {
        let area = area.margin(4, 8, 8, 8);
        let area = area.titled(title, FONT).map_err(text)?;
        let (w, h) = area.dim_in_pixel();
        let side = (w as usize / columns).min(h as usize / rows).max(1) as i32;
        for r in 0..*rows {
            for c in 0..*columns {
                let t = ((values[r * columns + c] - low) / (high - low)).clamp(0.0, 1.0);
                let at = (c as i32 * side, r as i32 * side);
                let cell = Rectangle::new([at, (at.0 + side, at.1 + side)], diverging(t).filled());
                area.draw(&cell).map_err(text)?;
            }
        }
    }
    Ok(())
}

/// Orange below the middle, grey-white at it, blue above.
fn diverging(t: f64) -> RGBColor {
    let (end, amount) =
        if t < 0.5 { (RGBColor(213, 94, 0), 1.0 - 2.0 * t) } else { (RGBColor(0, 84, 148), 2.0 * t - 1.0) };
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * amount).round() as u8;
    RGBColor(mix(245, end.0), mix(245, end.1), mix(245, end.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn svgs_have_their_labels_and_take_the_pages_ink() {
        let s = Series::with_intervals("full", 0, vec![(1.0, 2.0, 0.1), (10.0, 3.0, 0.2), (100.0, f64::NAN, 0.0)]);
        let svg = Plot::lines("p", "c", "batch size", "accuracy (%)", vec![s.clone(), s.dashed()])
            .log(true, false)
            .svg()
            .unwrap();
        assert!(svg.contains("accuracy (%)") && svg.contains("batch size") && svg.contains("full"));
        assert!(svg.contains("currentColor") && !svg.contains("#000000"));
        let svg =
            Plot::bars("b", "c", "accuracy (%)", vec![("full".into(), 42.0, 1.0, 0), ("random".into(), 30.0, 0.0, 1)])
                .svg();
        assert!(svg.unwrap().contains("random"));
        assert!(Plot::lines("p", "c", "x", "y", vec![]).svg().is_err());
    }

    #[test]
    fn long_names_of_bars_have_room() {
        let name = "augmented-uniform-draws/sasrec,known=0.1, repair 0.2";
        let svg = Plot::bars("b", "c", "x", vec![(name.into(), 1.0, 0.0, 0)]).svg().unwrap();
        let label = svg.split("<text ").find(|t| t.contains(name)).unwrap();
        let end: f64 = label.split('"').nth(1).unwrap().parse().unwrap();
        assert!(label.starts_with("x=") && end > 6.7 * name.len() as f64, "{label}");
    }

    #[test]
    fn pictures_are_pngs_in_named_rows() {
        let image = tch::Tensor::zeros([3, 2, 2], (tch::Kind::Uint8, tch::Device::Cpu));
        let row = vec![Picture::of_image(&image).unwrap(), Picture::of_classes(&[0.0, 1.0, 2.0, 1.0], 2)];
        let svg = Plot::pictures("p", "c", vec![("a < b".into(), row)]).svg().unwrap();
        assert!(svg.matches("data:image/png;base64,iVBOR").count() == 2 && svg.contains("a &lt; b"));
        assert!(Plot::pictures("p", "c", vec![]).svg().is_err());
        // Grey is three times its one channel; of colours each has its own; values beyond the ends are cut.
        let grey = Picture::of_values(&[-3.0, 0.0, 1.0, 9.0], 2, -1.0, 1.0);
        assert_eq!(format!("{grey:?}").matches("128, 128, 128").count(), 1);
        let green = Picture::of_values(&[0.0, 1.0, 0.0], 1, 0.0, 1.0);
        assert!(format!("{green:?}").contains("[0, 255, 0]"));
        assert!(Picture::of_image(&image.to_kind(tch::Kind::Float)).is_err());
    }

    #[test]
    fn ratios_are_bars_from_one() {
        let ratio = |value: f64| Ratio {
            label: format!("entry {value}"),
            value,
            interval: (0.9 * value, 1.1 * value),
            target: Some(0.5),
            colour: 2,
        };
        let plot = |ratios, ends| Plot::ratios("r", "c", "ours / other", ratios, ends).svg();
        let svg = plot(vec![ratio(0.25), ratio(2.0)], (0.1, 4.0)).unwrap();
        assert!(svg.contains("entry 0.25") && svg.contains("ours / other") && svg.contains("2.00"));
        // The two bars meet at 1: one ends where the other begins.
        let bars: Vec<(f64, f64)> = svg
            .split("<rect ")
            .filter(|r| r.contains("#009E73"))
            .map(|r| {
                let of = |name: &str| r.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
                let x: f64 = of("x").parse().unwrap();
                (x, x + of("width").parse::<f64>().unwrap())
            })
            .collect();
        assert!(bars.len() == 2 && (bars[0].1 - bars[1].0).abs() <= 1.0, "{bars:?}");
        assert!(plot(vec![], (0.1, 4.0)).is_err() && plot(vec![ratio(0.0)], (0.1, 4.0)).is_err());
        assert!(plot(vec![ratio(0.5)], (2.0, 4.0)).is_err());
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!([tick(0.0), tick(0.5), tick(1e-6), tick(250.0)], ["0", "0.5", "1e-6", "250"]);
        assert_eq!([power(-1.5, false), power(-1.5, true), power(2.5, true)], ["0.03162", "0.032", "320"]);
    }
}
