//! What a language model computes inside, for monitors of training.

use super::Gpt;
use crate::Result;
use tch::Tensor;

/// What one block computed.
#[derive(Debug)]
pub struct BlockTrace {
    /// Queries as they are multiplied (after norm and rotation), `[B, heads, T, head]`.
    pub queries: Tensor,
    /// Keys likewise, `[B, kv heads, T, head]`.
    pub keys: Tensor,
    /// Factor on their products.
    pub scale: f64,
    /// The block's output, the residual stream behind it, `[B, T, width]`.
    pub output: Tensor,
}

impl Gpt {
    /// [`hidden`](Self::hidden) without a cache, and what each block computed on the way. The tensors are those of the pass itself, with
    /// their graph: a training step that looks at them costs no second pass.
    ///
    /// ```
    /// use autodidact_core::nn::{Gpt, GptConfig};
    /// use tch::{Device, Tensor, nn::VarStore};
    /// let vs = VarStore::new(Device::Cpu);
    /// let model = Gpt::new(vs.root(), &GptConfig::gpt2(10, 8, 16, 2, 4)).unwrap();
    /// let tokens = Tensor::from_slice(&[1i64, 2, 3]).view([1, 3]);
    /// let (hidden, blocks) = model.hidden_traced(&tokens).unwrap();
    /// assert_eq!(hidden, model.hidden(&tokens, None).unwrap());
    /// assert_eq!((blocks.len(), blocks[0].queries.size()), (2, vec![1, 4, 3, 4]));
    /// ```
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn hidden_traced(&self, tokens: &Tensor) -> Result<(Tensor, Vec<BlockTrace>)> {
        let mut traces = Vec::with_capacity(self.blocks.len());
        let hidden = self.run(&self.embed(tokens)?, None, Some(&mut traces))?;
        Ok((hidden, traces))
    }
}

#[cfg(test)]
mod tests {
    use crate::nn::{AttentionScores, AttentionWeights, Gpt, GptConfig, QkNorm, ScoreScale, TransformerNorm};
    use crate::testing::assert_close;
    use std::collections::BTreeMap;
    use tch::nn::VarStore;
    use tch::{Device, Kind, Tensor};

    fn base() -> GptConfig {
        GptConfig { norm: TransformerNorm::LayerGain, ..GptConfig::llama(11, 12, 16, 2, (4, 2), 24) }
    }

    fn model(scores: AttentionScores) -> (VarStore, Gpt, Tensor) {
        tch::manual_seed(7);
        let vs = VarStore::new(Device::Cpu);
        let model = Gpt::new(vs.root(), &GptConfig { scores, ..base() }).unwrap();
        tch::no_grad(|| {
            for mut t in vs.trainable_variables().into_iter().filter(|t| t.dim() > 1) {
                let _ = t.g_mul_scalar_(20.0);
            }
        });
        (vs, model, Tensor::randint(11, [2, 9], (Kind::Int64, Device::Cpu)))
    }

    const PER_HEAD: QkNorm = QkNorm::PerHead { eps: 1e-6 };

    #[test]
    fn norms_change_no_draw_and_plain_products_agree_with_the_fused_kernel() {
        let plain = model(AttentionScores::default()).0.variables();
        for scale in [ScoreScale::InvSqrt, ScoreScale::Inv] {
            for norm in [QkNorm::None, PER_HEAD, QkNorm::Whole { eps: 1e-6 }, QkNorm::Fixed { kappa: 3.0 }] {
                let scores = AttentionScores { norm, scale, ..AttentionScores::default() };
                let (vs, fused, tokens) = model(scores);
                for (name, t) in &plain {
                    assert_eq!(*t, vs.variables()[name], "{name}");
                }
                assert_eq!(fused.parameters(), vs.variables().into_iter().collect::<BTreeMap<_, _>>());
                let (_vs, matrices, _) = model(AttentionScores { fused: false, ..scores });
                let want = fused.logits(&tokens, None).unwrap();
                assert_close("logits", &matrices.logits(&tokens, None).unwrap(), &want, 1e-4);
                // The cache holds keys after the norm.
                let mut cache = fused.cache(2, Device::Cpu);
                let parts = [(0, 5), (5, 1), (6, 3)]
                    .map(|(from, len)| fused.logits(&tokens.narrow(1, from, len), Some(&mut cache)).unwrap());
                assert_close("cached", &Tensor::cat(&parts, 1), &want, 1e-4);
            }
        }
    }

    #[test]
    fn normalised_queries_and_keys_bound_the_scores_and_forget_their_scale() {
        let (vs, model_, tokens) = model(AttentionScores { norm: PER_HEAD, ..AttentionScores::default() });
        let largest = || {
            let (_, traces) = model_.hidden_traced(&tokens).unwrap();
            let t = &traces[1];
            let keys = t.keys.repeat_interleave_self_int(2, 1, None);
            (t.queries.matmul(&keys.transpose(-1, -2)) * t.scale).abs().max().double_value(&[])
        };
        // Heads of width 4: at most 2.
        assert!(largest() <= 2.0 + 1e-5);
        let before = model_.logits(&tokens, None).unwrap();
        tch::no_grad(|| {
            let qkv = vs.variables()["blocks.0.attention.qkv.weight"].shallow_clone();
            let _ = qkv.narrow(0, 0, 24).g_mul_scalar_(50.0); // queries and keys
        });
        assert_close("logits", &model_.logits(&tokens, None).unwrap(), &before, 1e-3);
        // The gain is that of the scores.
        let _ = tch::no_grad(|| vs.variables()["blocks.1.attention.q_norm.weight"].shallow_clone().fill_(10.0));
        assert!(largest() > 2.0);
    }

    #[test]
    fn fixed_norms_set_the_order_of_the_scores() {
        let (_vs, model, tokens) =
            model(AttentionScores { norm: QkNorm::Fixed { kappa: 100.0 }, ..AttentionScores::default() });
        let (_, traces) = model.hidden_traced(&tokens).unwrap();
        let mean = traces[0].queries.square().mean(Kind::Double).double_value(&[]);
        assert!((mean - 100.0).abs() < 1e-2, "{mean}");
    }

    #[test]
    fn pointwise_attention_sees_nothing_later_and_agrees_with_its_formula() {
        let (_vs, model, tokens) = model(AttentionScores {
            weights: AttentionWeights::SquaredRelu { length: 9 },
            ..AttentionScores::default()
        });
        let early = model.logits(&tokens.narrow(1, 0, 5), None).unwrap();
        assert_close("earlier", &model.logits(&tokens, None).unwrap().narrow(1, 0, 5), &early, 1e-4);
        let [q, k, v] = [[3f32, 1.0], [2.0, -1.0], [5.0, 7.0]].map(|r| Tensor::from_slice(&r).view([1, 1, 2, 1]));
        let scores =
            AttentionScores { weights: AttentionWeights::SquaredRelu { length: 4 }, ..AttentionScores::default() };
        let y = scores.attend([&q, &k, &v], &super::super::Place::default(), true, false);
        // Place 0: 6^2 * 5 / 2. Place 1: (2^2 * 5 + 0 * 7) / 2.
        assert_eq!(y.view(-1), Tensor::from_slice(&[90f32, 10.0]));
    }

    #[test]
    fn settings_out_of_range_are_errors() {
        let vs = VarStore::new(Device::Cpu);
        let said = |scores| Gpt::new(vs.root(), &GptConfig { scores, ..base() }).unwrap_err().to_string();
        let of = |norm| AttentionScores { norm, ..AttentionScores::default() };
        assert!(said(of(QkNorm::Fixed { kappa: 0.0 })).contains("kappa"));
        assert!(said(of(QkNorm::PerHead { eps: -1.0 })).contains("eps"));
        let weights = AttentionWeights::SquaredRelu { length: 0 };
        assert!(said(AttentionScores { weights, ..AttentionScores::default() }).contains("pointwise"));
    }
}
