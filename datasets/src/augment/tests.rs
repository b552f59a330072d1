//! Single operations against torchvision, the two paths against each other, and the drawing of parameters.

use super::*;
use autodidact_core::device::Precision;
use autodidact_core::seed::rng;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// Results of torchvision, made by scripts/augment_golden.py.
fn golden() -> HashMap<String, Tensor> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/augment.safetensors");
    Tensor::read_safetensors(path).unwrap().into_iter().collect()
}

/// The result of one operation by both paths, which must agree.
fn both(x: &Tensor, op: Op) -> Tensor {
    let by_kernels = run(x, std::slice::from_ref(&op)).unwrap();
    let by_tensors = tensor::run(x, std::slice::from_ref(&op)).unwrap();
    assert_eq!(by_kernels.size(), by_tensors.size());
    let gap = distance(&by_kernels, &by_tensors);
    assert!(gap < 2e-6, "{op:?}: the paths differ by {gap}");
    by_kernels
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

fn some(values: [f32; 3]) -> PerImage<f32> {
    values.map(Some).into()
}

#[test]
fn single_operations_agree_with_torchvision() {
    let golden = golden();
    let (rgb, wide) = (&golden["rgb"], &golden["wide"]);
    let check = |name: &str, x: &Tensor, op: Op| {
        let gap = distance(&both(x, op), &golden[name]);
        assert!(gap < 2e-6, "{name}: {gap}");
    };
    check("brightness", rgb, Op::Point(Point::Brightness, some([0.4, 1.0, 1.7])));
    check("contrast", rgb, Op::Point(Point::Contrast, some([0.0, 0.6, 1.5])));
    check("contrast_wide", wide, Op::Point(Point::Contrast, some([0.2, 0.6, 1.5])));
    check("saturation", rgb, Op::Point(Point::Saturation, some([0.0, 0.6, 1.5])));
    check("hue", rgb, Op::Point(Point::Hue, some([-0.5, 0.1, 0.35])));
    check("grey", rgb, Op::Point(Point::Saturation, some([0.0; 3])));
    check("solarize", rgb, Op::Point(Point::Solarize, some([0.2, 0.5, 1.0])));
    check("blur", rgb, Op::Blur { kernel: 5, sigma: some([0.3, 1.0, 2.0]) });
    let normalize = Op::Normalize { mean: IMAGENET_MEAN.into(), std: IMAGENET_STD.into() };
    check("normalize", rgb, normalize);
    let rects = [(0, 0, 16, 16), (3, 5, 7, 9), (10, 2, 4, 13)];
    let rects = rects.map(|(top, left, height, width)| Rect { top, left, height, width });
    for (name, filter) in [("bilinear", Filter::Bilinear), ("bicubic", Filter::Bicubic)] {
        for side in [16, 6] {
            let op = Op::ResizedCrop { rects: rects.into(), size: (side, side + 1), filter };
            check(&format!("crop_{name}_{side}"), rgb, op);
        }
    }
    let affine = [(0.25, (0.0, 0.0), 1.0), (-1.0, (2.0, -3.0), 0.8), (0.1, (-4.0, 1.0), 1.3)];
    let affine: PerImage<Affine> = affine.map(|(angle, shift, scale)| Some(Affine { angle, scale, shift })).into();
    check("affine", rgb, Op::Affine(affine.clone()));
    check("affine_wide", wide, Op::Affine(affine));
}

#[test]
fn operations_without_a_peer_do_what_they_say() {
    let x = Tensor::full([2, 2, 4, 4], 0.5, (Kind::Float, Device::Cpu));
    let y = both(&x, Op::ChannelShift(vec![Some(vec![0.1, -0.2]), None]));
    assert_eq!(distance(&y.select(0, 0).select(0, 1), &Tensor::from(0.3f32)), 0.0);
    assert_eq!(y.select(0, 1), x.select(0, 1));
    let y = both(&x, Op::Cutout(vec![None, Some(Rect { top: 1, left: 0, height: 2, width: 3 })]));
    assert_eq!(y.select(0, 1).sum(Kind::Float).double_value(&[]), 0.5 * 2.0 * (16.0 - 6.0));
    let ramp = Tensor::arange(8, (Kind::Float, Device::Cpu)).view([2, 1, 1, 4]);
    let y = both(&ramp, Op::Flip(vec![true, false]));
    assert_eq!(Vec::<f32>::try_from(y.view([-1])).unwrap(), [3.0, 2.0, 1.0, 0.0, 4.0, 5.0, 6.0, 7.0]);
    let y = both(&x, Op::Point(Point::Gain, vec![Some(3.0), None]));
    assert_eq!(y.max().double_value(&[]), 1.5);
}

#[test]
fn noise_is_normal_and_its_own_for_each_image() {
    let x = Tensor::zeros([3, 3, 64, 64], (Kind::Float, Device::Cpu));
    let y = both(&x, Op::Noise(vec![Some((0.5, 1)), Some((0.5, 2)), Some((0.5, 1))]));
    assert_eq!(y.select(0, 0), y.select(0, 2));
    let (a, b) = (y.select(0, 0).flatten(0, -1), y.select(0, 1).flatten(0, -1));
    let n = a.size()[0] as f64;
    // Four standard errors: of a mean, a standard deviation, a fourth moment and a correlation of n normal numbers.
    assert!(a.mean(Kind::Double).double_value(&[]).abs() < 4.0 * 0.5 / n.sqrt());
    assert!((a.std(true).double_value(&[]) - 0.5).abs() < 4.0 * 0.5 / (2.0 * n).sqrt());
    assert!(
        ((&a * 2.0).pow_tensor_scalar(4).mean(Kind::Double).double_value(&[]) - 3.0).abs() < 4.0 * (96.0 / n).sqrt()
    );
    assert!((&a * &b * 4.0).mean(Kind::Double).double_value(&[]).abs() < 4.0 / n.sqrt());
}

fn recipes() -> Vec<(&'static str, Pipeline, [i64; 4])> {
    let (t, t_prime) = BarlowTwins { size: 24, ..Default::default() }.pipelines();
    vec![
        ("simclr", SimClr { size: 24, blur: 0.5, ..Default::default() }.pipeline(), [20, 3, 32, 32]),
        ("simclr small", SimClr::small(32).pipeline(), [20, 3, 32, 32]),
        ("barlow twins T", t, [20, 3, 32, 32]),
        ("barlow twins T'", t_prime, [20, 3, 32, 32]),
        ("small colour", barlow_twins_small_color(16), [20, 3, 16, 16]),
        ("small digits", barlow_twins_small_digits(), [20, 1, 8, 8]),
    ]
}

#[test]
fn both_paths_agree_on_whole_recipes_and_a_seed_decides_everything() {
    for (name, pipeline, size) in recipes() {
        tch::manual_seed(3);
        let x = Tensor::rand(size, (Kind::Float, Device::Cpu));
        let ops = pipeline.draw(20, [size[1], size[2], size[3]].map(|d| d as usize), &mut rng(1, &[name])).unwrap();
        let (a, b) = (run(&x, &ops).unwrap(), tensor::run(&x, &ops).unwrap());
        // Normalisation divides by 0.22; a threshold may turn a rounding error of one pixel into a jump.
        let far = (&a - &b).abs().gt(2e-5).sum(Kind::Int64).int64_value(&[]);
        assert!(far <= 3, "{name}: {far} pixels differ");
        let inside = Precision::Bf16.run(Device::Cpu, || tensor::run(&x, &ops)).unwrap();
        assert_eq!(inside, b, "{name}, under autocast");
        let again = pipeline.apply(&x, &mut rng(1, &[name])).unwrap();
        assert_eq!(again, a, "{name}");
        assert_ne!(pipeline.apply(&x, &mut rng(2, &[name])).unwrap(), a, "{name}");
    }
}

#[test]
fn images_of_a_batch_get_parameters_of_their_own() {
    for (name, pipeline, size) in recipes() {
        tch::manual_seed(4);
        let one = Tensor::rand([1, size[1], size[2], size[3]], (Kind::Float, Device::Cpu));
        let y = pipeline.apply(&one.repeat([20, 1, 1, 1]), &mut rng(0, &[name])).unwrap().flatten(1, -1);
        let gaps = Tensor::cdist(&y, &y, 2.0, None);
        let closest = (gaps + Tensor::eye(20, (Kind::Float, Device::Cpu)) * 1e9).min().double_value(&[]);
        assert!(closest > 1e-3, "{name}: two images were treated alike");
    }
}

#[test]
fn bytes_and_floats_give_the_same_and_no_gradient_is_recorded() {
    tch::manual_seed(0);
    let bytes = Tensor::randint(256, [6, 3, 32, 32], (Kind::Uint8, Device::Cpu));
    let floats = (bytes.to_kind(Kind::Float) / 255.0).set_requires_grad(true);
    let pipeline = SimClr::small(32).pipeline();
    let (a, b) =
        (pipeline.apply(&bytes, &mut rng(0, &[])).unwrap(), pipeline.apply(&floats, &mut rng(0, &[])).unwrap());
    assert_eq!(a, b);
    assert!(!b.requires_grad());
    // A transposed view is read in its own order.
    let view = floats.transpose(2, 3);
    assert_eq!(
        pipeline.apply(&view, &mut rng(0, &[])).unwrap(),
        pipeline.apply(&view.contiguous(), &mut rng(0, &[])).unwrap()
    );
    let empty = pipeline.apply(&floats.narrow(0, 0, 0), &mut rng(0, &[])).unwrap();
    assert_eq!(empty.size(), [0, 3, 32, 32]);
}

#[test]
fn crops_have_the_areas_and_ratios_asked_for() {
    let crop = RandomResizedCrop { size: (8, 8), ..Default::default() };
    let pipeline = Pipeline(vec![Transform::RandomResizedCrop(crop)]);
    let ops = pipeline.draw(4000, [3, 64, 64], &mut rng(0, &["crops"])).unwrap();
    let Op::ResizedCrop { rects, .. } = &ops[0] else { panic!("{ops:?}") };
    let areas: Vec<f64> = rects.iter().map(|r| (r.height * r.width) as f64 / 4096.0).collect();
    assert!(areas.iter().all(|a| (0.07..=1.0).contains(a)));
    assert!(rects.iter().all(|r| (0.7..1.43).contains(&(r.width as f64 / r.height as f64))));
    // Areas near 1 are drawn again when the rectangle does not fit, so the mean lies a little below 0.54.
    let mean = areas.iter().sum::<f64>() / areas.len() as f64;
    assert!((0.45..0.54).contains(&mean), "{mean}");
    let long = RandomResizedCrop { scale: (1.0, 1.0), ..Default::default() };
    let ops = Pipeline(vec![Transform::RandomResizedCrop(long)]).draw(1, [3, 10, 1000], &mut rng(0, &[])).unwrap();
    let Op::ResizedCrop { rects, .. } = &ops[0] else { panic!("{ops:?}") };
    assert_eq!(rects[0], Rect { top: 0, left: 493, height: 10, width: 13 });
}

#[test]
fn padded_crops_shift_by_whole_pixels() {
    let x = Tensor::rand([64, 3, 6, 6], (Kind::Float, Device::Cpu));
    let y = Pipeline(vec![Transform::PaddedCrop { padding: 1 }]).apply(&x, &mut rng(0, &["crop"])).unwrap();
    let padded = x.constant_pad_nd([1, 1, 1, 1]);
    let mut seen = [0; 9];
    for i in 0..64 {
        let window = |k: i64| padded.get(i).narrow(1, k / 3, 6).narrow(2, k % 3, 6);
        let near = (0..9).filter(|&k| (window(k) - y.get(i)).abs().max().double_value(&[]) < 1e-6);
        let [k] = near.collect::<Vec<_>>()[..] else { panic!("image {i} is no window of the padded one") };
        seen[k as usize] += 1;
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}

#[test]
fn settings_outside_their_range_are_named() {
    let x = Tensor::zeros([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    let message = |op: Op| run(&x, &[op]).unwrap_err().to_string();
    let e = message(Op::Point(Point::Hue, vec![Some(0.7), None]));
    assert_eq!(e, "hue: expected a number from -0.5 to 0.5, got 0.7");
    let e = message(Op::Flip(vec![true]));
    assert_eq!(e, "parameters of an augmentation: expected one for each of 2 images, got 1");
    let e = message(Op::Blur { kernel: 4, sigma: vec![None, None] });
    assert_eq!(e, "blur kernel: expected an odd number with half of it below 8, got 4");
    let rect = Rect { top: 4, left: 0, height: 5, width: 2 };
    assert!(
        message(Op::Cutout(vec![Some(rect), None])).starts_with("rectangle: expected one inside 8x8 pixels, got Rect")
    );
    let e = run(&x.select(0, 0), &[]).unwrap_err().to_string();
    assert!(e.starts_with("images: expected [N, C, H, W]"), "{e}");
    let e = Pipeline(vec![Transform::HorizontalFlip { p: 1.5 }]).apply(&x, &mut rng(0, &[])).unwrap_err().to_string();
    assert_eq!(e, "probability: expected a finite number in 0.0..=1.0, got 1.5");
}
