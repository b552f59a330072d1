//! Adapters: merging, orthogonality, retrieval, stages.

use super::*;

#[test]
fn fresh_adapters_change_nothing_and_trained_ones_do() {
    let _generator = alone();
    let net = backbone();
    let images = task(0, 5).0;
    let plain = net.features(&images, None, false).unwrap();
    let adapters = net.adapters(small()).unwrap();
    assert_eq!(net.features(&images, Some(&adapters), false).unwrap(), plain);
    assert_eq!(net.features(&images, Some(&adapters), true).unwrap(), plain);
    let tensors = adapters.tensors().each_ref().map(|t| Tensor::randn_like(t) * 0.3);
    let moved = AdapterSet::of(tensors, small()).unwrap();
    let with = net.features(&images, Some(&moved), false).unwrap();
    assert!((&with - &plain).abs().max().double_value(&[]) > 0.01);
    // All sets at once are the sets one by one.
    let all = net.features_of_all(&images, &[adapters, moved.copy()]).unwrap();
    assert_close("first", &all.select(1, 0), &plain, 1e-5);
    assert_close("second", &all.select(1, 1), &with, 1e-5);
    // Dropout acts in training alone.
    let train = || net.features(&images, Some(&moved), true).unwrap();
    assert_ne!(train(), train());
    assert_eq!(net.features(&images, Some(&moved), false).unwrap(), with);
}

#[test]
fn a_block_with_an_adapter_is_that_of_pytorch() {
    let _generator = alone();
    let golden = golden();
    let names: BTreeMap<String, Tensor> =
        golden.iter().filter_map(|(n, t)| Some((n.strip_prefix("vit.")?.to_owned(), t.shallow_clone()))).collect();
    let config = VitConfig { depth: 1, heads: 4, ..tiny() };
    let net = AdaptedVit::new(&config, &names, Device::Cpu).unwrap();
    let adapter = AdapterConfig { rank: 3, scale: 0.7, dropout: 0.0 };
    let set = AdapterSet::of([0, 1, 2, 3].map(|i| golden[&format!("adapter.{i}")].shallow_clone()), adapter).unwrap();
    let images = &golden["block.images"];
    assert_close("plain", &net.features(images, None, false).unwrap(), &golden["block.plain"], 1e-5);
    assert_close("adapted", &net.features(images, Some(&set), false).unwrap(), &golden["block.adapted"], 1e-5);
    let all = net.features_of_all(images, &[set]).unwrap();
    assert_close("adapted", &all.select(1, 0), &golden["block.adapted"], 1e-5);
}

#[test]
fn merging_has_the_known_values() {
    let _generator = alone();
    let mut bank = AdapterBank::default();
    let mut current = filled(4.0);
    bank.merge(&mut current, 0.5).unwrap();
    assert_eq!(entry(&current), 4.0, "nothing to merge with");
    bank.push(&filled(1.0)).unwrap();
    bank.push(&filled(3.0)).unwrap();
    assert_eq!(entry(bank.mean_of_previous().unwrap()), 2.0);
    for (from, alpha, expected) in [(2.0, 0.1, 2.0), (5.0, 0.1, 4.7), (5.0, 0.0, 5.0), (5.0, 1.0, 2.0)] {
        let mut current = filled(from);
        bank.merge(&mut current, alpha).unwrap();
        assert!((entry(&current) - expected).abs() < 1e-6, "{from} {alpha}");
    }
    // Twelve pulls at once are twelve pulls.
    let expected = 2.0 + 3.0 * 0.9f64.powi(12);
    assert!((expected - 2.84729).abs() < 1e-5);
    let (mut one, mut many) = (filled(5.0), filled(5.0));
    one.pull(bank.mean_of_previous().unwrap(), 0.1, 12).unwrap();
    (0..12).for_each(|_| bank.merge(&mut many, 0.1).unwrap());
    assert!((entry(&one) - expected).abs() < 1e-5 && (entry(&many) - expected).abs() < 1e-5);
    // 4 tensors with 2 * (3 + 1 + 3 + 3) entries that differ by 3.
    assert!((filled(1.0).distance(&filled(4.0)).unwrap() - (20.0f64 * 9.0).sqrt()).abs() < 1e-5);
    assert!(filled(1.0).pull(&filled(2.0), 1.5, 1).is_err());
    // Evaluation as the official code has it: the second is pulled to the first, the third to the mean of both.
    bank.push(&filled(6.0)).unwrap();
    bank.pull_all(0.5, 1).unwrap();
    let values: Vec<f64> = bank.sets().iter().map(entry).collect();
    assert!(values.iter().zip([1.0, 2.0, 3.75]).all(|(v, w)| (v - w).abs() < 1e-6), "{values:?}");
    assert!((entry(bank.mean_of_previous().unwrap()) - 2.25).abs() < 1e-6);
}

#[test]
fn kept_adapters_are_copies() {
    let _generator = alone();
    let mut bank = AdapterBank::default();
    let mut set = filled(1.0);
    bank.push(&set).unwrap();
    set.pull(&filled(9.0), 1.0, 1).unwrap();
    assert_eq!((entry(&set), entry(&bank.sets()[0])), (9.0, 1.0));
    assert_eq!(entry(bank.mean_of_previous().unwrap()), 1.0);
    let other = AdapterSet::fresh(3, 3, *set.config(), Device::Cpu).unwrap();
    assert!(bank.push(&other).is_err());
}

#[test]
fn the_orthogonality_loss_is_that_of_pytorch() {
    let _generator = alone();
    let golden = golden();
    let (batch, means) = (&golden["orth.batch"], &golden["orth.means"]);
    let leaf = batch.copy().set_requires_grad(true);
    let loss = orth_loss(&leaf, Some(means), 0.8).unwrap();
    loss.backward();
    assert_close("loss", &loss, &golden["orth.loss"], 1e-12);
    assert_close("gradient", &leaf.grad(), &golden["orth.gradient"], 1e-10);
    check_gradient(batch, 1e-6, |x| orth_loss(x, Some(means), 0.8).unwrap());
    // A single row is nearest to itself.
    assert_eq!(orth_loss(&Tensor::ones([1, 4], F64), None, 0.8).unwrap().double_value(&[]), 0.0);
    assert!(orth_loss(batch, Some(&Tensor::zeros([2, 3], F64)), 0.8).unwrap_err().to_string().contains("[K, 4]"));
    assert!(orth_loss(batch, None, 0.0).is_err());
}

#[test]
fn retrieval_refines_until_it_agrees_or_four_adapters_were_tried() {
    let _generator = alone();
    // With the identity as classifier a feature is its logits. Two tasks of one class each.
    let head = LinearHead::of(Tensor::eye(2, F32), Tensor::zeros([2], F32)).unwrap();
    let tasks = Tensor::from_slice(&[0i64, 1]);
    let features = Tensor::from_slice(
        &[
            // Adapter 0 says 0: a fixed point.
            [1.0f32, 0.0, 0.0, 1.0],
            // 0 says 1 and 1 says 0: a cycle.
            [0.0, 1.0, 1.0, 0.1],
            // 0 says 1 and 1 agrees.
            [0.3, 0.7, 0.2, 0.8],
        ]
        .concat(),
    )
    .view([3, 2, 2]);
    let first = Tensor::from_slice(&[0i64, 0, 0]);
    let refined = self_refine(&features, &head, &tasks, &first, 4).unwrap();
    let ints = |t: &Tensor| Vec::<i64>::try_from(t.flatten(0, -1)).unwrap();
    assert_eq!(ints(&refined.iterations), [1, 4, 2]);
    assert_eq!(ints(&refined.path), [0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1]);
    assert_eq!(ints(&refined.task), [0, 1, 1]);
    // Of the adapter that was evaluated last, not of the one it names.
    assert_eq!(refined.logits, Tensor::from_slice2(&[[1.0f32, 0.0], [1.0, 0.1], [0.2, 0.8]]));
    let once = self_refine(&features, &head, &tasks, &first, 1).unwrap();
    assert_eq!((ints(&once.task), ints(&once.iterations)), (vec![0, 0, 0], vec![1, 1, 1]));
    let bad = Tensor::from_slice(&[0i64, 2, 0]);
    assert!(self_refine(&features, &head, &tasks, &bad, 4).unwrap_err().to_string().contains("first tasks"));
    assert!(self_refine(&features, &head, &tasks, &first, 0).is_err());
    assert!(self_refine(&features, &head, &first, &first, 4).is_err());
}

#[test]
fn both_stages_are_added() {
    let _generator = alone();
    let (l, orig) = (Tensor::from_slice2(&[[2f64, 1.0, 0.0]]), Tensor::from_slice2(&[[0.9f64, 0.5, 0.1]]));
    let scores = two_stage_ensemble(&l, &orig, 3).unwrap();
    assert_close("scores", &scores, &Tensor::from_slice2(&[[1.38368f64, 0.46112, 0.15520]]), 1e-5);
    assert!(two_stage_ensemble(&l, &orig.narrow(1, 0, 2), 3).is_err());
    assert!(two_stage_ensemble(&l, &orig, 0).is_err());
}
