//! Batched sampling from a language model with the key-value cache.

use crate::error::check_range;
use crate::nn::{Gpt, KvCache};
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// How tokens are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerConfig {
    /// Most new tokens.
    pub max_new: i64,
    /// Softmax temperature; 0 takes the most probable token.
    pub temperature: f64,
    /// Only the `k` most probable tokens.
    pub top_k: Option<i64>,
    /// Only the smallest set of most probable tokens whose probabilities sum to at least this (nucleus sampling).
    pub top_p: Option<f64>,
    /// A sequence ends after any of these.
    pub stop: Vec<i64>,
    /// Fills the places after a sequence's end.
    pub padding: i64,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self { max_new: 64, temperature: 1.0, top_k: None, top_p: None, stop: vec![], padding: 0 }
    }
}

/// Draws continuations of prompts.
#[derive(Debug)]
pub struct Sampler<'a> {
    model: &'a Gpt,
    config: SamplerConfig,
}

impl<'a> Sampler<'a> {
    /// A sampler of a model.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn new(model: &'a Gpt, config: SamplerConfig) -> Result<Self> {
        check_range("temperature", config.temperature, 0.0..)?;
        if let Some(p) = config.top_p {
            check_range("top_p", p, f64::MIN_POSITIVE..=1.0)?;
        }
        if config.top_k.is_some_and(|k| k < 1) || config.max_new < 1 {
            return Err(Error::value("top_k and max_new", "at least 1", format!("{config:?}")));
        }
        Ok(Self { model, config })
    }

    /// Continues each row of `prompts [B, T]` (equal lengths): `[B, new]` with `new <= max_new`, padded after a stop token.
    /// Finished rows leave the batch, and sampling ends with the last. Draws come from libtorch's generator.
    ///
    /// # Errors
    /// Prompts of another type, or prompt and continuation longer than the model's context.
    pub fn sample(&self, prompts: &Tensor) -> Result<Tensor> {
        prompts.size2()?;
        self.sample_embedded(&self.embed(prompts)?)
    }

    /// As [`sample`](Self::sample) for prompts given as embeddings `[B, T, width]` (without positions: [`Gpt::embed`]), where something
    /// else than tokens is part of them.
    ///
    /// # Errors
    /// Prompts of another shape, or prompt and continuation longer than the model's context.
    pub fn sample_embedded(&self, prompts: &Tensor) -> Result<Tensor> {
        let (batch, length, _) = prompts.size3()?;
        if length == 0 {
            return Err(Error::shape("prompts", "at least one token each", prompts));
        }
        let cache = self.model.cache_with_capacity(batch, length + self.config.max_new, prompts.device());
        tch::no_grad(|| self.run(prompts, cache))
    }

    /// Continues prompts of different lengths, padded on the left ([`pad_left`](super::pad_left)): `prompts [B, T]` and a mask `[B, T]`
    /// (bool) of the real tokens. Padding is never attended to, and positions count from a row's first token, so that a row's most
    /// probable continuation is the one that [`sample`](Self::sample) gives it alone.
    ///
    /// # Errors
    /// As [`sample`](Self::sample); a mask of another shape or type, one with padding after a token, or a row without tokens.
    pub fn sample_padded(&self, prompts: &Tensor, mask: &Tensor) -> Result<Tensor> {
        prompts.size2()?;
        self.sample_embedded_padded(&self.embed(prompts)?, mask)
    }

    /// As [`sample_padded`](Self::sample_padded) for prompts given as embeddings `[B, T, width]`; those in the padding are not read.
    ///
    /// # Errors
    /// As [`sample_embedded`](Self::sample_embedded) and [`sample_padded`](Self::sample_padded).
    pub fn sample_embedded_padded(&self, prompts: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (batch, length, _) = prompts.size3()?;
        if mask.size() != [batch, length] || mask.kind() != Kind::Bool {
            return Err(Error::shape("mask of the prompts", format!("Bool {:?}", [batch, length]), mask));
        }
        let padding = mask.logical_not().sum_dim_intlist(1, false, Kind::Int64);
        let left = Tensor::arange(length, (Kind::Int64, mask.device())).ge_tensor(&padding.unsqueeze(1));
        if length == 0 || left != *mask || padding.max().int64_value(&[]) == length {
            return Err(Error::value("mask of the prompts", "padding on the left, then one token or more", "another"));
        }
        if padding.max().int64_value(&[]) == 0 {
            return self.sample_embedded(prompts);
        }
        let capacity = length + self.config.max_new;
        tch::no_grad(|| self.run(prompts, self.model.cache_after_padding(&padding, capacity)))
    }

    fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.model.embed(tokens))
    }

    fn run(&self, prompts: &Tensor, mut cache: KvCache) -> Result<Tensor> {
        let (batch, _, _) = prompts.size3()?;
        let options = (Kind::Int64, prompts.device());
        let out = Tensor::full([batch, self.config.max_new], self.config.padding, options);
        // Rows of the result that are still growing.
        let mut rows = Tensor::arange(batch, options);
        let mut input = prompts.shallow_clone();
        let stop = Tensor::from_slice(&self.config.stop).to_device(prompts.device());
        let mut length = 0;
        for at in 0..self.config.max_new {
            let hidden = self.model.hidden_of_embeddings(&input, Some(&mut cache))?;
            let mut next = self.choose(&self.model.project(&hidden.select(1, -1)));
            let _ = out.select(1, at).index_put_(&[Some(&rows)], &next, false);
            length = at + 1;
            if !self.config.stop.is_empty() {
                let going: Vec<bool> = next.unsqueeze(1).ne_tensor(&stop).all_dim(1, false).try_into()?;
                if !going.contains(&true) {
                    break;
                }
                if going.contains(&false) {
                    let kept = Tensor::from_slice(&cache.retain(&going)?).to_device(prompts.device());
                    rows = rows.index_select(0, &kept);
                    next = next.index_select(0, &kept);
                }
            }
            input = self.model.embed(&next.unsqueeze(1))?;
        }
        Ok(out.narrow(1, 0, length))
    }

    /// A token per row of `logits [B, V]`.
    fn choose(&self, logits: &Tensor) -> Tensor {
        if self.config.temperature == 0.0 {
            return logits.argmax(1, false);
        }
        let mut logits = logits.to_kind(Kind::Float) / self.config.temperature;
        if let Some(k) = self.config.top_k.filter(|&k| k < logits.size()[1]) {
            let smallest = logits.topk(k, 1, true, true).0.narrow(1, k - 1, 1);
            logits = logits.masked_fill(&logits.less_tensor(&smallest), f64::NEG_INFINITY);
        }
        if let Some(p) = self.config.top_p.filter(|&p| p < 1.0) {
            let (sorted, order) = logits.sort(1, true);
            let probability = sorted.softmax(1, Kind::Float);
            // A token stays while those before it have not reached p, so the first always does.
            let before = probability.cumsum(1, Kind::Float) - &probability;
            let dropped = before.ge(p).scatter(1, &order, &before.ge(p));
            logits = logits.masked_fill(&dropped, f64::NEG_INFINITY);
        }
        logits.softmax(1, Kind::Float).multinomial(1, true).squeeze_dim(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::GptConfig;
    use tch::{Device, nn::VarStore};

    fn model() -> (VarStore, Gpt) {
        tch::manual_seed(11);
        let vs = VarStore::new(Device::Cpu);
        let model = Gpt::new(vs.root(), &GptConfig::gpt2(7, 24, 16, 2, 2)).unwrap();
        tch::no_grad(|| {
            vs.trainable_variables().iter_mut().filter(|t| t.dim() > 1).for_each(|t| drop(t.g_mul_scalar_(30.0)))
        });
        (vs, model)
    }

    #[test]
    fn greedy_sampling_equals_recomputing_every_prefix() {
        let (_vs, model) = model();
        let prompts = Tensor::randint(7, [3, 4], (Kind::Int64, Device::Cpu));
        let config = SamplerConfig { max_new: 10, temperature: 0.0, ..Default::default() };
        let new = Sampler::new(&model, config).unwrap().sample(&prompts).unwrap();
        let mut all = prompts.shallow_clone();
        for _ in 0..10 {
            let next = model.logits(&all, None).unwrap().select(1, -1).argmax(1, true);
            all = Tensor::cat(&[all, next], 1);
        }
        assert_eq!(new, all.narrow(1, 4, 10));
    }

    #[test]
    fn padded_prompts_are_continued_as_each_is_alone() {
        let (_vs, model) = model();
        let prompts = [vec![1, 2, 3, 4, 5, 6], vec![6, 1], vec![3, 3, 0, 5], vec![2]];
        let (padded, mask) = crate::text::pad_left(&prompts, 0, Device::Cpu).unwrap();
        let greedy = |stop| SamplerConfig { max_new: 12, temperature: 0.0, padding: -1, stop, ..Default::default() };
        let free = Sampler::new(&model, greedy(vec![])).unwrap().sample_padded(&padded, &mask).unwrap();
        // With a stop token, rows leave the batch at different times.
        for stop in [vec![], vec![free.int64_value(&[1, 1])], vec![free.int64_value(&[0, 4])]] {
            let sampler = Sampler::new(&model, greedy(stop)).unwrap();
            let together = sampler.sample_padded(&padded, &mask).unwrap();
            for (i, prompt) in prompts.iter().enumerate() {
                let alone: Vec<i64> =
                    sampler.sample(&Tensor::from_slice(prompt).unsqueeze(0)).unwrap().view(-1).try_into().unwrap();
                let got: Vec<i64> = together.get(i as i64).try_into().unwrap();
                assert_eq!(got[..alone.len()], alone, "row {i}");
                assert!(got[alone.len()..].iter().all(|&t| t == -1), "row {i}");
            }
        }
    }

    #[test]
    fn masks_that_are_not_left_padding_are_errors() {
        let (_vs, model) = model();
        let sampler = Sampler::new(&model, SamplerConfig::default()).unwrap();
        let prompts = Tensor::zeros([2, 3], (Kind::Int64, Device::Cpu));
        let mask = |m: [bool; 6]| Tensor::from_slice(&m).view([2, 3]);
        for m in [[true, true, true, true, false, true], [true, true, true, false, false, false]] {
            let e = sampler.sample_padded(&prompts, &mask(m)).unwrap_err();
            assert!(e.to_string().contains("padding on the left"), "{e}");
        }
        let e = sampler.sample_padded(&prompts, &mask([true; 6]).narrow(1, 0, 2)).unwrap_err();
        assert!(e.to_string().contains("Bool [2, 3]"), "{e}");
        let long = SamplerConfig { max_new: 30, ..Default::default() };
        assert!(
            Sampler::new(&model, long).unwrap().sample(&prompts).unwrap_err().to_string().contains("context of 24")
        );
    }

    #[test]
    fn rows_stop_at_a_stop_token_and_the_others_go_on_unchanged() {
        let (_vs, model) = model();
        let prompts = Tensor::randint(7, [6, 3], (Kind::Int64, Device::Cpu));
        let greedy = SamplerConfig { max_new: 12, temperature: 0.0, padding: -1, ..Default::default() };
        let free = Sampler::new(&model, greedy.clone()).unwrap().sample(&prompts).unwrap();
        let stop = free.int64_value(&[0, 2]);
        let stopped =
            Sampler::new(&model, SamplerConfig { stop: vec![stop], ..greedy }).unwrap().sample(&prompts).unwrap();
        for row in 0..6 {
            let free: Vec<i64> = free.get(row).try_into().unwrap();
            let got: Vec<i64> = stopped.get(row).try_into().unwrap();
            let end = free.iter().position(|&t| t == stop).map_or(free.len(), |p| p + 1);
            for (i, &t) in got.iter().enumerate() {
                assert_eq!(t, if i < end { free[i] } else { -1 }, "row {row}, place {i}");
            }
        }
    }

    #[test]
    fn filters_keep_the_tokens_they_should() {
        let (_vs, model) = model();
        let logits = Tensor::from_slice(&[0.5f32, 0.3, 0.15, 0.05]).log().view([1, 4]).expand([2000, 4], false);
        let counts = |top_k, top_p| {
            tch::manual_seed(5);
            let config = SamplerConfig { top_k, top_p, ..Default::default() };
            let drawn = Sampler::new(&model, config).unwrap().choose(&logits);
            Vec::<i64>::try_from(drawn.bincount::<Tensor>(None, 4)).unwrap()
        };
        let k = counts(Some(2), None);
        assert!(k[2] == 0 && k[3] == 0 && (k[0] as f64 / 2000.0 - 0.625).abs() < 0.05, "{k:?}");
        let p = counts(None, Some(0.8));
        assert!(p[1] > 0 && p[2] == 0 && p[3] == 0, "{p:?}");
        let p = counts(None, Some(0.81));
        assert!(p[2] > 0 && p[3] == 0, "{p:?}");
    }
}
