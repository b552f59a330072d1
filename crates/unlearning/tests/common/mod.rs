//! Images that small networks tell apart.

use autodidact_unlearning::classifier::Labelled;
use tch::{Device, Kind, Tensor};

/// Noisy images of three classes: a bright quadrant each.
pub fn images(n: i64) -> Labelled {
    tch::manual_seed(3);
    let y = Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(3);
    let x = Tensor::rand([n, 1, 8, 8], (Kind::Float, Device::Cpu)) * 0.5;
    for i in 0..n {
        let class = y.int64_value(&[i]);
        let _ = x.get(i).narrow(1, 4 * (class / 2), 4).narrow(2, 4 * (class % 2), 4).g_add_scalar_(0.7);
    }
    Labelled::new(x, y, 3).unwrap()
}
