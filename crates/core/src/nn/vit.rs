//! Vision transformers (Dosovitskiy et al., 2021): pre-norm blocks, GELU, learned positions, class token.

use super::AttentionScores;
use super::attention::{Attention, AttentionConfig, Place};
use super::{PatchEmbedding, layers};
use crate::device::on_host;
use crate::optim::StateDict;
use crate::{Error, Result};
use tch::nn::{Init, LayerNorm, Linear, Module, ModuleT, Path};
use tch::{Kind, Tensor};

/// Shape of a [`Vit`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VitConfig {
    /// Side of the square input images; a multiple of `patch`.
    pub side: i64,
    /// Side of a patch.
    pub patch: i64,
    /// Input channels.
    pub channels: i64,
    /// Model width.
    pub width: i64,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: i64,
    /// Hidden width of the blocks' perceptrons, as a multiple of `width`.
    pub mlp_ratio: i64,
    /// Position embeddings.
    pub position: PatchPosition,
}

impl VitConfig {
    /// Number of patches of an image.
    pub fn patches(&self) -> i64 {
        (self.side / self.patch).pow(2)
    }
}

impl Default for VitConfig {
    /// ViT-Ti/4 for 32x32 images (5.4 M parameters).
    fn default() -> Self {
        let position = PatchPosition::Learned;
        Self { side: 32, patch: 4, channels: 3, width: 192, depth: 12, heads: 3, mlp_ratio: 4, position }
    }
}

/// Pre-norm transformer blocks without a mask, and a last norm: `[N, T, width] -> [N, T, width]`.
#[derive(Debug)]
pub struct EncoderBlocks {
    blocks: Vec<Block>,
    norm: LayerNorm,
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

impl EncoderBlocks {
    /// Fresh weights under `p`: `depth` blocks with perceptrons of hidden width `width * mlp_ratio`.
    ///
    /// # Errors
    /// Heads that do not divide the width.
    pub fn new(p: &Path, width: i64, depth: usize, heads: i64, mlp_ratio: i64) -> Result<Self> {
        let bias = (true, true);
        let (head_width, rotary, scores) = (None, None, AttentionScores::default());
        let attention =
            AttentionConfig { width, heads, kv_heads: heads, head_width, bias, causal: false, rotary, scores };
        let blocks = (0..depth).map(|i| {
            let p = p / "blocks" / i;
            Ok(Block {
                norm1: layers::layer_norm(&p / "norm1", width),
                attention: Attention::new(&p / "attention", &attention)?,
                norm2: layers::layer_norm(&p / "norm2", width),
                up: layers::linear(&p / "up", width, width * mlp_ratio, true),
                down: layers::linear(&p / "down", width * mlp_ratio, width, true),
            })
        });
        Ok(Self { blocks: blocks.collect::<Result<_>>()?, norm: layers::layer_norm(p / "norm", width) })
    }

    /// Tokens after the last norm.
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        self.forward_with(tokens, |_, _| None)
    }

    /// The same with something parallel to the perceptrons: what `side` makes of a block's number and of its tokens after attention,
    /// `[N, T, width]`, is added to the block's result. It may have a multiple of the rows, copy by copy; the tokens are then
    /// repeated as often, so that copies that differ in `side` alone share what comes before.
    pub fn forward_with(&self, tokens: &Tensor, side: impl FnMut(usize, &Tensor) -> Option<Tensor>) -> Tensor {
        self.run(tokens, false, side)
    }

    /// Of the same the first token alone, `[N, 1, width]`: nothing behind the last attention is computed of the others.
    pub fn first_with(&self, tokens: &Tensor, side: impl FnMut(usize, &Tensor) -> Option<Tensor>) -> Tensor {
        self.run(tokens, true, side)
    }

    fn run(&self, tokens: &Tensor, first: bool, mut side: impl FnMut(usize, &Tensor) -> Option<Tensor>) -> Tensor {
        let mut x = tokens.shallow_clone();
        for (i, b) in self.blocks.iter().enumerate() {
            x = &x + b.attention.forward(&b.norm1.forward(&x), &Place::default(), None);
            if first && i + 1 == self.blocks.len() {
                x = x.narrow(1, 0, 1);
            }
            let beside = side(i, &x);
            x = &x + b.down.forward(&b.up.forward(&b.norm2.forward(&x)).gelu("none"));
            match beside {
                Some(y) if y.size() == x.size() => x += y,
                Some(y) => {
                    let (n, t, width) = x.size3().expect("tokens have three dimensions");
                    x = (y.view([-1, n, t, width]) + x).flatten(0, 1);
                }
                None => {}
            }
        }
        self.norm.forward(&x)
    }
}

/// Position embeddings of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchPosition {
    /// Learned, the class token's too.
    Learned,
    /// [`sine_cosine_positions`], fixed; zero for the class token.
    SineCosine,
}

/// Fixed embeddings of the places of a `grid x grid` image, `[1, 1 + grid^2, width]`, the class token's (zero) first: half of the
/// features for the column, half for the row, each sines then cosines of frequencies `10000^(-4i/width)` (as in MAE's code).
///
/// # Errors
/// A width that is no multiple of 4.
pub fn sine_cosine_positions(grid: i64, width: i64) -> Result<Tensor> {
    if width < 4 || width % 4 != 0 {
        return Err(Error::value("width", "a multiple of 4 for sine-cosine positions", width));
    }
    let options = on_host(Kind::Double);
    let frequency = (Tensor::arange(width / 4, options) * (-4.0 * 10_000f64.ln() / width as f64)).exp();
    let angle = Tensor::arange(grid, options).outer(&frequency);
    let line = Tensor::cat(&[angle.sin(), angle.cos()], 1);
    let [columns, rows] = [line.unsqueeze(0), line.unsqueeze(1)].map(|l| l.expand([grid, grid, width / 2], false));
    let all = Tensor::cat(&[columns, rows], 2).reshape([1, grid * grid, width]);
    Ok(Tensor::cat(&[Tensor::zeros([1, 1, width], options), all], 1).to_kind(Kind::Float))
}

/// A vision transformer without its classifier: `[N, C, side, side] -> [N, width]`, the normalised class token.
#[derive(Debug)]
pub struct Vit {
    config: VitConfig,
    patches: PatchEmbedding,
    class: Tensor,
    position: Tensor,
    blocks: EncoderBlocks,
}

impl Vit {
    /// A network with fresh weights under `p`.
    ///
    /// # Errors
    /// A side that is no multiple of the patch, or heads that do not divide the width.
    pub fn new(p: Path, config: &VitConfig) -> Result<Self> {
        let &VitConfig { side, patch, channels, width, heads, .. } = config;
        if patch < 1 || side < patch || side % patch != 0 {
            return Err(Error::value("image side", format!("a multiple of patch {patch}"), side));
        }
        let init = Init::Randn { mean: 0.0, stdev: 0.02 };
        let blocks = EncoderBlocks::new(&p, width, config.depth, heads, config.mlp_ratio)?;
        let position = match config.position {
            PatchPosition::Learned => p.var("position", &[1, config.patches() + 1, width], init),
            PatchPosition::SineCosine => {
                let fixed = sine_cosine_positions(side / patch, width)?;
                let mut variable = p.zeros_no_train("position", &fixed.size());
                tch::no_grad(|| variable.copy_(&fixed));
                variable
            }
        };
        Ok(Self {
            config: *config,
            patches: PatchEmbedding::new(&p / "patches", channels, patch, width)?,
            class: p.var("class", &[1, 1, width], init),
            position,
            blocks,
        })
    }

    /// Weights of this network's names from those of the package `timm` (`cls_token`, `blocks.0.attn.qkv.weight`, ...), which publishes
    /// pre-trained vision transformers; what belongs to classifiers is left out. Tensors are shared.
    pub fn from_timm(weights: &StateDict) -> StateDict {
        let parts = [
            ("cls_token", "class"),
            ("pos_embed", "position"),
            ("patch_embed.proj.", "patches."),
            (".attn.qkv.", ".attention.qkv."),
            (".attn.proj.", ".attention.out."),
            (".mlp.fc1.", ".up."),
            (".mlp.fc2.", ".down."),
        ];
        let renamed = |name: &str| parts.iter().fold(name.to_owned(), |n, (theirs, ours)| n.replace(theirs, ours));
        let ours = |name: &str| {
            ["class", "position", "patches.", "blocks.", "norm."].iter().any(|start| name.starts_with(start))
        };
        weights.iter().map(|(n, t)| (renamed(n), t.shallow_clone())).filter(|(n, _)| ours(n)).collect()
    }

    /// The shape.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Patches with their positions, row by row, before the first block: `[N, patches, width]`.
    ///
    /// # Errors
    /// Images of another size than the configuration's.
    pub fn embed(&self, images: &Tensor) -> Result<Tensor> {
        let VitConfig { side, channels, .. } = self.config;
        match images.size()[..] {
            [_, c, h, w] if (c, h, w) == (channels, side, side) => {}
            _ => return Err(Error::shape("images", format!("[N, {channels}, {side}, {side}]"), images)),
        }
        Ok(self.patches.forward(images)? + self.position.narrow(1, 1, self.config.patches()))
    }

    /// The class token and any of the embedded patches `[N, T, width]` through all blocks and the last norm: `[N, 1 + T, width]`.
    ///
    /// # Errors
    /// Patches of another width.
    pub fn encode(&self, patches: &Tensor) -> Result<Tensor> {
        Ok(self.blocks.forward(&self.with_class(patches)?))
    }

    /// The class token after that, `[N, width]`, with something parallel to the blocks' perceptrons, as [`EncoderBlocks::forward_with`] has
    /// it; what the class token does not need is not computed.
    ///
    /// # Errors
    /// Patches of another width.
    pub fn class_token_with(
        &self,
        patches: &Tensor,
        side: impl FnMut(usize, &Tensor) -> Option<Tensor>,
    ) -> Result<Tensor> {
        Ok(self.blocks.first_with(&self.with_class(patches)?, side).select(1, 0))
    }

    fn with_class(&self, patches: &Tensor) -> Result<Tensor> {
        let n = match patches.size()[..] {
            [n, _, width] if width == self.config.width => n,
            _ => return Err(Error::shape("patches", format!("[N, T, {}]", self.config.width), patches)),
        };
        let class = (&self.class + self.position.narrow(1, 0, 1)).expand([n, -1, -1], false);
        Ok(Tensor::cat(&[&class, patches], 1))
    }

    /// All tokens after the last norm, `[N, 1 + patches, width]`, the class token first.
    ///
    /// # Errors
    /// Images of another size than the configuration's.
    pub fn tokens(&self, images: &Tensor) -> Result<Tensor> {
        self.encode(&self.embed(images)?)
    }
}

impl ModuleT for Vit {
    fn forward_t(&self, images: &Tensor, _train: bool) -> Tensor {
        self.tokens(images).unwrap_or_else(|e| panic!("{e}")).select(1, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;
    use tch::nn::VarStore;

    #[test]
    fn tiny_vit_has_the_published_size_and_checks_its_input() {
        let vs = VarStore::new(Device::Cpu);
        let vit = Vit::new(vs.root(), &VitConfig { side: 224, patch: 16, ..Default::default() }).unwrap();
        // DeiT-Ti has 5.72 M parameters with its 1000-way classifier of 193 k.
        let count = super::super::parameter_count(&vs);
        assert_eq!(count, 5_717_416 - 193_000);
        let images = Tensor::zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu));
        assert!(vit.tokens(&images).unwrap_err().to_string().contains("[N, 3, 224, 224]"));
        assert!(Vit::new(vs.root() / "b", &VitConfig { patch: 5, ..Default::default() }).is_err());
    }

    #[test]
    fn weights_of_timm_are_renamed() {
        let theirs = [
            "cls_token",
            "pos_embed",
            "patch_embed.proj.weight",
            "blocks.3.attn.qkv.bias",
            "blocks.0.mlp.fc2.weight",
            "blocks.1.attn.proj.weight",
            "blocks.0.norm1.bias",
            "norm.weight",
            "head.weight",
            "fc_norm.weight",
        ];
        let weights = theirs.iter().map(|n| ((*n).to_owned(), Tensor::from(1.0))).collect();
        let ours: Vec<String> = Vit::from_timm(&weights).into_keys().collect();
        let expected = [
            "blocks.0.down.weight",
            "blocks.0.norm1.bias",
            "blocks.1.attention.out.weight",
            "blocks.3.attention.qkv.bias",
            "class",
            "norm.weight",
            "patches.weight",
            "position",
        ];
        assert_eq!(ours, expected);
    }

    #[test]
    fn what_stands_beside_the_blocks_is_added_and_may_make_copies() {
        let vs = VarStore::new(Device::Cpu);
        let config = VitConfig { side: 8, width: 8, heads: 2, depth: 2, ..Default::default() };
        let vit = Vit::new(vs.root(), &config).unwrap();
        let patches = vit.embed(&Tensor::randn([3, 3, 8, 8], (Kind::Float, Device::Cpu))).unwrap();
        let tokens = vit.with_class(&patches).unwrap();
        let plain = vit.encode(&patches).unwrap();
        assert_eq!(vit.blocks.forward_with(&tokens, |_, x| Some(x.zeros_like())), plain);
        let tilted = |x: &Tensor| Tensor::ones_like(x) * Tensor::arange(8, (Kind::Float, Device::Cpu));
        let both = |i: usize, x: &Tensor| (i == 0).then(|| Tensor::cat(&[x.zeros_like(), tilted(x)], 0));
        let copies = vit.blocks.forward_with(&tokens, both);
        let second = vit.blocks.forward_with(&tokens, |i, x| (i == 0).then(|| tilted(x)));
        let same = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]) < 1e-5;
        assert_eq!(copies.size(), [6, 5, 8]);
        assert!(same(&copies.narrow(0, 0, 3), &plain) && same(&copies.narrow(0, 3, 3), &second));
        assert!((&second - plain).abs().max().double_value(&[]) > 0.1);
        // The class token alone is the same.
        let alone = vit.class_token_with(&patches, both).unwrap();
        assert!(same(&alone, &copies.select(1, 0)));
        assert!(vit.class_token_with(&patches.narrow(2, 0, 4), |_, _| None).is_err());
    }

    #[test]
    fn fixed_positions_are_sines_of_column_and_row_and_not_trained() {
        let p = sine_cosine_positions(3, 8).unwrap();
        // Row 2, column 1: sines and cosines of 1 and 0.01, then of 2 and 0.02.
        let want: Vec<f64> = [1.0, 2.0]
            .into_iter()
            .flat_map(|x: f64| [x.sin(), (x / 100.0).sin(), x.cos(), (x / 100.0).cos()])
            .collect();
        let got: Vec<f64> = p.get(0).get(1 + 2 * 3 + 1).to_kind(Kind::Double).try_into().unwrap();
        got.iter().zip(&want).for_each(|(g, w)| assert!((g - w).abs() < 1e-6, "{got:?} {want:?}"));
        assert_eq!(p.get(0).get(0).abs().sum(Kind::Double).double_value(&[]), 0.0);
        assert!(sine_cosine_positions(3, 6).is_err());
        let vs = VarStore::new(Device::Cpu);
        let config =
            VitConfig { width: 8, heads: 2, depth: 1, position: PatchPosition::SineCosine, ..Default::default() };
        let vit = Vit::new(vs.root(), &config).unwrap();
        assert!(vs.variables().contains_key("position") && !vs.variables()["position"].requires_grad());
        // All patches in any order are the whole image.
        let images = Tensor::randn([2, 3, 32, 32], (Kind::Float, Device::Cpu));
        let order = Tensor::randperm(64, (Kind::Int64, Device::Cpu));
        let shuffled = vit.encode(&vit.embed(&images).unwrap().index_select(1, &order)).unwrap();
        let whole = vit.tokens(&images).unwrap();
        let back = whole.narrow(1, 1, 64).index_select(1, &order);
        assert!((shuffled.narrow(1, 1, 64) - back).abs().max().double_value(&[]) < 1e-5);
        assert!((shuffled.select(1, 0) - whole.select(1, 0)).abs().max().double_value(&[]) < 1e-5);
    }
}
