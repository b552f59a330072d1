//! Safe doors to `shim/*.cpp`.

use crate::{Error, Result};
use std::ffi::{CStr, c_char, c_int};
use tch::Tensor;
use torch_sys::C_tensor;

type List = *const *const C_tensor;

unsafe extern "C" {
    fn ad_fused_sgd(
        params: List,
        grads: List,
        buffers: List,
        n: usize,
        lr: f64,
        momentum: f64,
        dampening: f64,
        weight_decay: f64,
        nesterov: bool,
        first_step: bool,
    ) -> *mut c_char;
    fn ad_fused_adam(
        params: List,
        grads: List,
        m: List,
        v: List,
        steps: List,
        n: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
        weight_decay: f64,
        decoupled: bool,
    ) -> *mut c_char;
    fn ad_lars(
        params: List,
        grads: List,
        buffers: List,
        n: usize,
        lr: f64,
        momentum: f64,
        weight_decay: f64,
        eta: f64,
        adapt: bool,
    ) -> *mut c_char;
    fn ad_clip_grad_norm(grads: List, n: usize, max_norm: f64, total: *mut C_tensor) -> *mut c_char;
    fn ad_selected_log_probs(
        hidden: *const C_tensor,
        head: *const C_tensor,
        targets: *const C_tensor,
        rows: i64,
        out: *mut C_tensor,
    ) -> *mut c_char;
    fn ad_foreach_lerp(into: List, from: List, n: usize, weight: f64) -> *mut c_char;
    fn ad_autocast_enter(device_type: c_int, enabled: bool, was_enabled: *mut bool, was_dtype: *mut i8) -> *mut c_char;
    fn ad_autocast_exit(device_type: c_int, was_enabled: bool, was_dtype: i8) -> *mut c_char;
    fn ad_flush_denormals(on: bool) -> bool;
    fn ad_cuda_peak_bytes(index: c_int, reset: bool, bytes: *mut i64) -> *mut c_char;
}

fn check(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the shim returns a NUL-terminated string from `strdup` that nobody else holds.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        libc::free(message.cast());
        text
    };
    Err(Error::Torch(tch::TchError::Torch(text)))
}

/// Pointers to the tensors of a list, for the time of one call.
fn pointers(tensors: &[Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

/// All lists of one call must be equally long: the shim reads `n` entries of each.
fn same_length(lists: &[&[Tensor]]) -> Result<usize> {
    let n = lists[0].len();
    match lists.iter().find(|l| l.len() != n) {
        None => Ok(n),
        Some(other) => Err(Error::value("optimizer state", format!("{n} tensors"), other.len())),
    }
}

pub(crate) struct SgdStep {
    pub lr: f64,
    pub momentum: f64,
    pub dampening: f64,
    pub weight_decay: f64,
    pub nesterov: bool,
    pub first_step: bool,
}

pub(crate) fn fused_sgd(params: &[Tensor], grads: &[Tensor], buffers: Option<&[Tensor]>, o: &SgdStep) -> Result<()> {
    let n = same_length(&[params, grads, buffers.unwrap_or(params)])?;
    let (p, g, b) = (pointers(params), pointers(grads), buffers.map(pointers));
    let b = b.as_ref().map_or(std::ptr::null(), |b| b.as_ptr());
    // SAFETY: each list holds `n` live tensors (or is null where the shim accepts that).
    check(unsafe {
        ad_fused_sgd(
            p.as_ptr(),
            g.as_ptr(),
            b,
            n,
            o.lr,
            o.momentum,
            o.dampening,
            o.weight_decay,
            o.nesterov,
            o.first_step,
        )
    })
}

pub(crate) struct AdamStep {
    pub lr: f64,
    pub betas: (f64, f64),
    pub eps: f64,
    pub weight_decay: f64,
    pub decoupled: bool,
}

pub(crate) fn fused_adam(
    params: &[Tensor],
    grads: &[Tensor],
    m: &[Tensor],
    v: &[Tensor],
    steps: &[Tensor],
    o: &AdamStep,
) -> Result<()> {
    let n = same_length(&[params, grads, m, v, steps])?;
    let [p, g, m, v, s] = [params, grads, m, v, steps].map(pointers);
    // SAFETY: each list holds `n` live tensors.
    check(unsafe {
        ad_fused_adam(
            p.as_ptr(),
            g.as_ptr(),
            m.as_ptr(),
            v.as_ptr(),
            s.as_ptr(),
            n,
            o.lr,
            o.betas.0,
            o.betas.1,
            o.eps,
            o.weight_decay,
            o.decoupled,
        )
    })
}

pub(crate) struct LarsStep {
    pub lr: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    pub eta: f64,
    pub adapt: bool,
}

pub(crate) fn lars(params: &[Tensor], grads: &[Tensor], buffers: &[Tensor], o: &LarsStep) -> Result<()> {
    let n = same_length(&[params, grads, buffers])?;
    let [p, g, b] = [params, grads, buffers].map(pointers);
    // SAFETY: each list holds `n` live tensors.
    check(unsafe { ad_lars(p.as_ptr(), g.as_ptr(), b.as_ptr(), n, o.lr, o.momentum, o.weight_decay, o.eta, o.adapt) })
}

/// Scales the gradients in place so that their joint norm is at most `max_norm`; returns the norm before as a scalar tensor.
pub(crate) fn clip_grad_norm(grads: &[Tensor], max_norm: f64) -> Result<Tensor> {
    let mut total = Tensor::new();
    let g = pointers(grads);
    // SAFETY: the list holds `grads.len()` live tensors and `total` is one more.
    check(unsafe { ad_clip_grad_norm(g.as_ptr(), g.len(), max_norm, total.as_mut_ptr()) })?;
    Ok(total)
}

/// `[N]` log-probabilities of `targets [N]` under `hidden [N, H] head^T [H, V]`, `rows` at a time; differentiable once.
pub(crate) fn selected_log_probs(hidden: &Tensor, head: &Tensor, targets: &Tensor, rows: i64) -> Result<Tensor> {
    let mut out = Tensor::new();
    // SAFETY: all are live tensors; `out` is assigned to.
    check(unsafe { ad_selected_log_probs(hidden.as_ptr(), head.as_ptr(), targets.as_ptr(), rows, out.as_mut_ptr()) })?;
    Ok(out)
}

/// `into += weight * (from - into)`, in place.
pub(crate) fn foreach_lerp(into: &[Tensor], from: &[Tensor], weight: f64) -> Result<()> {
    let n = same_length(&[into, from])?;
    let (a, b) = (pointers(into), pointers(from));
    // SAFETY: both lists hold `n` live tensors.
    check(unsafe { ad_foreach_lerp(a.as_ptr(), b.as_ptr(), n, weight) })
}

/// Autocast to bfloat16 switched on or off for a device type while the guard lives.
pub(crate) struct Autocast {
    device_type: c_int,
    was_enabled: bool,
    was_dtype: i8,
}

impl Autocast {
    pub(crate) fn enter(device: tch::Device, enabled: bool) -> Result<Self> {
        let device_type = if device.is_cuda() { 1 } else { 0 };
        let (mut was_enabled, mut was_dtype) = (false, 0);
        // SAFETY: the shim writes one bool and one byte.
        check(unsafe { ad_autocast_enter(device_type, enabled, &mut was_enabled, &mut was_dtype) })?;
        Ok(Self { device_type, was_enabled, was_dtype })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: no pointers. An error here would mean that entering failed, and then there is no guard.
        let _ = check(unsafe { ad_autocast_exit(self.device_type, self.was_enabled, self.was_dtype) });
    }
}

/// Peak bytes that libtorch's allocator held on CUDA device `index` since the last reset.
pub(crate) fn cuda_peak_bytes(index: usize, reset: bool) -> Result<i64> {
    let mut bytes = 0;
    // SAFETY: the shim writes one integer.
    check(unsafe { ad_cuda_peak_bytes(index as c_int, reset, &mut bytes) })?;
    Ok(bytes)
}

/// Whether the processor can treat denormal numbers as zero; if so, it now does (or no longer does).
pub(crate) fn flush_denormals(on: bool) -> bool {
    // SAFETY: no pointers.
    unsafe { ad_flush_denormals(on) }
}
