//! MoCo against lightly's memory bank, the order of its queue, what its keys learn, and bad input.

use autodidact_core::nn::layers::linear;
use autodidact_core::optim::Ema;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_ssl::contrastive::info_nce;
use autodidact_ssl::moco::{Moco, Queue};
use tch::nn::{Module, VarStore};
use tch::{Device, Kind, Tensor};

fn random(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (kind, Device::Cpu))
}

fn unit(z: &Tensor) -> Tensor {
    z / z.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true)
}

fn queue(shape: &[i64]) -> (VarStore, Queue) {
    let vs = VarStore::new(Device::Cpu);
    let queue = Queue::new(vs.root(), shape).unwrap();
    (vs, queue)
}

#[test]
fn three_steps_equal_those_of_lightly() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/multi_head_contrastive.safetensors"));
    let moco = Moco { tau: 0.2, queue: 6, ..Default::default() };
    let vs = VarStore::new(Device::Cpu);
    let mut queue = moco.queue(vs.root(), 4).unwrap();
    let mut keys = vs.variables()["keys"].shallow_clone();
    tch::no_grad(|| keys.copy_(&golden["lightly.bank"]));
    for step in 0..3 {
        let get = |name: &str| &golden[&format!("lightly.{step}.{name}")];
        let q = get("q").copy().set_requires_grad(true);
        let loss = moco.forward(&q, get("k"), &queue.keys()).unwrap();
        queue.enqueue(get("k")).unwrap();
        loss.backward();
        assert_close("loss", &loss, get("loss"), 1e-5);
        assert_close("gradient", &q.grad(), get("grad"), 1e-5);
        assert_close("bank", &queue.keys(), get("bank"), 1e-6);
    }
}

#[test]
fn the_oldest_keys_go_first_also_around_the_end() {
    let (vs, mut queue) = queue(&[2, 5, 3]);
    let start = queue.keys();
    assert_close("unit length", &start, &unit(&start), 1e-6);
    let batches = [2, 2, 3].map(|n| random(&[2, n, 3], Kind::Float));
    for batch in &batches {
        queue.enqueue(batch).unwrap();
    }
    // 2 + 2 + 3 = 7 keys: places 2, 3 keep the second batch, the third fills 4, 0, 1.
    let (second, third) = (unit(&batches[1]), unit(&batches[2]));
    let want = Tensor::cat(&[third.narrow(1, 1, 2), second, third.narrow(1, 0, 1)], 1);
    assert_close("queue", &queue.keys(), &want, 1e-6);
    assert_eq!(vs.variables()["next"].int64_value(&[0]), 2);
    // Checkpoints hold it; optimizers do not see it.
    assert_eq!(vs.variables()["keys"], queue.keys());
    assert!(vs.trainable_variables().is_empty());
}

#[test]
fn keys_are_detached_and_follow_the_queries_network() {
    tch::manual_seed(4);
    let (online, mut target) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    let [query, key] = [&online, &target].map(|vs| linear(vs.root(), 6, 4, true));
    let mut ema = Ema::new(&mut target, &online).unwrap();
    let (_vs, mut queue) = queue(&[8, 4]);
    let keys = query.forward(&random(&[3, 6], Kind::Float));
    assert!(keys.requires_grad());
    queue.enqueue(&keys).unwrap();
    assert!(!queue.keys().requires_grad());
    let x = random(&[3, 6], Kind::Float);
    let loss = Moco::default().forward(&query.forward(&x), &key.forward(&x), &queue.keys()).unwrap();
    loss.backward();
    assert!(query.ws.grad().abs().max().double_value(&[]) > 0.0 && !key.ws.grad().defined());
    let before = key.ws.copy();
    let _ = tch::no_grad(|| query.ws.shallow_clone().g_add_scalar_(1.0));
    ema.update(0.75).unwrap();
    assert_close("moved by a quarter", &key.ws, &(before + 0.25), 1e-6);
}

#[test]
fn a_queue_of_the_other_keys_gives_info_nce() {
    tch::manual_seed(6);
    let [q, k] = [(); 2].map(|()| random(&[2, 5], Kind::Double));
    let moco = Moco { tau: 0.3, ..Default::default() };
    let each = [0, 1].map(|i| {
        let row = |z: &Tensor, i| z.narrow(0, i, 1).repeat([2, 1]);
        moco.forward(&row(&q, i), &row(&k, i), &unit(&k.narrow(0, 1 - i, 1))).unwrap()
    });
    assert_close("InfoNCE", &((&each[0] + &each[1]) / 2.0), &info_nce(&q, &k, 0.3).unwrap(), 1e-6);
    let negatives = unit(&random(&[7, 5], Kind::Double));
    check_gradient(&q, 1e-6, |q| moco.forward(q, &k, &negatives).unwrap());
}

#[test]
fn bad_input_is_an_error() {
    let root = VarStore::new(Device::Cpu);
    for shape in [&[4i64][..], &[0, 4], &[1, 2, 3, 4]] {
        assert!(Queue::new(root.root(), shape).unwrap_err().to_string().starts_with("queue"), "{shape:?}");
    }
    let (_vs, mut queue) = queue(&[4, 3]);
    for shape in [&[5i64, 3][..], &[2, 4], &[1, 2, 3], &[3], &[0, 3]] {
        assert!(queue.enqueue(&random(shape, Kind::Float)).unwrap_err().to_string().starts_with("keys"), "{shape:?}");
    }
    let z = random(&[2, 3], Kind::Float);
    let says = |r: autodidact_core::Result<Tensor>, what: &str| assert!(r.unwrap_err().to_string().starts_with(what));
    says(Moco::default().forward(&z, &random(&[2, 4], Kind::Float), &queue.keys()), "zb");
    says(Moco::default().forward(&z, &z, &random(&[2, 4], Kind::Float)), "negatives");
    says(Moco { tau: 0.0, ..Default::default() }.forward(&z, &z, &queue.keys()), "tau");
}
