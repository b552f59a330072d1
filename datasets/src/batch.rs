//! Which samples make which batch, and batches prepared ahead of the training thread.

pub use autodidact_core::train::Order;

use crate::image::ImageSet;
use autodidact_core::{Error, Result};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use tch::Tensor;

/// Images of one training step.
#[derive(Debug)]
pub struct Batch {
    /// The step, counted from the start of training.
    pub step: usize,
    /// Indices of the images in their set, in this order.
    pub indices: Vec<i64>,
    /// `Uint8 [B, C, H, W]`.
    pub images: Tensor,
    /// `Int64 [B]`.
    pub labels: Tensor,
}

/// The batches of an [`ImageSet`] in the order of an [`Order`].
#[derive(Debug)]
pub struct Batches {
    set: ImageSet,
    order: Order,
}

impl Batches {
    /// Batches of `batch` images of `set`, shuffled by `seed`.
    pub fn new(set: ImageSet, batch: usize, seed: u64) -> Result<Self> {
        let order = Order::new(set.len(), batch, seed)?;
        Ok(Self { set, order })
    }

    /// The order of the samples.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// The batch of `step`.
    pub fn get(&self, step: usize) -> Result<Batch> {
        let indices = self.order.batch(step);
        let ImageSet { images, labels, .. } = self.set.select(&indices)?;
        Ok(Batch { step, indices, images, labels })
    }
}

/// Batches (of any kind) built on a thread of their own ahead of the consumer, in the order of their steps.
///
/// `build(step)` must depend on nothing but the step (draw its random numbers from a generator derived from it): then
/// the batches are the same whatever the timing. An error is delivered at its step and ends the iteration; so does a
/// panic, as [`Error::Failed`]. Dropping the iterator stops the thread once the batch in the making is done.
///
/// ```
/// use autodidact_datasets::batch::Prefetch;
/// let squares: Vec<usize> = Prefetch::new(3..6, 2, |step| Ok(step * step)).collect::<Result<_, _>>()?;
/// assert_eq!(squares, [9, 16, 25]);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Prefetch<T> {
    queue: Option<Receiver<Result<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Builds the batches of `steps`, at most `ahead` (at least 1) of them waiting at a time.
    pub fn new(steps: Range<usize>, ahead: usize, build: impl FnMut(usize) -> Result<T> + Send + 'static) -> Self {
        let (sender, queue) = sync_channel(ahead.max(1));
        let thread = std::thread::spawn(move || produce(steps, build, &sender));
        Self { queue: Some(queue), thread: Some(thread) }
    }
}

fn produce<T>(steps: Range<usize>, mut build: impl FnMut(usize) -> Result<T>, sender: &SyncSender<Result<T>>) {
    for step in steps {
        let batch = catch_unwind(AssertUnwindSafe(|| build(step))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
            Err(Error::Failed(format!("building batch {step} panicked: {}", text.unwrap_or("no message"))))
        });
        let last = batch.is_err();
        // Nobody receives any more: the consumer has been dropped.
        if sender.send(batch).is_err() || last {
            return;
        }
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.queue.as_ref()?.recv().ok()
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // Without a receiver the thread's next (or blocked) send fails and it ends.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of `build` was already delivered as an error.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::shapes;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn an_epoch_holds_every_sample_once_and_steps_can_be_visited_in_any_order() {
        let order = Order::new(12, 4, 5).unwrap();
        let mut epoch: Vec<i64> = (3..6).flat_map(|step| order.batch(step)).collect();
        epoch.sort_unstable();
        assert_eq!(epoch, (0..12).collect::<Vec<i64>>());
        let forward: Vec<_> = (0..9).map(|s| order.batch(s)).collect();
        let fresh = Order::new(12, 4, 5).unwrap();
        (0..9).rev().for_each(|s| assert_eq!(fresh.batch(s), forward[s]));
        assert_eq!(order.epoch_of(8), 2);
        let e = Order::new(3, 4, 0).unwrap_err();
        assert_eq!(e.to_string(), "batch size: expected 1 to 3, the number of samples, got 4");
    }

    #[test]
    fn prefetched_batches_are_those_built_in_place() {
        let batches = Batches::new(shapes(0, 0..30), 8, 1).unwrap();
        let expected: Vec<_> = (2..9).map(|step| batches.get(step).unwrap()).collect();
        let prefetched = Prefetch::new(2..9, 3, move |step| {
            std::thread::sleep(Duration::from_millis((step as u64 * 7) % 5));
            batches.get(step)
        });
        let got: Vec<_> = prefetched.collect::<Result<_>>().unwrap();
        assert_eq!(got.len(), expected.len());
        for (a, b) in got.iter().zip(&expected) {
            assert_eq!((a.step, &a.indices, &a.images, &a.labels), (b.step, &b.indices, &b.images, &b.labels));
        }
    }

    #[test]
    fn the_queue_is_bounded() {
        let built = Arc::new(AtomicUsize::new(0));
        let counter = built.clone();
        let mut batches = Prefetch::new(0..1000, 2, move |step| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(step)
        });
        assert_eq!(batches.next().unwrap().unwrap(), 0);
        std::thread::sleep(Duration::from_millis(100));
        // One consumed, two waiting, one in the hand of the producer.
        assert!(built.load(Ordering::SeqCst) <= 4, "{built:?}");
        drop(batches);
        let at_drop = built.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(built.load(Ordering::SeqCst), at_drop, "the producer still runs");
    }

    #[test]
    fn errors_and_panics_reach_the_consumer_at_their_step() {
        let mut failing =
            Prefetch::new(0..9, 4, |step| if step == 2 { Err(Error::Failed("no more".into())) } else { Ok(step) });
        assert_eq!(failing.by_ref().take(2).map(Result::unwrap).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(failing.next().unwrap().unwrap_err().to_string(), "no more");
        assert!(failing.next().is_none());
        let mut panicking = Prefetch::new(5..9, 1, |step| if step == 6 { panic!("step {step}") } else { Ok(step) });
        assert_eq!(panicking.next().unwrap().unwrap(), 5);
        assert_eq!(panicking.next().unwrap().unwrap_err().to_string(), "building batch 6 panicked: step 6");
        assert!(panicking.next().is_none());
    }
}
