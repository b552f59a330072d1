//! Knowledge distillation and self-distillation: one validated method per paper.
//!
//! ```
//! use autodidact_distill::kernel::{Kernel, KernelRidge};
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> autodidact_core::Result<()> {
//! let x = Tensor::linspace(0.0, 1.0, 11, (Kind::Double, Device::Cpu)).view([11, 1]);
//! let y = (&x * 6.0).sin();
//! let model = KernelRidge { kernel: Kernel::Rbf { gamma: 10.0 }, lambda: 1e-6 }.fit(&x, &y)?;
//! assert!((model.predict(&x)? - y).abs().max().double_value(&[]) < 1e-2);
//! # Ok(())
//! # }
//! ```

pub mod dataset_distillation_ssl;
pub mod distilled_data;
pub mod dual_head_distillation;
pub mod kernel;
pub mod learning_from_future;
pub mod logits;
pub mod model_extraction;
pub mod normalized_distillation;
pub mod random_teachers;
pub mod self_distilled_pretraining;
pub mod smooth_trajectories;
pub mod teacher_guidance;
