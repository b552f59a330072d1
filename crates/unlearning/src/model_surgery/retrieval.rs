//! Which task's adapter an image gets, and what the two stages say together.

use super::heads::LinearHead;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// What [`self_refine`] found.
#[derive(Debug)]
pub struct Refined {
    /// Logits `[N, C]` with the adapter that was evaluated last.
    pub logits: Tensor,
    /// That adapter, `[N]` (Int64).
    pub task: Tensor,
    /// Evaluations, `[N]` (Int64).
    pub iterations: Tensor,
    /// Adapter of each evaluation, `[N, max_iter]` (Int64); images that are done keep theirs.
    pub path: Tensor,
}

/// Self-refined retrieval: from task `first [N]`, the classifier's prediction with the task's adapter names the next task, until it names the
/// same or `max_iter` adapters were evaluated. `features [N, T, d]` hold every image with every adapter, `class_to_task [C]` (Int64) the
/// task of every class. All images go together; nothing is read back from the device.
///
/// ```
/// use autodidact_unlearning::model_surgery::{LinearHead, self_refine};
/// use tch::Tensor;
/// // Two tasks of one class each; an image that adapter 0 sees as class 1, and adapter 1 too.
/// let head = LinearHead::of(Tensor::from_slice2(&[[1f32, 0.0], [0.0, 1.0]]), Tensor::zeros([2], (tch::Kind::Float, tch::Device::Cpu)))?;
/// let features = Tensor::from_slice(&[0.2f32, 0.8, 0.0, 1.0]).view([1, 2, 2]);
/// let refined = self_refine(&features, &head, &Tensor::from_slice(&[0i64, 1]), &Tensor::from_slice(&[0i64]), 4)?;
/// assert_eq!((refined.task.int64_value(&[0]), refined.iterations.int64_value(&[0])), (1, 2));
/// assert_eq!(refined.logits, Tensor::from_slice2(&[[0f32, 1.0]]));
/// # Ok::<(), autodidact_core::Error>(())
/// ```
///
/// # Errors
/// Shapes that do not fit, tasks outside the features', no evaluation.
pub fn self_refine(
    features: &Tensor,
    head: &LinearHead,
    class_to_task: &Tensor,
    first: &Tensor,
    max_iter: usize,
) -> Result<Refined> {
    check_range("evaluations", max_iter as f64, 1.0..)?;
    let (n, tasks) = match features.size()[..] {
        [n, t, _] if n > 0 && t > 0 => (n, t),
        _ => return Err(Error::shape("features", "[N, T, d], not empty", features)),
    };
    for (what, tensor, len) in [("tasks of the classes", class_to_task, head.classes()), ("first tasks", first, n)] {
        if tensor.size() != [len] || tensor.kind() != Kind::Int64 {
            return Err(Error::shape(what, format!("Int64 [{len}]"), tensor));
        }
        // As everywhere, values are looked at on the CPU alone.
        autodidact_core::error::check_values(what, tensor, 0.0..tasks as f64)?;
    }
    let logits = head.logits(features);
    // What each adapter would name next: [N, T].
    let next = class_to_task.index_select(0, &logits.argmax(2, false).flatten(0, 1)).view([n, tasks]);
    let mut path = vec![first.shallow_clone()];
    let mut task = first.unsqueeze(1);
    for _ in 1..max_iter {
        // A fixed point stays where it is.
        task = next.gather(1, &task, false);
        path.push(task.squeeze_dim(1));
    }
    let path = Tensor::stack(&path, 1);
    let moved = path.narrow(1, 1, max_iter as i64 - 1).ne_tensor(&path.narrow(1, 0, max_iter as i64 - 1));
    let iterations = moved.sum_dim_intlist([1i64].as_slice(), false, Kind::Int64) + 1;
    Ok(Refined { logits: of_task(&logits, &task.squeeze_dim(1)), task: task.squeeze_dim(1), iterations, path })
}

/// Of `values [N, T, C]`, those of one task per row: `[N, C]`.
pub(super) fn of_task(values: &Tensor, task: &Tensor) -> Tensor {
    let classes = values.size()[2];
    values.gather(1, &task.view([-1, 1, 1]).expand([-1, 1, classes], false), false).squeeze_dim(1)
}

/// `softmax(retrieved) + softmax(tasks * general)`: logits `[N, C]` with the retrieved adapter, and the cosines `[N, C]` of the prototypes,
/// which get sharper with the number of tasks.
///
/// # Errors
/// Matrices of different shapes, no tasks.
pub fn two_stage_ensemble(retrieved: &Tensor, general: &Tensor, tasks: usize) -> Result<Tensor> {
    check_range("tasks", tasks as f64, 1.0..)?;
    check_matrix("retrieved logits", retrieved)?;
    if general.size() != retrieved.size() {
        return Err(Error::shape("general logits", format!("{:?}", retrieved.size()), general));
    }
    Ok(retrieved.softmax(1, None::<Kind>) + (general * tasks as f64).softmax(1, None::<Kind>))
}
