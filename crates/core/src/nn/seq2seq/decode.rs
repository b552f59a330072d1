//! Greedy and beam decoding, batched, with a cache of keys and values.

use super::blocks::Memory;
use super::{Encoded, Seq2Seq};
use crate::error::check_range;
use crate::nn::KvCache;
use crate::{Error, Result};
use tch::nn::Module;
use tch::{Kind, Tensor};

/// How beams are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeamConfig {
    /// Hypotheses of each source that are followed.
    pub beams: i64,
    /// Most tokens of a hypothesis, its end included.
    pub max_len: i64,
    /// `alpha` of the length penalty: scores are log-probabilities over `((5 + length)/6)^alpha` (Wu et al., 2016, arXiv 1609.08144);
    /// 0 for none.
    pub length_penalty: f64,
}

impl Default for BeamConfig {
    /// Four beams, penalty 0.6, at most 128 tokens.
    fn default() -> Self {
        Self { beams: 4, max_len: 128, length_penalty: 0.6 }
    }
}

impl BeamConfig {
    fn check(&self, model: &Seq2Seq) -> Result<()> {
        let c = &model.config;
        check_range("beams", self.beams as f64, 1.0..=c.target_vocab as f64 / 2.0)?;
        check_range("most tokens", self.max_len as f64, 1.0..=c.context as f64)?;
        check_range("length penalty", self.length_penalty, 0.0..)
    }

    fn score(&self, log_prob: f64, length: usize) -> f64 {
        log_prob / ((5.0 + length as f64) / 6.0).powf(self.length_penalty)
    }
}

/// A decoded target.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without the end.
    pub tokens: Vec<i64>,
    /// Log-probability in nats, of the end too where it was reached.
    pub log_prob: f64,
    /// What it was ranked by.
    pub score: f64,
}

/// The decoder's state between tokens.
struct State {
    cache: KvCache,
    memories: Vec<Memory>,
    mask: Option<Tensor>,
}

impl State {
    fn new(model: &Seq2Seq, encoded: &Encoded, capacity: i64) -> Self {
        let states = &encoded.states;
        let options = (states.kind(), states.device());
        let config = model.config.attention(true);
        Self {
            cache: KvCache::new(model.decoder.len(), states.size()[0], &config, capacity, options),
            memories: model.decoder.iter().map(|block| block.memory(states)).collect(),
            mask: encoded.mask.as_ref().map(Tensor::shallow_clone),
        }
    }

    /// Keeps rows of sources (not of the cache).
    fn select_sources(&mut self, rows: &Tensor) {
        self.memories.iter_mut().for_each(|m| *m = m.select(rows));
        self.mask = self.mask.as_ref().map(|m| m.index_select(0, rows));
    }
}

impl Seq2Seq {
    /// Logits `[B, V]` of the token behind `last [B]`.
    fn next(&self, state: &mut State, last: &Tensor) -> Result<Tensor> {
        let past = state.cache.len;
        let mut x = self.embed(&self.target, &last.unsqueeze(1), past, false)?;
        for ((block, memory), cache) in self.decoder.iter().zip(&state.memories).zip(&mut state.cache.layers) {
            x = block.forward(&x, memory, state.mask.as_ref(), past, Some(cache), |x| x);
        }
        state.cache.len += 1;
        Ok(self.decoder_norm.forward(&x).squeeze_dim(1).matmul(&self.head.tr()))
    }

    /// The most probable token again and again, at most `max_len` of them, for each source; the end is not part of the result. Finished
    /// rows leave the batch, and decoding ends with the last.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); more tokens than the context.
    pub fn greedy(&self, source: &Tensor, mask: Option<&Tensor>, max_len: i64) -> Result<Vec<Vec<i64>>> {
        check_range("most tokens", max_len as f64, 1.0..=self.config.context as f64)?;
        tch::no_grad(|| {
            let mut state = State::new(self, &self.encode(source, mask, false)?, max_len);
            let (batch, device) = (source.size()[0], source.device());
            let mut out = vec![vec![]; batch as usize];
            // Rows of the result that are still growing.
            let mut rows: Vec<usize> = (0..batch as usize).collect();
            let mut last = Tensor::full([batch], self.config.start, (Kind::Int64, device));
            for _ in 0..max_len {
                last = self.next(&mut state, &last)?.argmax(1, false);
                let tokens = Vec::<i64>::try_from(&last)?;
                let going: Vec<bool> = tokens.iter().map(|&t| t != self.config.end).collect();
                for ((row, token), _) in rows.iter().zip(&tokens).zip(&going).filter(|(_, going)| **going) {
                    out[*row].push(*token);
                }
                if !going.contains(&true) {
                    break;
                }
                if going.contains(&false) {
                    let kept = state.cache.retain(&going)?;
                    rows = kept.iter().map(|&k| rows[k as usize]).collect();
                    let kept = Tensor::from_slice(&kept).to_device(device);
                    state.select_sources(&kept);
                    last = last.index_select(0, &kept);
                }
            }
            Ok(out)
        })
    }

    /// The best hypothesis of beam search for each source. A source is finished when no hypothesis that is followed has a better score than
    /// the worst of as many finished ones as there are beams; it then leaves the batch.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); settings out of range.
    pub fn beam(&self, source: &Tensor, mask: Option<&Tensor>, config: &BeamConfig) -> Result<Vec<Hypothesis>> {
        config.check(self)?;
        tch::no_grad(|| Search::new(self, self.encode(source, mask, false)?, config).run())
    }
}

/// One source's hypotheses: followed and finished.
struct Beams {
    source: usize,
    followed: Vec<(Vec<i64>, f64)>,
    finished: Vec<Hypothesis>,
}

impl Beams {
    /// Adds a finished hypothesis; only the best are kept.
    fn finish(&mut self, tokens: Vec<i64>, log_prob: f64, length: usize, config: &BeamConfig) {
        self.finished.push(Hypothesis { tokens, log_prob, score: config.score(log_prob, length) });
        self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.finished.truncate(config.beams as usize);
    }

    fn is_done(&self, config: &BeamConfig) -> bool {
        let Some(worst) = self.finished.last().filter(|_| self.finished.len() as i64 >= config.beams) else {
            return false;
        };
        let best = self.followed.iter().map(|(tokens, l)| config.score(*l, tokens.len())).fold(f64::MIN, f64::max);
        best <= worst.score
    }
}

struct Search<'a> {
    model: &'a Seq2Seq,
    config: &'a BeamConfig,
    state: State,
    /// Sources that are not done, in the order of the rows; each has `beams` rows.
    open: Vec<Beams>,
    best: Vec<Option<Hypothesis>>,
}

impl<'a> Search<'a> {
    fn new(model: &'a Seq2Seq, encoded: Encoded, config: &'a BeamConfig) -> Self {
        let (batch, k) = (encoded.states.size()[0], config.beams);
        let repeat = |t: &Tensor| t.repeat_interleave_self_int(k, 0, None);
        let encoded = Encoded { states: repeat(&encoded.states), mask: encoded.mask.as_ref().map(repeat) };
        // At first all rows of a source are the same, and only one counts.
        let start = || (0..k).map(|i| (vec![], if i == 0 { 0.0 } else { f64::NEG_INFINITY })).collect();
        let beams = |source| Beams { source, followed: start(), finished: vec![] };
        Self {
            model,
            config,
            state: State::new(model, &encoded, config.max_len),
            open: (0..batch as usize).map(beams).collect(),
            best: vec![None; batch as usize],
        }
    }

    fn run(mut self) -> Result<Vec<Hypothesis>> {
        let device = self.state.cache.layers.first().map_or(self.model.head.device(), |l| l.0.device());
        let rows = self.open.len() as i64 * self.config.beams;
        let mut last = Tensor::full([rows], self.model.config.start, (Kind::Int64, device));
        for length in 1..=self.config.max_len as usize {
            let logits = self.model.next(&mut self.state, &last)?;
            let (kept, tokens) = self.extend(&logits, length)?;
            if kept.is_empty() {
                break;
            }
            let kept = Tensor::from_slice(&kept).to_device(device);
            self.state.cache.select(&kept);
            self.state.select_sources(&kept);
            last = Tensor::from_slice(&tokens).to_device(device);
        }
        // Where no hypothesis has ended, the best so far is taken.
        for beams in std::mem::take(&mut self.open) {
            self.close(beams);
        }
        let none = || Error::Failed("beam search ended without a hypothesis: the logits are not finite".into());
        self.best.into_iter().map(|h| h.ok_or_else(none)).collect()
    }

    /// Each followed hypothesis by one token; rows of the cache to keep, and their tokens.
    fn extend(&mut self, logits: &Tensor, length: usize) -> Result<(Vec<i64>, Vec<i64>)> {
        let (k, vocab) = (self.config.beams, self.model.config.target_vocab);
        let sums: Vec<f64> = self.open.iter().flat_map(|b| b.followed.iter().map(|f| f.1)).collect();
        let sums = Tensor::from_slice(&sums).to_device(logits.device()).unsqueeze(1);
        let all = (logits.log_softmax(1, Kind::Double) + sums).view([-1, k * vocab]);
        // Twice as many as beams: at most one a beam ends.
        let (values, places) = all.topk(2 * k, 1, true, true);
        let (values, places) = (Vec::<f64>::try_from(values.view(-1))?, Vec::<i64>::try_from(places.view(-1))?);
        let (mut kept, mut tokens) = (vec![], vec![]);
        let open = std::mem::take(&mut self.open);
        for (i, mut beams) in open.into_iter().enumerate() {
            let from = 2 * k as usize * i;
            let candidates = values[from..].iter().zip(&places[from..]).take(2 * k as usize);
            let (mut followed, mut rows, mut next) = (vec![], vec![], vec![]);
            for (rank, (&value, &place)) in candidates.enumerate() {
                let (beam, token) = ((place / vocab) as usize, place % vocab);
                if !value.is_finite() || followed.len() as i64 == k {
                    continue;
                }
                let mut grown = beams.followed[beam].0.clone();
                if token == self.model.config.end {
                    if (rank as i64) < k {
                        beams.finish(grown, value, length, self.config);
                    }
                    continue;
                }
                grown.push(token);
                followed.push((grown, value));
                rows.push(i as i64 * k + beam as i64);
                next.push(token);
            }
            let enough = followed.len() as i64 == k;
            beams.followed = followed;
            if !enough || beams.is_done(self.config) {
                self.close(beams);
                continue;
            }
            self.open.push(beams);
            kept.extend(rows);
            tokens.extend(next);
        }
        Ok((kept, tokens))
    }

    fn close(&mut self, mut beams: Beams) {
        if beams.finished.is_empty() {
            for (tokens, log_prob) in std::mem::take(&mut beams.followed) {
                let length = tokens.len();
                beams.finish(tokens, log_prob, length, self.config);
            }
        }
        self.best[beams.source] = beams.finished.into_iter().next();
    }
}
