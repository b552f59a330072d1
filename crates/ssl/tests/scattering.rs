//! The scattering transform against Kymatio's values, its symmetries and bad input.

use autodidact_core::device::Precision;
use autodidact_core::testing::{assert_close, fixture};
use autodidact_ssl::scattering::Scattering2d;
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

fn scattering(scales: usize, angles: usize, size: i64) -> Scattering2d {
    Scattering2d::new(scales, angles, (size, size), 2, Device::Cpu).unwrap()
}

fn sum(t: &Tensor) -> f64 {
    t.to_kind(Kind::Double).sum(Kind::Double).double_value(&[])
}

#[test]
fn channels_and_sizes_are_the_published_ones() {
    for (scales, angles, channels) in [(2, 4, 25), (2, 8, 81), (2, 16, 289), (1, 4, 5), (3, 8, 217)] {
        assert_eq!(scattering(scales, angles, 32).channels(), channels);
    }
    assert_eq!(scattering(2, 4, 32).output_size(), (8, 8));
    assert_eq!(Scattering2d::new(2, 4, (32, 32), 1, Device::Cpu).unwrap().channels(), 9);
    let s = Scattering2d::new(1, 4, (28, 20), 2, Device::Cpu).unwrap();
    assert_eq!(s.forward(&Tensor::rand([2, 3, 28, 20], CPU)).unwrap().size(), [2, 15, 14, 10]);
}

#[test]
fn a_delta_and_a_wave_have_kymatios_sums() {
    let delta = Tensor::zeros([1, 1, 32, 32], CPU);
    let _ = delta.narrow(2, 16, 1).narrow(3, 16, 1).fill_(1.0);
    for (angles, total, squares) in
        [(4, 1.2180746, 0.02293155), (8, 2.9540911, 0.02804233), (16, 6.7739353, 0.02916838)]
    {
        let s = scattering(2, angles, 32).forward(&delta).unwrap();
        assert!((sum(&s) / total - 1.0).abs() < 1e-5, "{}", sum(&s));
        assert!((sum(&s.square()) / squares - 1.0).abs() < 1e-5);
        assert!((sum(&s.narrow(1, 0, 1)) / 0.07357936 - 1.0).abs() < 1e-5);
    }
    let s = scattering(1, 4, 32).forward(&delta).unwrap();
    assert!((sum(&s) / 1.27474034 - 1.0).abs() < 1e-5 && (sum(&s.narrow(1, 0, 1)) / 0.29431748 - 1.0).abs() < 1e-5);

    let wave =
        (Tensor::arange(1024, (Kind::Double, Device::Cpu)) * 0.37).sin().to_kind(Kind::Float).view([1, 1, 32, 32]);
    for (angles, orders) in [(4, [0.421293, 71.678047, 6.950811]), (8, [0.421293, 104.877289, 16.649847])] {
        let s = scattering(2, angles, 32).forward(&wave).unwrap();
        let a = angles as i64;
        let parts = [s.narrow(1, 0, 1), s.narrow(1, 1, 2 * a), s.narrow(1, 1 + 2 * a, a * a)];
        for (part, want) in parts.iter().zip(orders) {
            assert!((sum(part) / want - 1.0).abs() < 1e-5, "{} {want}", sum(part));
        }
    }
}

#[test]
fn every_value_equals_kymatios() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/scattering.safetensors"));
    for (scales, angles, size) in [(2, 4, 32), (3, 6, 32), (1, 3, 20), (2, 8, 28)] {
        let name = format!("j{scales}l{angles}n{size}");
        let s = scattering(scales, angles, size).forward(&golden[&format!("{name}.x")]).unwrap();
        assert_close(&name, &s, &golden[&format!("{name}.s")], 1e-5);
    }
}

#[test]
fn chunks_channels_and_images_are_independent() {
    tch::manual_seed(0);
    let x = Tensor::randn([700, 3, 16, 16], CPU);
    let t = scattering(2, 8, 16);
    let whole = t.forward(&x).unwrap();
    let some = t.forward(&x.narrow(0, 690, 2)).unwrap();
    assert_close("images", &whole.narrow(0, 690, 2), &some, 1e-5);
    let channel = t.forward(&x.narrow(0, 5, 1).narrow(1, 1, 1)).unwrap();
    assert_close("channels", &whole.narrow(0, 5, 1).narrow(1, 81, 81), &channel, 1e-5);
}

#[test]
fn a_quarter_turn_permutes_angles_and_scaling_scales() {
    // A wave in the band of scale 1 (frequency 0.375 pi): the angle that answers most turns with it, by 4 of 8 half-turn steps.
    let t = scattering(2, 8, 64);
    let axis = Tensor::arange(64, CPU);
    for angle in [0.0f64, 0.4, 1.1, 2.0] {
        let phase = axis.unsqueeze(1) * angle.cos() + axis.unsqueeze(0) * angle.sin();
        let x = (phase * (0.375 * std::f64::consts::PI)).cos().view([1, 1, 64, 64]);
        let strongest = |x: &Tensor| {
            let s = t.forward(x).unwrap().narrow(1, 9, 8);
            let means = s.mean_dim([0i64, 2, 3].as_slice(), false, Kind::Float);
            (means.argmax(0, false).int64_value(&[]), means.max().double_value(&[]))
        };
        let ((l, height), (turned, turned_height)) = (strongest(&x), strongest(&x.rot90(1, [2, 3])));
        assert_eq!((l + 4) % 8, turned, "angle {angle}");
        assert!((height / turned_height - 1.0).abs() < 1e-2, "{height} {turned_height}");
    }
    tch::manual_seed(1);
    let x = Tensor::randn([1, 1, 64, 64], CPU);
    let s = t.forward(&x).unwrap();
    assert_close("scaled", &t.forward(&(&x * -3.0)).unwrap().narrow(1, 1, 80), &(s.narrow(1, 1, 80) * 3.0), 1e-5);
    assert_close("mean", &t.forward(&(&x * -3.0)).unwrap().narrow(1, 0, 1), &(s.narrow(1, 0, 1) * -3.0), 1e-5);
}

#[test]
fn gradients_reach_the_image_and_autocast_changes_nothing() {
    tch::manual_seed(2);
    let x = Tensor::randn([1, 1, 16, 16], CPU);
    let t = scattering(2, 4, 16);
    let weights = Tensor::randn([1, 25, 4, 4], CPU);
    let loss = |x: &Tensor| (t.forward(x).unwrap() * &weights).sum(Kind::Float);
    let leaf = x.copy().set_requires_grad(true);
    loss(&leaf).backward();
    let direction = Tensor::randn([1, 1, 16, 16], CPU);
    let slope = sum(&(leaf.grad() * &direction));
    let h = 1e-3;
    let difference = (loss(&(&x + &direction * h)) - loss(&(&x - &direction * h))).double_value(&[]) / (2.0 * h);
    assert!((difference - slope).abs() < 0.02 * slope.abs().max(1.0), "{difference} {slope}");
    let cast = Precision::Bf16.run(Device::Cpu, || t.forward(&x)).unwrap();
    assert_close("autocast", &cast, &t.forward(&x).unwrap(), 1e-6);
}

#[test]
fn bad_input_is_an_error() {
    let t = scattering(2, 4, 32);
    assert!(t.forward(&Tensor::zeros([1, 3, 28, 28], CPU)).unwrap_err().to_string().contains("[B, C, 32, 32]"));
    assert!(Scattering2d::new(0, 4, (32, 32), 2, Device::Cpu).is_err());
    assert!(Scattering2d::new(2, 4, (32, 32), 3, Device::Cpu).is_err());
    assert!(Scattering2d::new(3, 4, (6, 6), 2, Device::Cpu).unwrap_err().to_string().contains("2^J = 8"));
}
