//! Test, then train: a stream of samples under concept shift.

use super::mlp::{Mlp, Update, Updater, Workspace};
use super::regulator::{Decision, Opportunity, Regulator, SimGradient, accuracy};
use super::shift::{ConceptShift, Spacing};
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result, seed};
use rand::seq::SliceRandom;

/// Inputs of equal width with their classes.
#[derive(Debug, Clone)]
pub struct Samples {
    inputs: Vec<f32>,
    classes: Vec<usize>,
    width: usize,
}

impl Samples {
    /// `inputs [N, width]`, row by row, and `N` classes.
    ///
    /// # Errors
    /// No samples, sizes that do not fit, inputs that are not finite.
    pub fn new(inputs: Vec<f32>, classes: Vec<usize>) -> Result<Self> {
        check_range("samples", classes.len() as f64, 1.0..)?;
        if inputs.is_empty() || !inputs.len().is_multiple_of(classes.len()) {
            let expected = format!("a multiple of {} samples", classes.len());
            return Err(Error::value("inputs", expected, format!("{} values", inputs.len())));
        }
        if let Some(bad) = inputs.iter().position(|x| !x.is_finite()) {
            return Err(Error::value("inputs", "finite values", format!("{} at {bad}", inputs[bad])));
        }
        let width = inputs.len() / classes.len();
        Ok(Self { inputs, classes, width })
    }

    /// Number of samples.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Inputs of a sample.
    pub fn width(&self) -> usize {
        self.width
    }

    fn input(&self, i: usize) -> &[f32] {
        &self.inputs[i * self.width..][..self.width]
    }
}

/// A stream and how it is learned.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Samples of an update, `m`.
    pub batch: usize,
    /// Every so many samples of an epoch the regulator is asked, from the second such on.
    pub interval: usize,
    /// Passes over the training samples, in a new order each.
    pub epochs: usize,
    /// When labels are swapped.
    pub spacing: Spacing,
    /// What turns gradients into steps.
    pub update: Update,
    /// Order and swaps. The same for all arms that are compared.
    pub seed: u64,
}

impl Default for Stream {
    /// The published values, without swaps.
    fn default() -> Self {
        Self { batch: 10, interval: 10, epochs: 50, spacing: Spacing::Never, update: Update::Sgd, seed: 0 }
    }
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Per epoch, the share of samples that were right before the update of their minibatch.
    pub online: Vec<f64>,
    /// Per epoch, accuracy on the validation samples by the labels of its end.
    pub validation: Vec<f64>,
    /// The rate of every update.
    pub eta: Vec<f64>,
    /// For every sample, whether it was right.
    pub right: Vec<bool>,
    /// Samples seen before every swap.
    pub swaps: Vec<usize>,
    /// Per label, opportunities and how many of them were ingested.
    pub decisions: Vec<(usize, usize)>,
}

impl Trace {
    /// Mean online accuracy.
    pub fn mean_online(&self) -> f64 {
        self.online.iter().sum::<f64>() / self.online.len().max(1) as f64
    }

    /// Mean rate of the last quarter of updates.
    pub fn final_eta(&self) -> f64 {
        let last = &self.eta[self.eta.len() * 3 / 4..];
        last.iter().sum::<f64>() / last.len().max(1) as f64
    }

    /// Online accuracy around swaps: for `bins` stretches of `width` samples before each swap and as many after it, the mean over all swaps
    /// with that many samples on both sides. `None` without such a swap.
    pub fn around_swaps(&self, width: usize, bins: usize) -> Option<Vec<f64>> {
        let reach = width * bins;
        let whole = |at: &&usize| **at >= reach && **at + reach <= self.right.len();
        let swaps: Vec<usize> = self.swaps.iter().filter(whole).copied().collect();
        let share = |bin: usize| {
            let right = |at: usize| self.right[at - reach + bin * width..][..width].iter().filter(|r| **r).count();
            swaps.iter().map(|at| right(*at)).sum::<usize>() as f64 / (width * swaps.len()) as f64
        };
        (!swaps.is_empty() && width > 0).then(|| (0..2 * bins).map(share).collect())
    }

    /// Samples after every swap until the last `window` of them were right in a share of `level` or more; `None` for a swap that the next one
    /// (or the end) comes before.
    pub fn times_to_recover(&self, window: usize, level: f64) -> Vec<Option<usize>> {
        let ends = self.swaps.iter().skip(1).copied().chain([self.right.len()]);
        let time = |(from, end): (usize, usize)| {
            let after = &self.right[from..end.max(from)];
            let enough = |w: &[bool]| w.iter().filter(|r| **r).count() as f64 >= level * window as f64;
            after.windows(window.max(1)).position(enough).map(|first| first + window)
        };
        self.swaps.iter().copied().zip(ends).map(time).collect()
    }
}

/// Learns a stream of `train` samples with `net` and gives what happened on the way; `validation` is looked at after every epoch.
///
/// Inside a minibatch all samples meet the same weights; a regulator's new rate counts from that minibatch's update on. Order and swaps
/// depend on the stream's seed alone.
///
/// # Errors
/// Settings outside their ranges, samples of another width or class than the network's.
pub fn learn(
    net: &mut Mlp,
    train: &Samples,
    validation: &Samples,
    stream: &Stream,
    regulator: &mut dyn Regulator,
) -> Result<Trace> {
    let (width, outputs) = (net.sizes()[0], net.sizes()[net.sizes().len() - 1]);
    for (what, samples) in [("training samples", train), ("validation samples", validation)] {
        if samples.width != width {
            return Err(Error::value(what, format!("{width} inputs each"), samples.width));
        }
        if let Some(bad) = samples.classes.iter().find(|c| **c >= outputs) {
            return Err(Error::value(what, format!("classes below {outputs}"), bad));
        }
    }
    check_range("batch", stream.batch as f64, 1.0..=train.len() as f64)?;
    check_range("interval", stream.interval as f64, 1.0..)?;
    stream.spacing.check()?;

    let mut order: Vec<usize> = (0..train.len()).collect();
    let mut shift = ConceptShift::new(outputs)?;
    let mut swaps = seed::rng(stream.seed, &["swaps"]);
    let mut orders = seed::rng(stream.seed, &["order"]);
    let mut updater = Updater::new(stream.update, net.params().len())?;
    let mut room = Room::of(net);
    let mut trace = Trace { decisions: vec![(0, 0); outputs], ..Default::default() };
    // As published, what is left of an epoch after the last whole minibatch is not used.
    let used = train.len() / stream.batch * stream.batch;

    for epoch in 0..stream.epochs {
        order.shuffle(&mut orders);
        let mut right = 0;
        for from in (0..used).step_by(stream.batch) {
            room.gradient.fill(0.0);
            for i in from..from + stream.batch {
                let label = shift.label(train.classes[order[i]]);
                let guess = net.accumulate(train.input(order[i]), label, &mut room.space, &mut room.gradient);
                right += usize::from(guess == label);
                trace.right.push(guess == label);
                if i > 0 && i % stream.interval == 0 {
                    let mut seen = Seen {
                        net,
                        train,
                        order: &order,
                        shift: &shift,
                        room: &mut room,
                        i,
                        from,
                        stream,
                        label,
                        guess,
                    };
                    let decision = regulator.opportunity(&mut seen);
                    let (asked, ingested) = &mut trace.decisions[label];
                    *asked += 1;
                    *ingested += usize::from(decision == Decision::Ingest);
                }
            }
            let eta = regulator.eta();
            room.gradient.iter_mut().for_each(|g| *g /= stream.batch as f32);
            updater.step(net, eta as f32, &room.gradient);
            trace.eta.push(eta);
            let done = from + stream.batch;
            // As published, not after an epoch's first minibatch.
            if from > 0 && stream.spacing.at(epoch).is_some_and(|s| done / s > from / s) {
                shift.swap(&mut swaps);
                trace.swaps.push(trace.right.len());
            }
        }
        trace.online.push(right as f64 / used as f64);
        let all = (0..validation.len()).map(|i| (validation.input(i), shift.label(validation.classes[i])));
        trace.validation.push(accuracy(net, all, &mut room.space));
    }
    Ok(trace)
}

/// Buffers of a run.
struct Room {
    space: Workspace,
    /// Of the minibatch, a sum until its update.
    gradient: Vec<f32>,
    /// Of the simulation.
    simulated: Mlp,
    simulating: Workspace,
    other: Vec<f32>,
}

impl Room {
    fn of(net: &Mlp) -> Self {
        let zeros = vec![0.0; net.params().len()];
        Self {
            space: net.workspace(),
            gradient: zeros.clone(),
            simulated: net.clone(),
            simulating: net.workspace(),
            other: zeros,
        }
    }
}

struct Seen<'a> {
    net: &'a Mlp,
    train: &'a Samples,
    order: &'a [usize],
    shift: &'a ConceptShift,
    room: &'a mut Room,
    /// Place of the sample in the epoch, and of its minibatch's first.
    i: usize,
    from: usize,
    stream: &'a Stream,
    label: usize,
    guess: usize,
}

impl Opportunity for Seen<'_> {
    fn label(&self) -> usize {
        self.label
    }

    fn guess(&self) -> usize {
        self.guess
    }

    fn simulate(&mut self, memory: usize, gradient: SimGradient, eta: f64) -> Option<f64> {
        let Self { net, train, order, shift, i, from, stream, .. } = *self;
        let Room { gradient: accumulated, simulated, other, simulating: space, .. } = &mut *self.room;
        // Strictly more, as published.
        if i <= memory {
            return None;
        }
        let labelled = |i: usize| (train.input(order[i]), shift.label(train.classes[order[i]]));
        let (sum, n) = match gradient {
            SimGradient::Accumulated => (accumulated, stream.batch),
            SimGradient::FullMinibatch | SimGradient::Memory => {
                let samples = if gradient == SimGradient::Memory { i - memory..i } else { from..from + stream.batch };
                let n = samples.len();
                other.fill(0.0);
                for (x, label) in samples.map(labelled) {
                    net.accumulate(x, label, space, other);
                }
                (other, n)
            }
        };
        simulated.set_to_step_of(net, eta as f32 / n as f32, sum);
        Some(accuracy(simulated, (i - memory..i).map(labelled), space))
    }
}
