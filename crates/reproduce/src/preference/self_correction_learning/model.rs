//! A decoder that sees two digits, and questions about them.

use super::super::language::{LmSize, Policy, Sequences};
use anyhow::Result;
use autodidact_core::landscape::load_state_dict;
use autodidact_core::nn::PatchEmbedding;
use autodidact_core::optim::StateDict;
use autodidact_core::text::{Sampler, SamplerConfig, pad, response_log_probs_after};
use autodidact_core::{Result as CoreResult, seed};
use autodidact_datasets::image::ImageSet;
use autodidact_datasets::synthetic::{DigitPairs, VisualQuestion};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Side of a patch: eight of them in front of the text.
const PATCH: i64 = 4;
/// Deviation of a decoder's fresh embeddings.
const GPT_DEVIATION: f64 = 0.02;
/// Rows of one pass without gradients.
const AT_ONCE: i64 = 1024;

/// The language model, with a linear map of patches of the image to embeddings in front of its tokens (the decoder's learned positions
/// tell patches apart).
pub(super) struct Vlm {
    pub policy: Policy,
    patches: PatchEmbedding,
}

impl Vlm {
    /// Fresh weights from a seed; embeddings with a deviation of 1/sqrt(width).
    pub fn new(lm: LmSize, seed: u64, device: Device) -> Result<Self> {
        let policy = Policy::new(lm, VisualQuestion::VOCAB, seed, device)?;
        let width = policy.model.config().width;
        let patches = PatchEmbedding::new(policy.vs.root() / "patches", 1, PATCH, width)?;
        // To choose a letter, the result has to find its equal among the options. Embeddings of the usual deviation, 0.02, lose what
        // tells them apart in the first steps of so narrow a network, and the search is learned late or never.
        let scale = 1.0 / (GPT_DEVIATION * (width as f64).sqrt());
        tch::no_grad(|| {
            for (name, mut weights) in policy.model.parameters() {
                if ["tokens.weight", "positions"].contains(&name.as_str()) {
                    let _ = weights.g_mul_scalar_(scale);
                }
            }
        });
        Ok(Self { policy, patches })
    }

    /// Given weights.
    pub fn with(lm: LmSize, weights: &StateDict, device: Device) -> Result<Self> {
        let model = Self::new(lm, 0, device)?;
        load_state_dict(&model.policy.vs, weights)?;
        Ok(model)
    }

    /// Log-probabilities of the tokens that count, `[N, T]`, with gradients.
    pub fn token_log_probs(&self, images: &Tensor, text: &Sequences) -> CoreResult<Tensor> {
        let seen = self.patches.forward(images)?;
        response_log_probs_after(&self.policy.model, &seen, &text.tokens, &text.response)
    }

    /// Sums over them, `[N]`.
    pub fn log_probs(&self, images: &Tensor, text: &Sequences) -> CoreResult<Tensor> {
        Ok(self.token_log_probs(images, text)?.sum_dim_intlist([1i64].as_slice(), false, Kind::Float))
    }

    /// The same without gradients, however many there are.
    pub fn scores(&self, images: &Tensor, text: &Sequences) -> CoreResult<Tensor> {
        let count = images.size()[0];
        tch::no_grad(|| {
            let parts = (0..count).step_by(AT_ONCE as usize).map(|from| {
                let narrow = |t: &Tensor| t.narrow(0, from, AT_ONCE.min(count - from));
                let text = Sequences { tokens: narrow(&text.tokens), response: narrow(&text.response) };
                self.log_probs(&narrow(images), &text)
            });
            Ok(Tensor::cat(&parts.collect::<CoreResult<Vec<_>>>()?, 0))
        })
    }

    /// One answer to each context, ends included where there are any; 0 is the greedy temperature. Contexts of one length are answered
    /// together.
    pub fn answers(
        &self,
        images: &Tensor,
        contexts: &[Vec<i64>],
        temperature: f64,
        seed: u64,
    ) -> CoreResult<Vec<Vec<i64>>> {
        seed::seed_torch(seed, &["sample"]);
        let (max_new, padding) = (VisualQuestion::MOST as i64, VisualQuestion::PAD);
        let stop = vec![VisualQuestion::EOS];
        let sampler = Sampler::new(
            &self.policy.model,
            SamplerConfig { max_new, temperature, stop, padding, ..SamplerConfig::default() },
        )?;
        let mut by_length: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
        for (i, context) in contexts.iter().enumerate() {
            by_length.entry(context.len()).or_default().push(i as i64);
        }
        let mut out = vec![vec![]; contexts.len()];
        for rows in by_length.values().flat_map(|rows| rows.chunks(AT_ONCE as usize)) {
            let said: Vec<Vec<i64>> = rows.iter().map(|&i| contexts[i as usize].clone()).collect();
            let (tokens, _) = pad(&said, padding, images.device())?;
            let index = Tensor::from_slice(rows).to_device(images.device());
            let prompts = tch::no_grad(|| -> CoreResult<Tensor> {
                let seen = self.patches.forward(&images.index_select(0, &index))?;
                Ok(Tensor::cat(&[seen, self.policy.model.embed(&tokens)?], 1))
            })?;
            let new = sampler.sample_embedded(&prompts)?.to_device(Device::Cpu);
            let width = new.size()[1] as usize;
            let new: Vec<i64> = new.reshape([-1]).try_into()?;
            for (&i, row) in rows.iter().zip(new.chunks(width)) {
                let count = row.iter().position(|&t| t == VisualQuestion::EOS).map_or(width, |end| end + 1);
                out[i as usize] = row[..count].to_vec();
            }
        }
        Ok(out)
    }
}

/// Questions with their images.
pub(super) struct Quiz {
    pub questions: Vec<VisualQuestion>,
    /// `[N, 1, 8, 16]`.
    pub images: Tensor,
}

impl Quiz {
    /// Random questions about random pairs of images of a set.
    pub fn draw(set: &ImageSet, count: usize, rng: &mut seed::Rng, device: Device) -> CoreResult<Self> {
        let pairs = DigitPairs::draw(set, count, rng)?;
        let questions = pairs.digits.iter().map(|&d| VisualQuestion::draw(d, rng)).collect::<CoreResult<_>>()?;
        Ok(Self { questions, images: pairs.images.to_device(device) })
    }

    pub fn prompts(&self) -> Vec<Vec<i64>> {
        self.questions.iter().map(VisualQuestion::tokens).collect()
    }

    /// Whether each answer is right.
    pub fn right(&self, answers: &[Vec<i64>]) -> Vec<bool> {
        self.questions.iter().zip(answers).map(|(q, a)| q.is_right(a)).collect()
    }

    /// Percent of right answers.
    pub fn accuracy(&self, answers: &[Vec<i64>]) -> f64 {
        percent(&self.right(answers))
    }
}

/// Percent of what is true.
pub(super) fn percent(flags: &[bool]) -> f64 {
    100.0 * flags.iter().filter(|&&f| f).count() as f64 / flags.len().max(1) as f64
}

/// Texts made of parts that count or do not.
pub(super) fn texts(rows: &[Vec<(Vec<i64>, bool)>], device: Device) -> CoreResult<Sequences> {
    let tokens: Vec<Vec<i64>> =
        rows.iter().map(|row| row.iter().flat_map(|(t, _)| t.iter().copied()).collect()).collect();
    let counted: Vec<Vec<i64>> =
        rows.iter().map(|row| row.iter().flat_map(|(t, c)| vec![i64::from(*c); t.len()]).collect()).collect();
    let (tokens, _) = pad(&tokens, VisualQuestion::PAD, device)?;
    Ok(Sequences { tokens, response: pad(&counted, 0, device)?.0.to_kind(Kind::Bool) })
}
