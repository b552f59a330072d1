//! The runs: which network is trained how.

use super::Config;
use autodidact_scaling::training_instabilities::{Decay, MuParam, Proxy, Recipe};

/// What is done to queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// Nothing.
    Plain,
    /// Layer norm.
    Learned,
    /// A mean square by force.
    Fixed(f64),
    /// Nothing, and squared ReLU in place of the softmax.
    Pointwise,
}

/// A training run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Name of the setting, without the learning rate.
    pub curve: String,
    pub lr: f64,
    pub width: i64,
    pub depth: usize,
    pub norm: Norm,
    pub warmup: usize,
    pub steps: usize,
    pub recipe: Recipe,
    pub mu: MuParam,
    pub z_loss: f64,
    /// Train a second time with epsilon at the gradient's RMS.
    pub with_epsilon: bool,
}

/// Name of a cell: a curve at a learning rate.
pub fn arm(curve: &str, lr: f64) -> String {
    format!("{curve}/lr={lr}")
}

/// Curves of the widths.
pub fn by_width(norm: bool, width: i64) -> String {
    format!("{},d={width}", if norm { "qk-norm" } else { "plain" })
}

/// Curves with the norm that differ from those of the widths in one thing: the length of the warm-up, at the middle width.
pub fn warmup(c: &Config, steps: usize) -> String {
    variant(by_width(true, c.middle()), steps == c.warmup, &format!("warm-up={steps}"))
}

/// The depth, at the smallest width.
pub fn depth(c: &Config, depth: usize) -> String {
    variant(by_width(true, c.widths[0]), depth == c.depth, &format!("depth={depth}"))
}

/// muParam, whose base is the smallest width (and so the same there).
pub fn mu(c: &Config, width: i64) -> String {
    variant(by_width(true, width), width == c.widths[0], "mu-simple")
}

/// Coupled decay, at the smallest width.
pub fn coupled(c: &Config) -> String {
    variant(by_width(true, c.widths[0]), false, "coupled")
}

/// Scores of an order set by force.
pub fn fixed(kappa: f64) -> String {
    format!("fixed,kappa={kappa}")
}

/// No weight decay, without or with the z-loss.
pub fn undecayed(z: bool) -> String {
    format!("no decay,{}", if z { "z-loss" } else { "no z-loss" })
}

/// Squared ReLU in place of the softmax, without a norm.
pub const POINTWISE: &str = "pointwise";

/// The run with epsilon at the gradient's RMS.
pub const EPSILON: &str = "epsilon";

fn variant(base: String, same: bool, what: &str) -> String {
    if same { base } else { format!("{base},{what}") }
}

impl Run {
    pub fn arm(&self) -> String {
        arm(&self.curve, self.lr)
    }

    pub fn proxy(&self, c: &Config, vocab: i64) -> Proxy {
        Proxy {
            width: self.width,
            depth: self.depth,
            head_width: c.head_width,
            qk_norm: self.norm == Norm::Learned,
            mu: self.mu,
            base_width: c.widths[0],
            ..Proxy::new(vocab, c.context as i64)
        }
    }
}

/// All runs of a seed, each once.
pub fn runs(c: &Config) -> Vec<Run> {
    let base = |curve: String, lr: f64, width: i64| Run {
        curve,
        lr,
        width,
        depth: c.depth,
        norm: Norm::Learned,
        warmup: c.warmup,
        steps: c.steps,
        recipe: Recipe { decay: Decay::Independent(c.independent), ..Recipe::default() },
        mu: MuParam::Standard,
        z_loss: c.z_loss,
        with_epsilon: false,
    };
    let (least, middle, widest) = (c.widths[0], c.middle(), c.widest());
    let mut all = vec![];
    for &width in &c.widths {
        for on in [true, false] {
            let norm = if on { Norm::Learned } else { Norm::Plain };
            all.extend(c.lrs.iter().map(|&lr| Run { norm, ..base(by_width(on, width), lr, width) }));
        }
    }
    all.push(Run { norm: Norm::Plain, ..base(by_width(false, c.narrow), trend_lr(c), c.narrow) });
    for &steps in c.warmups.iter().filter(|w| **w != c.warmup) {
        all.extend(c.lrs.iter().map(|&lr| Run { warmup: steps, ..base(warmup(c, steps), lr, middle) }));
    }
    all.push(base(by_width(true, least), c.low_lr, least));
    let decay = Recipe { decay: Decay::Coupled(c.coupled), ..Recipe::default() };
    all.extend(
        std::iter::once(&c.low_lr).chain(&c.lrs).map(|&lr| Run { recipe: decay, ..base(coupled(c), lr, least) }),
    );
    for &blocks in c.depths.iter().filter(|d| **d != c.depth) {
        all.extend(c.lrs.iter().map(|&lr| Run { depth: blocks, ..base(depth(c, blocks), lr, least) }));
    }
    all.extend(c.lrs.iter().map(|&lr| Run { mu: MuParam::Simple, ..base(mu(c, widest), lr, widest) }));
    all.extend(c.high_lrs().iter().map(|&lr| Run { norm: Norm::Pointwise, ..base(POINTWISE.into(), lr, middle) }));
    for &kappa in &c.kappas {
        all.push(Run { norm: Norm::Fixed(kappa), ..base(fixed(kappa), c.middle_lr, middle) });
    }
    let undecayed_recipe = Recipe { decay: Decay::Independent(0.0), ..Recipe::default() };
    for &lr in &c.long_lrs {
        for z in [false, true] {
            all.push(Run {
                steps: c.long,
                recipe: undecayed_recipe,
                z_loss: if z { c.z_loss } else { 0.0 },
                ..base(undecayed(z), lr, least)
            });
        }
    }
    all.push(Run { with_epsilon: true, ..base(EPSILON.into(), c.middle_lr, least) });
    all
}

/// The learning rate of the trend over sizes: the second highest.
pub fn trend_lr(c: &Config) -> f64 {
    c.high_lrs()[0]
}
