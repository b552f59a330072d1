//! Networks: published sizes, shapes, initialisation and bad input.

use autodidact_core::nn::{
    CifarResNet, ConvNet, ConvNetConfig, ConvNetHead, Gpt, GptConfig, Mlp, MlpConfig, ResNet, ResNetConfig,
    ResNetDepth, ResNetStem, UNet, UNetConfig, layers, parameter_count,
};
use tch::nn::{Module, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

#[test]
fn residual_networks_have_the_published_sizes() {
    // torchvision's counts less those of the 1000-way classifiers.
    for (depth, want, features) in [
        (ResNetDepth::D18, 11_689_512 - 513_000, 512),
        (ResNetDepth::D34, 21_797_672 - 513_000, 512),
        (ResNetDepth::D50, 25_557_032 - 2_049_000, 2048),
    ] {
        let vs = VarStore::new(Device::Cpu);
        let config = ResNetConfig::new(depth, ResNetStem::ImageNet);
        let net = ResNet::new(vs.root(), &config);
        assert_eq!((parameter_count(&vs), config.features()), (want, features), "{depth:?}");
        let out = tch::no_grad(|| net.forward_t(&Tensor::rand([2, 3, 64, 64], FLOAT), false));
        assert_eq!(out.size(), [2, features]);
    }
}

#[test]
fn a_residual_block_starts_as_the_identity() {
    let vs = VarStore::new(Device::Cpu);
    let config = ResNetConfig { width: 8, ..ResNetConfig::new(ResNetDepth::D18, ResNetStem::Cifar) };
    let net = ResNet::new(vs.root(), &config);
    let gains =
        vs.variables().into_iter().filter(|(name, _)| name.ends_with("1.norm.weight") && name.contains("stage"));
    let zero: Vec<bool> = gains.map(|(_, t)| t.abs().max().double_value(&[]) == 0.0).collect();
    assert_eq!(zero, [true; 8], "the last batch norm of each of the eight blocks");
    assert_eq!(tch::no_grad(|| net.forward_t(&Tensor::rand([1, 3, 32, 32], FLOAT), true)).size(), [1, 64]);
}

#[test]
fn the_tap_of_a_residual_network_is_the_pooled_stage_before_the_last() {
    let vs = VarStore::new(Device::Cpu);
    let config = ResNetConfig { width: 8, ..ResNetConfig::new(ResNetDepth::D18, ResNetStem::Cifar) };
    let net = ResNet::new(vs.root(), &config);
    let x = Tensor::rand([2, 3, 16, 16], (Kind::Float, Device::Cpu));
    let (features, tap) = net.forward_with_tap(&x, false);
    assert_eq!((features.size(), tap.size()), (vec![2, 64], vec![2, 32]));
    assert_eq!(features, net.forward_t(&x, false));
    // The last stage has no part in it.
    tch::no_grad(|| {
        for (name, mut v) in vs.variables() {
            if name.starts_with("stage3") {
                let _ = v.fill_(0.0);
            }
        }
    });
    let (without, same) = net.forward_with_tap(&x, false);
    assert_eq!(same, tap);
    assert_ne!(without, features);
}

#[test]
fn dropped_units_are_dropped_in_training_only_and_a_map_is_not_pooled() {
    let vs = VarStore::new(Device::Cpu);
    let config = MlpConfig { dropout: 0.5, ..MlpConfig::plain(&[6, 400, 3]) };
    let mlp = Mlp::new(vs.root() / "mlp", &config).unwrap();
    let x = Tensor::rand([4, 6], (Kind::Float, Device::Cpu));
    assert_eq!(mlp.forward_t(&x, false), mlp.forward_t(&x, false));
    assert_ne!(mlp.forward_t(&x, true), mlp.forward_t(&x, true));
    assert!(Mlp::new(vs.root(), &MlpConfig { dropout: 1.0, ..config }).is_err());
    let config = ConvNetConfig { channels: 1, blocks: vec![(5, 2), (7, 2)], head: ConvNetHead::Map };
    let net = ConvNet::new(vs.root() / "conv", &config).unwrap();
    let map = net.forward_t(&Tensor::rand([2, 1, 12, 8], (Kind::Float, Device::Cpu)), false);
    assert_eq!(map.size(), [2, 7, 3, 2]);
    assert_eq!(config.features(), 7);
}

#[test]
fn thin_residual_networks_skip_by_subsampling_and_zeros() {
    for (depth, want) in [(8, 74_640), (20, 269_072), (32, 463_504)] {
        let vs = VarStore::new(Device::Cpu);
        CifarResNet::new(vs.root(), depth, 3).unwrap();
        assert_eq!(parameter_count(&vs), want, "{depth}");
    }
    // Without their convolutions the blocks leave every fourth pixel of the stem, and zeros.
    let vs = VarStore::new(Device::Cpu);
    let net = CifarResNet::new(vs.root(), 8, 3).unwrap();
    let variables = vs.variables();
    for (name, t) in &variables {
        if name.contains("stage") && name.ends_with("conv.weight") {
            let _ = tch::no_grad(|| t.shallow_clone().zero_());
        }
    }
    let x = Tensor::randn([2, 3, 16, 16], FLOAT);
    let got = tch::no_grad(|| net.forward_t(&x, false));
    let stem = x.conv2d::<&Tensor>(&variables["stem.conv.weight"], None, 1, 1, 1, 1) / 1.00001f64.sqrt();
    let pixels = stem.relu().slice(2, None, None, 4).slice(3, None, None, 4);
    let want = pixels.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
    assert!((got.narrow(1, 0, 16) - want).abs().max().double_value(&[]) < 1e-5);
    assert_eq!(got.narrow(1, 16, 48).abs().max().double_value(&[]), 0.0);
    assert!(CifarResNet::new(vs.root() / "odd", 18, 3).unwrap_err().to_string().starts_with("depth: expected 6 n + 2"));
}

#[test]
fn gpt2_has_the_published_size() {
    let vs = VarStore::new(Device::Cpu);
    Gpt::new(vs.root(), &GptConfig::gpt2(50_257, 1024, 768, 12, 12)).unwrap();
    assert_eq!(parameter_count(&vs), 124_439_808);
    assert!(Gpt::new(vs.root() / "odd", &GptConfig::gpt2(10, 8, 30, 1, 4)).unwrap_err().to_string().contains("heads"));
}

#[test]
fn layers_start_as_pytorchs() {
    let vs = VarStore::new(Device::Cpu);
    let linear = layers::linear(vs.root() / "linear", 400, 300, true);
    let bound = 1.0 / 20.0;
    for t in [&linear.ws, linear.bs.as_ref().unwrap()] {
        let largest = t.abs().max().double_value(&[]);
        assert!(largest <= bound && largest > 0.9 * bound);
    }
    // A uniform distribution's deviation is its bound over the root of 3.
    assert!((linear.ws.std(true).double_value(&[]) - bound / 3f64.sqrt()).abs() < 1e-3);
    let norm = layers::batch_norm2d(vs.root() / "norm", 3);
    let x = Tensor::randn([64, 3, 5, 5], FLOAT) * 4.0 + 2.0;
    let y = norm.forward_t(&x, true);
    assert!((y.std(true).double_value(&[]) - 1.0).abs() < 0.02, "gain 1 and shift 0");
}

#[test]
fn perceptrons_and_small_convolutional_networks() {
    let vs = VarStore::new(Device::Cpu);
    let mlp = Mlp::new(vs.root() / "mlp", &MlpConfig::projector(&[8, 16, 4])).unwrap();
    // No biases; batch norm between the layers only.
    assert_eq!(parameter_count(&vs), 8 * 16 + 2 * 16 + 16 * 4);
    let x = Tensor::rand([6, 8], FLOAT);
    assert_eq!(mlp.forward_t(&x, true).size(), [6, 4]);
    assert!(mlp.forward_t(&x, true).min().double_value(&[]) < 0.0, "no ReLU after the last layer");
    assert!(Mlp::new(vs.root() / "short", &MlpConfig::plain(&[3])).is_err());

    let mut config =
        ConvNetConfig { channels: 1, blocks: vec![(8, 1), (16, 2), (32, 2)], head: ConvNetHead::GlobalMean };
    let images = Tensor::rand([2, 1, 8, 8], FLOAT);
    let net = ConvNet::new(vs.root() / "mean", &config).unwrap();
    assert_eq!((net.forward_t(&images, false).size(), config.features()), (vec![2, 32], 32));
    config.head = ConvNetHead::Flatten { side: 8, width: 10 };
    let net = ConvNet::new(vs.root() / "flat", &config).unwrap();
    assert_eq!((net.forward_t(&images, false).size(), config.features()), (vec![2, 10], 10));
    config.blocks.clear();
    assert!(ConvNet::new(vs.root() / "none", &config).is_err());
    let linear = layers::linear(vs.root() / "l", 2, 3, false);
    assert_eq!(linear.forward(&Tensor::ones([1, 2], FLOAT)).size(), [1, 3]);
}

#[test]
fn a_u_net_keeps_the_size_and_sees_no_batch() {
    let vs = VarStore::new(Device::Cpu);
    let config = UNetConfig { channels: 2, widths: vec![4, 8, 12], outputs: 5, groups: 2 };
    let net = UNet::new(vs.root(), &config).unwrap();
    // Sides that are no powers of two too.
    let x = Tensor::rand([3, 2, 13, 10], (Kind::Float, Device::Cpu));
    let y = net.forward_t(&x, true);
    assert_eq!(y.size(), [3, 5, 13, 10]);
    let alone = net.forward_t(&x.narrow(0, 1, 1), false);
    assert!((alone - y.narrow(0, 1, 1)).abs().max().double_value(&[]) < 1e-5);
    // Two convolutions and norms on each level down and up, and the head.
    let level = |i: i64, w: i64| 9 * (i * w + w * w) + 4 * w;
    let want = level(2, 4) + level(4, 8) + level(8, 12) + level(12 + 8, 8) + level(8 + 4, 4) + 4 * 5 + 5;
    assert_eq!(parameter_count(&vs), want);
    for config in [
        UNetConfig { widths: vec![], ..config.clone() },
        UNetConfig { widths: vec![3], ..config.clone() },
        UNetConfig { outputs: 0, ..config.clone() },
    ] {
        assert!(UNet::new(VarStore::new(Device::Cpu).root(), &config).is_err(), "{config:?}");
    }
}
