//! The tensor path, for any device: each operation is a few tensor operations over the batch.

use super::color::GREY;
use super::cpu::gaussian;
use super::ops::{Filter, MIX, Op, PerImage, Point, Rect, mix};
use autodidact_core::Result;
use autodidact_core::device::Precision;
use tch::{Device, Kind, Tensor};

pub(super) fn run(images: &Tensor, ops: &[Op]) -> Result<Tensor> {
    let x = if images.kind() == Kind::Uint8 { images.to_kind(Kind::Float) / 255.0 } else { images.shallow_clone() };
    // Autocast around the forward pass of a network must not resample its images in bf16.
    Precision::F32.run(x.device(), || ops.iter().try_fold(x, |x, op| apply(&x, op)))
}

fn apply(x: &Tensor, op: &Op) -> Result<Tensor> {
    let device = x.device();
    match op {
        Op::ResizedCrop { rects, size, filter } => Ok(resized_crop(x, rects, *size, *filter)),
        Op::Flip(flip) => {
            let marks: PerImage<()> = flip.iter().map(|&f| f.then_some(())).collect();
            selected(x, &marks, |x, _| x.flip([3]))
        }
        Op::Affine(p) => selected(x, p, |x, affines| {
            let [h, w] = [x.size()[2], x.size()[3]];
            // torch's grids span -1 to 1 over the image: pixel offsets are rescaled by half of its sides.
            let (half_w, half_h) = (w as f32 / 2.0, h as f32 / 2.0);
            let theta: Vec<f32> = affines
                .iter()
                .flat_map(|m| {
                    let [a, b, tx, d, e, ty] = m.inverse();
                    [a, b * half_h / half_w, tx / half_w, d * half_w / half_h, e, ty / half_h]
                })
                .collect();
            let theta = Tensor::from_slice(&theta).view([-1, 2, 3]).to_device(device);
            let grid = Tensor::affine_grid_generator(&theta, x.size(), false);
            x.grid_sampler(&grid, 0, 0, false)
        }),
        Op::Point(kind, p) => selected(x, p, |x, values| point(x, *kind, &column(values, device))),
        Op::Blur { kernel, sigma } => selected(x, sigma, |x, sigmas| blur(x, *kernel, sigmas)),
        Op::ChannelShift(p) => selected(x, p, |x, shifts| {
            let flat: Vec<f32> = shifts.iter().flat_map(|s| s.iter().copied()).collect();
            x + Tensor::from_slice(&flat).view([-1, x.size()[1], 1, 1]).to_device(device)
        }),
        Op::Noise(p) => selected(x, p, |x, noise| {
            let stds: Vec<&f32> = noise.iter().map(|(std, _)| std).collect();
            let keys: Vec<i64> = noise.iter().map(|(_, seed)| i64::from(mix(*seed))).collect();
            x + normal(x, &Tensor::from_slice(&keys).to_device(device)) * column(&stds, device)
        }),
        Op::Cutout(p) => selected(x, p, |x, rects| {
            let [h, w] = [x.size()[2], x.size()[3]];
            let rows = span(rects.iter().map(|r| (r.top, r.height)), h, device).view([-1, 1, h, 1]);
            let columns = span(rects.iter().map(|r| (r.left, r.width)), w, device).view([-1, 1, 1, w]);
            x.masked_fill(&rows.logical_and(&columns), 0.0)
        }),
        Op::Normalize { mean, std } => {
            let channel = |v: &[f32]| Tensor::from_slice(v).view([1, -1, 1, 1]).to_device(device);
            Ok((x - channel(mean)) / channel(std))
        }
    }
}

/// Applies `change` to the images that have a parameter, given with the parameters, and leaves the others alone.
fn selected<T>(x: &Tensor, parameters: &PerImage<T>, change: impl Fn(&Tensor, &[&T]) -> Tensor) -> Result<Tensor> {
    let present: Vec<&T> = parameters.iter().flatten().collect();
    if present.is_empty() {
        return Ok(x.shallow_clone());
    }
    if present.len() == parameters.len() {
        return Ok(change(x, &present));
    }
    let indices: Vec<i64> = parameters.iter().zip(0..).filter_map(|(p, i)| p.as_ref().map(|_| i)).collect();
    let index = Tensor::from_slice(&indices).to_device(x.device());
    Ok(x.f_index_copy(0, &index, &change(&x.f_index_select(0, &index)?, &present))?)
}

/// Numbers as `[N, 1, 1, 1]`.
fn column(values: &[&f32], device: Device) -> Tensor {
    let values: Vec<f32> = values.iter().map(|&&v| v).collect();
    Tensor::from_slice(&values).view([-1, 1, 1, 1]).to_device(device)
}

fn grey(x: &Tensor) -> Tensor {
    if x.size()[1] == 1 {
        return x.shallow_clone();
    }
    x.narrow(1, 0, 1) * f64::from(GREY[0])
        + x.narrow(1, 1, 1) * f64::from(GREY[1])
        + x.narrow(1, 2, 1) * f64::from(GREY[2])
}

fn point(x: &Tensor, point: Point, v: &Tensor) -> Tensor {
    let blend = |other: &Tensor| (x * v + other * (1f64 - v)).clamp(0.0, 1.0);
    match point {
        Point::Brightness => (x * v).clamp(0.0, 1.0),
        Point::Contrast => blend(&grey(x).mean_dim([1i64, 2, 3].as_slice(), true, Kind::Float)),
        Point::Gain => x * v,
        Point::Solarize => (1f64 - x).where_self(&x.ge_tensor(v), x),
        Point::Saturation | Point::Hue if x.size()[1] == 1 => x.shallow_clone(),
        Point::Saturation => blend(&grey(x)),
        Point::Hue => hue(x, v),
    }
}

fn hue(x: &Tensor, turn: &Tensor) -> Tensor {
    let (r, g, b) = (x.narrow(1, 0, 1), x.narrow(1, 1, 1), x.narrow(1, 2, 1));
    let high = x.amax([1i64].as_slice(), true);
    let chroma = &high - x.amin([1i64].as_slice(), true);
    let scale = chroma.where_self(&chroma.gt(0.0), &chroma.ones_like()).reciprocal();
    let green = ((&b - &r) * &scale + 2.0).where_self(&g.eq_tensor(&high), &((&r - &g) * &scale + 4.0));
    let h = ((&g - &b) * &scale).where_self(&r.eq_tensor(&high), &green) + turn * 6.0;
    let channels = [5.0, 3.0, 1.0].map(|n| {
        let k = (&h + n).remainder(6.0);
        &high - &chroma * k.minimum(&(4f64 - &k)).clamp(0.0, 1.0)
    });
    Tensor::cat(&channels, 1)
}

/// Resampling as two batched products with dense weight matrices, one pair per image.
fn resized_crop(x: &Tensor, rects: &[Rect], (oh, ow): (usize, usize), filter: Filter) -> Tensor {
    let [h, w] = [x.size()[2], x.size()[3]];
    let rows = weights(rects.iter().map(|r| (r.top, r.height)), h, oh, filter, x.device()).unsqueeze(1);
    let columns = weights(rects.iter().map(|r| (r.left, r.width)), w, ow, filter, x.device()).unsqueeze(1);
    rows.matmul(x).matmul(&columns.transpose(-1, -2))
}

/// `[N, out, n]`: how the pixels of a line of `n` make the `out` pixels of a stretch of it.
fn weights(
    stretches: impl Iterator<Item = (usize, usize)>,
    n: i64,
    out: usize,
    filter: Filter,
    device: Device,
) -> Tensor {
    let stretches: Vec<(usize, usize)> = stretches.collect();
    let part = |f: fn(&(usize, usize)) -> usize| {
        let values: Vec<f32> = stretches.iter().map(|s| f(s) as f32).collect();
        Tensor::from_slice(&values).view([-1, 1, 1]).to_device(device)
    };
    let scale = part(|s| s.1) / out as f64;
    let centres = (Tensor::arange(out as i64, (Kind::Float, device)).view([1, -1, 1]) + 0.5) * &scale + part(|s| s.0);
    let pixels = Tensor::arange(n, (Kind::Float, device)).view([1, 1, -1]) + 0.5;
    let x = ((pixels - centres) / scale.clamp_min(1.0)).abs();
    let value = match filter {
        Filter::Bilinear => (1f64 - x).clamp_min(0.0),
        Filter::Bicubic => {
            let near = (&x * 1.5 - 2.5) * &x * &x + 1.0;
            let far = ((&x * -0.5 + 2.5) * &x - 4.0) * &x + 2.0;
            near.where_self(&x.lt(1.0), &(far * x.lt(2.0)))
        }
    };
    let inside = span(stretches.iter().copied(), n, device).unsqueeze(1);
    let value = value * inside;
    &value / value.sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)
}

/// `[N, n]`: which pixels of a line lie in each `(first, length)` stretch.
fn span(stretches: impl Iterator<Item = (usize, usize)>, n: i64, device: Device) -> Tensor {
    let (first, end): (Vec<i64>, Vec<i64>) = stretches.map(|(f, l)| (f as i64, (f + l) as i64)).unzip();
    let column = |v: &[i64]| Tensor::from_slice(v).view([-1, 1]).to_device(device);
    let pixels = Tensor::arange(n, (Kind::Int64, device)).view([1, -1]);
    pixels.ge_tensor(&column(&first)).logical_and(&pixels.lt_tensor(&column(&end)))
}

/// Separable depthwise convolution, every image a group of its own.
fn blur(x: &Tensor, kernel: usize, sigmas: &[&f32]) -> Tensor {
    let [n, c, h, w] = [x.size()[0], x.size()[1], x.size()[2], x.size()[3]];
    let half = (kernel / 2) as i64;
    let weights: Vec<f32> = sigmas.iter().flat_map(|&&s| gaussian(kernel, s).repeat(c as usize)).collect();
    let weights = Tensor::from_slice(&weights).view([n * c, 1, 1, -1]).to_device(x.device());
    let planes = x.reflection_pad2d([half, half, half, half]).view([1, n * c, h + 2 * half, w + 2 * half]);
    let none = None::<Tensor>;
    let planes = planes.conv2d(&weights.transpose(2, 3), none.as_ref(), [1, 1], [0, 0], [1, 1], n * c);
    planes.conv2d(&weights, none.as_ref(), [1, 1], [0, 0], [1, 1], n * c).view([n, c, h, w])
}

/// The CPU path's noise: 32-bit arithmetic in 64-bit integers, masked after each step.
fn normal(x: &Tensor, keys: &Tensor) -> Tensor {
    let low = |t: Tensor| t.bitwise_and(0xffff_ffff);
    let unit = |offset: i64| {
        let counter = Tensor::arange(x.size()[1..].iter().product::<i64>(), (Kind::Int64, x.device())) * 2 + offset;
        let mut t = counter.view([1, -1]).bitwise_xor_tensor(&keys.view([-1, 1]));
        for (shift, factor) in MIX {
            t = low(t.bitwise_xor_tensor(&t.bitwise_right_shift_tensor_scalar(i64::from(shift))) * i64::from(factor));
        }
        let t = t.bitwise_xor_tensor(&t.bitwise_right_shift_tensor_scalar(16));
        t.bitwise_right_shift_tensor_scalar(8).to_kind(Kind::Float) / (1 << 24) as f64
    };
    let (u, v) = (unit(0), unit(1));
    (((1f64 - u).log() * -2.0).sqrt() * (v * std::f64::consts::TAU).cos()).view_as(x)
}
