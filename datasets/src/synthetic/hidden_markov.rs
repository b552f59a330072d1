//! Sequences of a hidden Markov model, whose probabilities are known.

use autodidact_core::device::on_host;
use autodidact_core::error::check_range;
use autodidact_core::seed::{self, Rng};
use autodidact_core::stats::{self, Estimate};
use autodidact_core::{Error, Result};
use rand::RngExt;
use rand_distr::{Distribution, Gamma};
use tch::{Device, Kind, Tensor};

/// A hidden Markov model that starts in its stationary distribution: state `s` follows state `r` with probability `transition[r][s]`, and
/// state `s` shows token `v` with probability `emission[s][v]`.
///
/// The forward algorithm gives the exact probability of every next token, so the loss that no model can beat is known, and the states
/// are labels for what a model of the tokens has learned.
///
/// ```
/// use autodidact_datasets::synthetic::HiddenMarkov;
/// // Two states that swap with probability 0.1 and show their own number with probability 0.9.
/// let hmm = HiddenMarkov::new(vec![vec![0.9, 0.1], vec![0.1, 0.9]], vec![vec![0.9, 0.1], vec![0.1, 0.9]])?;
/// assert!(hmm.stationary().iter().all(|p| (p - 0.5).abs() < 1e-12));
/// // P(0, 0) = 0.5 * (0.9 * (0.9 * 0.9 + 0.1 * 0.1) + 0.1 * (0.1 * 0.9 + 0.9 * 0.1))
/// assert!((hmm.log_prob(&[0, 0])? - 0.378f64.ln()).abs() < 1e-12);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct HiddenMarkov {
    stationary: Vec<f64>,
    transition: Vec<Vec<f64>>,
    emission: Vec<Vec<f64>>,
}

/// Sequences with the states behind them.
#[derive(Debug)]
pub struct HiddenSequences {
    /// `[N, T]` (Int64).
    pub tokens: Tensor,
    /// `[N, T]` (Int64).
    pub states: Tensor,
}

/// What the forward algorithm says about sequences.
#[derive(Debug)]
pub struct Filtered {
    /// `log P(x_t | x_1 .. x_(t-1))`, `[N, T]` (f64); minus infinity from a token on that cannot be.
    pub log_probs: Tensor,
    /// `P(state at the end | x_1 .. x_T)`, `[N, K]` (f64).
    pub posterior: Tensor,
}

impl HiddenMarkov {
    /// With the rows of probabilities `transition [K][K]` and `emission [K][V]`.
    ///
    /// # Errors
    /// No states or tokens, rows of wrong lengths or that are no probabilities (they must sum to 1 within 1e-9).
    pub fn new(transition: Vec<Vec<f64>>, emission: Vec<Vec<f64>>) -> Result<Self> {
        let (states, vocab) = (transition.len(), emission.first().map_or(0, Vec::len));
        if states == 0 || vocab == 0 || emission.len() != states {
            let expected = "one row each of transition and emission for every state";
            return Err(Error::value("hidden Markov model", expected, format!("{states} and {}", emission.len())));
        }
        check_rows("transition", &transition, states)?;
        check_rows("emission", &emission, vocab)?;
        Ok(Self { stationary: stationary(&transition), transition, emission })
    }

    /// A random model: rows of the transition matrix from a symmetric Dirichlet distribution with concentration `transition`, rows of the
    /// emissions with `emission`. Small concentrations make sharp rows.
    ///
    /// # Errors
    /// No states or tokens, concentrations below 0.01.
    pub fn dirichlet(states: usize, vocab: usize, transition: f64, emission: f64, seed: u64) -> Result<Self> {
        check_range("states", states as f64, 1.0..)?;
        check_range("vocabulary", vocab as f64, 1.0..)?;
        let rng = &mut seed::rng(seed, &["hidden markov", "model"]);
        let mut rows = |what: &str, concentration: f64, width: usize| -> Result<Vec<Vec<f64>>> {
            check_range(what, concentration, 0.01..)?;
            let gamma = Gamma::new(concentration, 1.0).map_err(|e| Error::value(what, "above 0", e))?;
            Ok((0..states).map(|_| dirichlet_row(&gamma, width, rng)).collect())
        };
        let transition = rows("concentration of the transitions", transition, states)?;
        let emission = rows("concentration of the emissions", emission, vocab)?;
        Self::new(transition, emission)
    }

    /// Number of states.
    pub fn states(&self) -> usize {
        self.transition.len()
    }

    /// Number of tokens.
    pub fn vocab(&self) -> usize {
        self.emission[0].len()
    }

    /// The stationary distribution of the states.
    pub fn stationary(&self) -> &[f64] {
        &self.stationary
    }

    /// Draws a token of a state.
    ///
    /// # Panics
    /// A state that there is not.
    pub fn emit(&self, state: usize, rng: &mut Rng) -> usize {
        draw(&self.emission[state], rng)
    }

    /// Draws `n` sequences of `length` tokens.
    ///
    /// # Errors
    /// No sequences or no length.
    pub fn sample(&self, n: usize, length: usize, rng: &mut Rng) -> Result<HiddenSequences> {
        check_range("sequences", n as f64, 1.0..)?;
        check_range("length", length as f64, 1.0..)?;
        let (mut tokens, mut states) = (Vec::with_capacity(n * length), Vec::with_capacity(n * length));
        for _ in 0..n {
            let mut state = draw(&self.stationary, rng);
            for t in 0..length {
                if t > 0 {
                    state = draw(&self.transition[state], rng);
                }
                states.push(state as i64);
                tokens.push(draw(&self.emission[state], rng) as i64);
            }
        }
        let shaped = |v: &[i64]| Tensor::from_slice(v).view([n as i64, length as i64]);
        Ok(HiddenSequences { tokens: shaped(&tokens), states: shaped(&states) })
    }

    /// The forward algorithm on `tokens [N, T]` (Int64); the results are on the CPU.
    ///
    /// # Errors
    /// Another shape or type, tokens outside the vocabulary.
    pub fn filter(&self, tokens: &Tensor) -> Result<Filtered> {
        let (n, length) = match tokens.size()[..] {
            [n, t] if tokens.kind() == Kind::Int64 && t > 0 => (n, t),
            _ => return Err(Error::shape("tokens", "Int64 [N, T]", tokens)),
        };
        let all = Vec::<i64>::try_from(tokens.to_device(Device::Cpu).contiguous().view([-1]))?;
        let (mut log_probs, mut posterior) = (Vec::with_capacity(all.len()), vec![]);
        for sequence in all.chunks(length as usize) {
            posterior.extend(self.forward(sequence, |log_prob| log_probs.push(log_prob))?);
        }
        Ok(Filtered {
            log_probs: Tensor::from_slice(&log_probs).view([n, length]),
            posterior: Tensor::from_slice(&posterior).view([n, self.states() as i64]),
        })
    }

    /// Logarithm of the probability of a sequence.
    ///
    /// # Errors
    /// Tokens outside the vocabulary.
    pub fn log_prob(&self, sequence: &[i64]) -> Result<f64> {
        let mut sum = 0.0;
        self.forward(sequence, |log_prob| sum += log_prob)?;
        Ok(sum)
    }

    /// Entropy of a token given up to `length - 1` before it, in nats: minus the mean log-probability of the tokens after the first of `n`
    /// sequences, with its 95 % interval over sequences.
    ///
    /// # Errors
    /// Fewer than two sequences, or a length below two.
    pub fn entropy_rate(&self, n: usize, length: usize, seed: u64) -> Result<Estimate> {
        check_range("sequences", n as f64, 2.0..)?;
        check_range("length", length as f64, 2.0..)?;
        let drawn = self.sample(n, length, &mut seed::rng(seed, &["hidden markov", "entropy"]))?;
        let later = self.filter(&drawn.tokens)?.log_probs.narrow(1, 1, length as i64 - 1);
        let means = Vec::<f64>::try_from(-later.mean_dim([1i64].as_slice(), false, Kind::Double))?;
        stats::mean_ci(&means, 0.95)
    }

    /// Shows the log-probability of every token; the posterior of the last state.
    fn forward(&self, sequence: &[i64], mut see: impl FnMut(f64)) -> Result<Vec<f64>> {
        let mut belief = self.stationary.clone();
        let mut next = vec![0.0; belief.len()];
        for (t, &token) in sequence.iter().enumerate() {
            let Some(token) = usize::try_from(token).ok().filter(|v| *v < self.vocab()) else {
                return Err(Error::value("token", format!("0 to {}", self.vocab() - 1), token));
            };
            if t > 0 {
                next.fill(0.0);
                for (b, row) in belief.iter().zip(&self.transition) {
                    next.iter_mut().zip(row).for_each(|(n, p)| *n += b * p);
                }
                std::mem::swap(&mut belief, &mut next);
            }
            belief.iter_mut().zip(&self.emission).for_each(|(b, row)| *b *= row[token]);
            let total: f64 = belief.iter().sum();
            see(total.ln());
            if total > 0.0 {
                belief.iter_mut().for_each(|b| *b /= total);
            }
        }
        Ok(belief)
    }
}

fn check_rows(what: &str, rows: &[Vec<f64>], width: usize) -> Result<()> {
    for row in rows {
        let sum: f64 = row.iter().sum();
        if row.len() != width || row.iter().any(|p| !(0.0..=1.0).contains(p)) || (sum - 1.0).abs() > 1e-9 {
            let found = format!("{} values with sum {sum}", row.len());
            return Err(Error::value(what, format!("rows of {width} probabilities"), found));
        }
    }
    Ok(())
}

/// The limit of the lazy chain, by squaring its matrix: staying put half of the time leaves the stationary distribution as it is and
/// makes every chain aperiodic.
fn stationary(transition: &[Vec<f64>]) -> Vec<f64> {
    let k = transition.len() as i64;
    let flat: Vec<f64> = transition.iter().flatten().copied().collect();
    let mut power = (Tensor::from_slice(&flat).view([k, k]) + Tensor::eye(k, on_host(Kind::Double))) / 2.0;
    for _ in 0..40 {
        power = power.matmul(&power);
        // Rounding is kept from growing.
        power = &power / power.sum_dim_intlist([1i64].as_slice(), true, Kind::Double);
    }
    let row = power.mean_dim([0i64].as_slice(), false, Kind::Double);
    (0..k).map(|i| row.double_value(&[i])).collect()
}

/// Normalised gamma variates; all in one place if every one of them is too small for a float.
fn dirichlet_row(gamma: &Gamma<f64>, width: usize, rng: &mut Rng) -> Vec<f64> {
    let mut row: Vec<f64> = (0..width).map(|_| gamma.sample(rng)).collect();
    let sum: f64 = row.iter().sum();
    if sum > 0.0 {
        row.iter_mut().for_each(|p| *p /= sum);
    } else {
        row[rng.random_range(0..width)] = 1.0;
    }
    row
}

fn draw(probabilities: &[f64], rng: &mut Rng) -> usize {
    let mut left = rng.random::<f64>();
    let mut last = 0;
    for (i, p) in probabilities.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        last = i;
        left -= p;
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> HiddenMarkov {
        HiddenMarkov::dirichlet(3, 4, 0.5, 0.5, 1).unwrap()
    }

    #[test]
    fn probabilities_agree_with_the_sum_over_all_paths_and_sum_to_one() {
        let hmm = small();
        let paths = |x: [usize; 3]| -> f64 {
            let mut sum = 0.0;
            for (i, j, k) in (0..27).map(|p| (p / 9, p / 3 % 3, p % 3)) {
                let chain = hmm.stationary[i] * hmm.transition[i][j] * hmm.transition[j][k];
                sum += chain * hmm.emission[i][x[0]] * hmm.emission[j][x[1]] * hmm.emission[k][x[2]];
            }
            sum
        };
        let mut total = 0.0;
        for x in (0..64).map(|n| [n / 16, n / 4 % 4, n % 4]) {
            let got = hmm.log_prob(&x.map(|v| v as i64)).unwrap().exp();
            assert!((got - paths(x)).abs() < 1e-14, "{x:?}");
            total += got;
        }
        assert!((total - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_start_is_stationary_even_of_a_periodic_chain() {
        let hmm = small();
        for s in 0..3 {
            let next: f64 = (0..3).map(|r| hmm.stationary[r] * hmm.transition[r][s]).sum();
            assert!((next - hmm.stationary[s]).abs() < 1e-12);
        }
        let swap = vec![vec![0.0, 1.0], vec![1.0, 0.0]];
        assert_eq!(HiddenMarkov::new(swap.clone(), swap).unwrap().stationary(), [0.5, 0.5]);
    }

    #[test]
    fn visible_states_leave_the_entropy_of_the_chain() {
        // Both states have the entropy of a coin of 1/4.
        let rows = vec![vec![0.75, 0.25], vec![0.25, 0.75]];
        let seen = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        let rate = HiddenMarkov::new(rows, seen).unwrap().entropy_rate(4000, 10, 0).unwrap();
        let expected = -(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
        assert!(rate.low < expected && expected < rate.high, "{rate:?}");
    }

    #[test]
    fn samples_have_the_filtered_states_frequencies() {
        let hmm = small();
        let drawn = hmm.sample(4000, 5, &mut seed::rng(0, &["test"])).unwrap();
        let posterior = hmm.filter(&drawn.tokens).unwrap().posterior;
        let truth = drawn.states.select(1, 4).one_hot(3).to_kind(Kind::Double);
        let gap = (posterior - truth).mean_dim([0i64].as_slice(), false, Kind::Double);
        assert!(gap.abs().max().double_value(&[]) < 0.03);
    }

    #[test]
    fn what_is_no_model_is_refused() {
        assert!(HiddenMarkov::new(vec![], vec![]).is_err());
        assert!(HiddenMarkov::new(vec![vec![0.5]], vec![vec![1.0]]).unwrap_err().to_string().contains("transition"));
        assert!(HiddenMarkov::dirichlet(2, 3, 0.0, 1.0, 0).is_err());
        let hmm = small();
        assert!(hmm.log_prob(&[4]).unwrap_err().to_string().contains("0 to 3"));
        assert!(hmm.filter(&Tensor::zeros([3], (Kind::Int64, Device::Cpu))).is_err());
        assert!(hmm.sample(0, 3, &mut seed::rng(0, &[])).is_err());
    }
}
