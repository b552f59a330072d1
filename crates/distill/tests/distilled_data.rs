//! Selection of images and differentiable augmentation.

use autodidact_core::seed::{Rng, rng};
use autodidact_core::testing::check_gradient;
use autodidact_distill::distilled_data::{
    DiffAugment, Drawn, Policy, kmeans, nearest, random_per_class, representative,
};
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn random() -> Rng {
    rng(0, &["test"])
}

fn integers(x: &Tensor) -> Vec<i64> {
    Vec::try_from(x).unwrap()
}

#[test]
fn kmeans_finds_separated_clusters() {
    tch::manual_seed(0);
    let centres = Tensor::from_slice2(&[[0f64, 0.0], [10.0, 0.0], [0.0, 10.0]]);
    let truth = Tensor::arange(30, (Kind::Int64, Device::Cpu)).remainder(3);
    let x = centres.index_select(0, &truth) + Tensor::randn([30, 2], F64) * 0.1;
    let (found, cluster) = kmeans(&x, 3, &mut random()).unwrap();
    // Each found centre is the mean of its rows, and clusters are the true ones up to their names.
    for c in 0..3 {
        let rows = truth.eq(c).nonzero().view(-1);
        let of = integers(&cluster.index_select(0, &rows));
        assert!(of.iter().all(|l| *l == of[0]), "{of:?}");
        let mean = x.index_select(0, &rows).mean_dim([0i64].as_slice(), false, Kind::Double);
        assert!((found.get(of[0]) - mean).abs().max().double_value(&[]) < 1e-9);
    }
    // As many clusters as rows: every row is its own, also when rows coincide.
    let (found, _) = kmeans(&x, 30, &mut random()).unwrap();
    assert_eq!(found.size(), [30, 2]);
    let (found, _) = kmeans(&Tensor::zeros([4, 2], F64), 4, &mut random()).unwrap();
    assert_eq!(found, Tensor::zeros([4, 2], F64));
    assert_eq!(
        kmeans(&x, 31, &mut random()).unwrap_err().to_string(),
        "number of clusters: expected 1 to 30, the number of rows, got 31"
    );
    assert_eq!(integers(&nearest(&x, &centres.get(1), 10).unwrap().remainder(3)), [1; 10]);
}

#[test]
fn chosen_images_are_of_their_class_and_none_twice() {
    tch::manual_seed(1);
    let features = Tensor::randn([90, 4], F64);
    let labels = Tensor::arange(90, (Kind::Int64, Device::Cpu)).remainder(3);
    for per_class in [1, 4, 10, 23] {
        for chosen in [
            representative(&features, &labels, 3, per_class, &mut random()).unwrap(),
            random_per_class(&labels, 3, per_class, &mut random()).unwrap(),
        ] {
            let mut rows = integers(&chosen);
            let classes: Vec<i64> = (0..3).flat_map(|c| vec![c; per_class]).collect();
            assert_eq!(rows.iter().map(|r| r % 3).collect::<Vec<_>>(), classes);
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), 3 * per_class);
        }
    }
    // One image per class is the one nearest to the class's mean.
    let one = integers(&representative(&features, &labels, 3, 1, &mut random()).unwrap());
    let rows = labels.eq(2).nonzero().view(-1);
    let x = features.index_select(0, &rows);
    let mean = x.mean_dim([0i64].as_slice(), false, Kind::Double);
    let distance = (&x - mean).square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    assert_eq!(one[2], rows.int64_value(&[distance.argmin(0, false).int64_value(&[])]));
    let e = random_per_class(&labels, 3, 31, &mut random()).unwrap_err().to_string();
    assert_eq!(e, "images of class 0: expected at least 31, got 30");
    assert!(representative(&features, &labels, 2, 1, &mut random()).is_err());
}

#[test]
fn drawn_augmentations_do_what_they_say() {
    let x = Tensor::arange(32, F64).view([2, 1, 4, 4]) / 32.0;
    let apply = |d: Drawn| d.apply(&x).unwrap();
    // Down by one, right by two; zeros come in.
    let moved = apply(Drawn::Shift(vec![[1, 2]]));
    assert_eq!(moved.narrow(2, 1, 3).narrow(3, 2, 2), x.narrow(2, 0, 3).narrow(3, 0, 2));
    assert_eq!(moved.narrow(2, 0, 1).abs().sum(Kind::Double).double_value(&[]), 0.0);
    assert_eq!(moved.narrow(3, 0, 2).abs().sum(Kind::Double).double_value(&[]), 0.0);
    // Each image its own.
    let flipped = apply(Drawn::Flip(vec![true, false]));
    assert_eq!((flipped.get(0), flipped.get(1)), (x.get(0).flip([2]), x.get(1)));
    let cut = apply(Drawn::Cutout(vec![[-1, 2]], 2));
    let expected = x.copy();
    let _ = expected.narrow(2, 0, 1).narrow(3, 2, 2).zero_();
    assert_eq!(cut, expected);
    let same = apply(Drawn::Affine(vec![[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]]));
    assert!((same - &x).abs().max().double_value(&[]) < 1e-12);
    // A quarter turn is exact on a square.
    let turned = apply(Drawn::Affine(vec![[0.0, -1.0, 0.0, 1.0, 0.0, 0.0]]));
    assert!((turned - x.rot90(1, [2, 3])).abs().max().double_value(&[]) < 1e-12);
    // Brightness adds, contrast keeps the mean; of one channel the pixel is its own grey.
    let coloured = apply(Drawn::Color(vec![[0.25, 0.0, 1.0], [0.0, 1.0, 0.5]]));
    assert!((coloured.get(0) - (x.get(0) + 0.25)).abs().max().double_value(&[]) < 1e-12);
    let second = x.get(1);
    let mean = second.mean(Kind::Double);
    assert!((coloured.get(1) - ((&second - &mean) * 0.5 + mean)).abs().max().double_value(&[]) < 1e-12);
}

#[test]
fn augmentation_is_differentiable_and_within_its_ranges() {
    tch::manual_seed(2);
    let x = Tensor::randn([3, 2, 6, 6], F64);
    let weight = Tensor::randn([3, 2, 6, 6], F64);
    for policy in DiffAugment::default().policies {
        let augment = DiffAugment { policies: vec![policy], ..DiffAugment::default() };
        for images in [Some(3), None] {
            let drawn = augment.draw(images, 6, &mut random()).unwrap();
            check_gradient(&x, 1e-6, |x| (drawn.apply(x).unwrap() * &weight).sum(Kind::Double));
        }
        if policy != Policy::Color {
            let ones = Tensor::ones([3, 2, 6, 6], F64);
            let out = augment.draw(Some(3), 6, &mut random()).unwrap().apply(&ones).unwrap();
            assert!(out.max().double_value(&[]) < 1.0 + 1e-9 && out.min().double_value(&[]) >= 0.0);
        }
    }
    let rng = &mut random();
    let only = |policy| DiffAugment { policies: vec![policy], ..DiffAugment::default() };
    let Drawn::Shift(shifts) = only(Policy::Crop).draw(Some(500), 32, rng).unwrap() else { panic!("a shift") };
    let (low, high) = shifts.iter().flatten().fold((0, 0), |(l, h), v| (l.min(*v), h.max(*v)));
    assert_eq!((low, high), (-4, 4));
    let Drawn::Cutout(corners, 16) = only(Policy::Cutout).draw(Some(5000), 32, rng).unwrap() else {
        panic!("a square")
    };
    let (low, high) = corners.iter().flatten().fold((0, 0), |(l, h), v| (l.min(*v), h.max(*v)));
    assert_eq!((low, high), (-8, 24));
    let mut kinds = std::collections::BTreeSet::new();
    for _ in 0..100 {
        kinds.insert(match DiffAugment::default().draw(None, 32, rng).unwrap() {
            Drawn::Color(_) => 0,
            Drawn::Shift(_) => 1,
            Drawn::Cutout(..) => 2,
            Drawn::Flip(_) => 3,
            Drawn::Affine(_) => 4,
        });
    }
    assert_eq!(kinds.len(), 5);
    let e = DiffAugment { policies: vec![], ..DiffAugment::default() }.draw(None, 8, rng).unwrap_err().to_string();
    assert_eq!(e, "augmentation policies: expected at least one, got none");
    assert!(DiffAugment { scale: 0.5, ..DiffAugment::default() }.draw(None, 8, rng).is_err());
    let two = only(Policy::Flip).draw(Some(2), 6, rng).unwrap();
    let e = two.apply(&x).unwrap_err().to_string();
    assert!(e.starts_with("images: expected 2 images, one for each set of parameters"), "{e}");
}
