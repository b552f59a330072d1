//! Networks: standard architectures under standard names, with PyTorch's default initialisation.
//!
//! `tch`'s own layer constructors initialise linear layers for ReLU and batch-norm gains uniformly in `[0, 1]`, neither
//! of which is what PyTorch does; [`layers`] gives the same layers with PyTorch's values.

mod attention;
mod cache;
mod cifar_resnet;
mod convnet;
mod gpt;
pub mod layers;
mod lora;
mod mlp;
mod norm;
mod patches;
mod resnet;
mod rotary;
mod scores;
mod seq2seq;
mod unet;
mod vgg;
mod vit;

pub use attention::{Attention, AttentionConfig};
pub use cache::KvCache;
pub use cifar_resnet::CifarResNet;
pub use convnet::{ConvNet, ConvNetConfig, ConvNetHead};
pub use gpt::{AttentionPattern, Bias, BlockTrace, Gpt, GptConfig, Perceptron, Position};
pub use lora::{LoraConfig, LoraTarget};
pub use mlp::{Mlp, MlpConfig};
pub use norm::{TransformerNorm, unit};
pub use patches::PatchEmbedding;
pub use resnet::{ResNet, ResNetConfig, ResNetDepth, ResNetStem, ResidualBlock};
pub use rotary::{Rotary, RotaryScaling, yarn_attention};
pub use scores::{AttentionScores, AttentionWeights, QkNorm, ScoreScale};
pub use seq2seq::{BeamConfig, Encoded, Hypothesis, Seq2Seq, Seq2SeqConfig};
pub use unet::{UNet, UNetConfig};
pub use vgg::{Vgg, VggConfig, VggNorm};
pub use vit::{EncoderBlocks, PatchPosition, Vit, VitConfig, sine_cosine_positions};

use tch::nn::VarStore;

/// Number of trainable scalars of a store.
pub fn parameter_count(vs: &VarStore) -> i64 {
    vs.trainable_variables().iter().map(|t| t.numel() as i64).sum()
}
