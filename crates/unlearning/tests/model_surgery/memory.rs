//! Memories of classes, alignment of classifiers, prototypes.

use super::*;

#[test]
fn memories_have_the_densities_of_pytorch() {
    let _generator = alone();
    let golden = golden();
    let (features, points) = (&golden["memory.features"], &golden["memory.points"]);
    for (kind, name) in [(MemoryKind::Full, "full"), (MemoryKind::Diagonal, "diagonal"), (MemoryKind::Centroids(1), "")]
    {
        let mut memory = GaussianMemory::new(kind, 1e-2).unwrap();
        memory.fit(features).unwrap();
        if let Some(density) = golden.get(&format!("memory.{name}")) {
            assert_close(name, &memory.log_density(0, points).unwrap(), density, 1e-9);
        }
        assert_close("mean", &memory.means().unwrap(), &features.mean_dim([0i64].as_slice(), true, Kind::Double), 1e-6);
        // The spread of draws, with six samples in eight dimensions.
        tch::manual_seed(1);
        let drawn = memory.sample(0, 100_000).unwrap().to_kind(Kind::Double);
        let mean = drawn.mean_dim([0i64].as_slice(), false, Kind::Double);
        let centred = &drawn - &mean;
        let covariance = centred.tr().matmul(&centred) / (100_000.0 - 1.0);
        let factor = &golden["memory.factor"];
        let mut expected = factor.matmul(&factor.tr());
        if kind != MemoryKind::Full {
            let ridge = Tensor::eye(8, F64) * 1e-2;
            // The centre's variances divide by the number of samples.
            let share = if kind == MemoryKind::Diagonal { 1.0 } else { 5.0 / 6.0 };
            expected = ((&expected - &ridge) * share + ridge).diagonal(0, 0, 1).diag(0);
        }
        let deviation = expected.diagonal(0, 0, 1).sqrt();
        let apart = (mean - features.mean_dim([0i64].as_slice(), false, Kind::Double)).abs();
        let in_errors = (apart / (&deviation / 100_000f64.sqrt())).max().double_value(&[]);
        assert!(in_errors < 3.5, "{kind:?}: mean off by {in_errors} standard errors");
        // Of a covariance: sqrt((s_ii s_jj + s_ij^2) / n).
        let error = ((deviation.square().outer(&deviation.square()) + expected.square()) / 100_000.0).sqrt();
        let in_errors = ((covariance - expected).abs() / error).max().double_value(&[]);
        assert!(in_errors < 4.0, "{kind:?}: covariance off by {in_errors} standard errors");
    }
}

#[test]
fn full_and_diagonal_memories_agree_without_correlation() {
    let _generator = alone();
    // Two features that vary on their own.
    let features = Tensor::from_slice2(&[[1f64, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]);
    let memory = |kind| {
        let mut memory = GaussianMemory::new(kind, 1e-4).unwrap();
        memory.fit(&features).unwrap();
        memory
    };
    let (full, diagonal) = (memory(MemoryKind::Full), memory(MemoryKind::Diagonal));
    let points = Tensor::from_slice2(&[[0.3f64, 1.0], [2.0, -1.0]]);
    assert_close("density", &full.log_density(0, &points).unwrap(), &diagonal.log_density(0, &points).unwrap(), 1e-12);
    let draw = |m: &GaussianMemory| {
        tch::manual_seed(4);
        m.sample(0, 50).unwrap()
    };
    assert_close("draws", &draw(&full), &draw(&diagonal), 1e-6);
    // Two clusters far apart are two centres, drawn alike.
    let apart = Tensor::cat(&[&features + 100.0, &features - 100.0], 0);
    let mut memory = GaussianMemory::new(MemoryKind::Centroids(2), 1e-4).unwrap();
    memory.fit(&apart).unwrap();
    tch::manual_seed(5);
    let drawn = memory.sample(0, 2000).unwrap();
    assert!(drawn.abs().min().double_value(&[]) > 80.0);
    assert!((drawn.select(1, 0).gt(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]) - 0.5).abs() < 0.05);
    let all = memory.sample_all(3, |_| 0.0).unwrap();
    assert_eq!(all.size(), [3, 2]);
    // What cannot be remembered.
    assert!(GaussianMemory::new(MemoryKind::Full, 0.0).is_err());
    assert!(GaussianMemory::new(MemoryKind::Centroids(0), 1.0).is_err());
    let mut memory = GaussianMemory::new(MemoryKind::Full, 1e-4).unwrap();
    assert!(memory.means().is_err() && memory.sample_all(2, |_| 1.0).is_err());
    assert!(memory.fit(&features.narrow(0, 0, 1)).unwrap_err().to_string().contains("samples of a class"));
    memory.fit(&features).unwrap();
    assert!(memory.fit(&Tensor::zeros([3, 5], F64)).unwrap_err().to_string().contains("[N, 2]"));
    assert!(memory.sample(1, 2).is_err() && memory.sample(0, 0).is_err());
    assert!(memory.fit(&(Tensor::zeros([3, 2], F64) / 0.0)).unwrap_err().to_string().contains("finite"));
}

#[test]
fn alignment_makes_classes_of_two_tasks_comparable() {
    let _generator = alone();
    // Class 0 alone in its task got a large bias: everything is class 0.
    let head = LinearHead::of(Tensor::zeros([2, 2], F32), Tensor::from_slice(&[3f32, 0.0])).unwrap();
    let mut memory = GaussianMemory::new(MemoryKind::Full, 1e-4).unwrap();
    let spread = Tensor::from_slice2(&[[0.1f32, 0.0], [-0.1, 0.0], [0.0, 0.1], [0.0, -0.1]]);
    let (one, other) = (&spread + Tensor::from_slice(&[1f32, 0.0]), &spread + Tensor::from_slice(&[0f32, 1.0]));
    memory.fit(&one).unwrap();
    memory.fit(&other).unwrap();
    let mut tasks = Tasks::default();
    tasks.add(&Tensor::from_slice(&[0i64, 0])).unwrap();
    tasks.add(&Tensor::from_slice(&[1i64, 1])).unwrap();
    let classes = |head: &LinearHead| {
        Vec::<i64>::try_from(head.logits(&Tensor::cat(&[&one, &other], 0)).argmax(1, false)).unwrap()
    };
    assert_eq!(classes(&head), [0; 8]);
    for config in [
        Alignment { samples: 50, lr: 0.05, ..Default::default() },
        Alignment { samples: 50, lr: 0.05, logit_norm: Some(0.1), older_means_shrink: true, ..Default::default() },
    ] {
        let head = LinearHead::of(Tensor::zeros([2, 2], F32), Tensor::from_slice(&[3f32, 0.0])).unwrap();
        tch::manual_seed(1);
        align_classifier(&head, &memory, &tasks, &config).unwrap();
        assert_eq!(classes(&head), [0, 0, 0, 0, 1, 1, 1, 1], "{config:?}");
    }
    let short = LinearHead::of(Tensor::zeros([1, 2], F32), Tensor::zeros([1], F32)).unwrap();
    let e = align_classifier(&short, &memory, &tasks, &Alignment::default()).unwrap_err().to_string();
    assert!(e.contains("expected 2 as the memory, got 1 and 2"), "{e}");
    let bad = Alignment { logit_norm: Some(0.0), ..Default::default() };
    assert!(align_classifier(&head, &memory, &tasks, &bad).is_err());
}

#[test]
fn without_training_all_prototype_learners_are_one_cosine_classifier() {
    let _generator = alone();
    let net = backbone();
    let mut simple = SimpleCil::new(&net);
    let mut aper = Aper::new(&net, small(), training(0)).unwrap();
    let mut ease = Ease::new(&net, small(), training(0), 0.1).unwrap();
    let test = task(0, 6).0;
    for t in 0..2 {
        let (images, labels) = task(t, 6);
        for learner in [&mut simple as &mut dyn CilLearner, &mut aper, &mut ease] {
            learner.observe_task(&images, &labels).unwrap();
        }
        let cosines = simple.predict(&test).unwrap();
        assert_eq!(cosines.size(), [12, 2 * (t + 1)]);
        assert_close("APER", &aper.predict(&test).unwrap(), &cosines, 1e-5);
        let scores = ease.predict(&test).unwrap();
        if t == 0 {
            assert_close("EASE", &scores, &cosines, 1e-5);
        } else {
            // New classes are seen through both adapters. Prototypes of old ones are synthesised in the new subspace.
            assert_close("EASE", &scores.narrow(1, 2, 2), &(cosines.narrow(1, 2, 2) * 1.1), 1e-5);
        }
    }
    assert!(simple.predict(&Tensor::zeros([1, 3, 8, 8], F32)).unwrap_err().to_string().contains("[N, 1, 8, 8]"));
}

#[test]
fn old_prototypes_are_synthesised_by_similarity() {
    let _generator = alone();
    // One class in each of two tasks: the new class has all the weight, so that both have its prototype in the new subspace.
    let net = backbone();
    let mut ease = Ease::new(&net, small(), training(0), 1.0).unwrap();
    let mut simple = SimpleCil::new(&net);
    let (images, labels) = task(0, 6);
    for class in 0..2 {
        let of = labels.eq(class).nonzero().squeeze_dim(1);
        let (x, y) = (images.index_select(0, &of), labels.index_select(0, &of));
        ease.observe_task(&x, &y).unwrap();
        simple.observe_task(&x, &y).unwrap();
    }
    let (scores, cosines) = (ease.predict(&images).unwrap(), simple.predict(&images).unwrap());
    assert_close("old", &scores.select(1, 0), &(cosines.select(1, 0) + cosines.select(1, 1)), 1e-5);
    assert_close("new", &scores.select(1, 1), &(cosines.select(1, 1) * 2.0), 1e-5);
}
