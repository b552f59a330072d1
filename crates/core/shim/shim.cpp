// What tch does not reach in ATen: the fused and foreach optimizer kernels, autocast by device and dtype, and the
// statistics of the caching allocator. A function that returns text returns nullptr, or a malloc'ed message that the caller
// frees.

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/GradMode.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using List = std::vector<at::Tensor>;

List list(at::Tensor *const *tensors, size_t n) {
  List out;
  out.reserve(n);
  for (size_t i = 0; i < n; ++i)
    out.push_back(*tensors[i]);
  return out;
}

template <class F> char *guarded(F f) {
  try {
    c10::AutoGradMode no_grad(false);
    f();
    return nullptr;
  } catch (const c10::Error &e) {
    return strdup(e.what_without_backtrace());
  } catch (const std::exception &e) {
    return strdup(e.what());
  }
}

} // namespace

extern "C" {

char *ad_fused_sgd(at::Tensor *const *params, at::Tensor *const *grads, at::Tensor *const *buffers, size_t n, double lr,
                   double momentum, double dampening, double weight_decay, bool nesterov, bool first_step) {
  return guarded([&] {
    at::_fused_sgd_(list(params, n), list(grads, n), buffers ? list(buffers, n) : List{}, weight_decay, momentum, lr,
                    dampening, nesterov, /*maximize=*/false, first_step);
  });
}

char *ad_fused_adam(at::Tensor *const *params, at::Tensor *const *grads, at::Tensor *const *m, at::Tensor *const *v,
                    at::Tensor *const *steps, size_t n, double lr, double beta1, double beta2, double eps,
                    double weight_decay, bool decoupled) {
  return guarded([&] {
    auto p = list(params, n), g = list(grads, n), ms = list(m, n), vs = list(v, n), s = list(steps, n);
    at::_foreach_add_(s, 1);
    if (decoupled)
      at::_fused_adamw_(p, g, ms, vs, {}, s, lr, beta1, beta2, weight_decay, eps, false, false);
    else
      at::_fused_adam_(p, g, ms, vs, {}, s, lr, beta1, beta2, weight_decay, eps, false, false);
  });
}

char *ad_lars(at::Tensor *const *params, at::Tensor *const *grads, at::Tensor *const *buffers, size_t n, double lr,
              double momentum, double weight_decay, double eta, bool adapt) {
  return guarded([&] {
    auto p = list(params, n), update = list(grads, n), mu = list(buffers, n);
    if (weight_decay != 0)
      update = at::_foreach_add(update, p, weight_decay);
    if (adapt) {
      auto pn = at::stack(at::_foreach_norm(p)), un = at::stack(at::_foreach_norm(update));
      auto q = at::where((pn > 0).logical_and(un > 0), eta * pn / un, at::ones_like(pn));
      update = at::_foreach_mul(update, q.unbind());
    }
    at::_foreach_mul_(mu, momentum);
    at::_foreach_add_(mu, update);
    at::_foreach_add_(p, mu, -lr);
  });
}

char *ad_clip_grad_norm(at::Tensor *const *grads, size_t n, double max_norm, at::Tensor *total) {
  return guarded([&] {
    auto g = list(grads, n);
    *total = at::stack(at::_foreach_norm(g)).norm();
    at::_foreach_mul_(g, (max_norm / (*total + 1e-6)).clamp_max(1.0));
  });
}

char *ad_foreach_lerp(at::Tensor *const *into, at::Tensor *const *from, size_t n, double weight) {
  return guarded([&] { at::_foreach_lerp_(list(into, n), list(from, n), weight); });
}

// Switches autocast to bfloat16 on or off for a device type (0 = CPU, 1 = CUDA); `was_enabled`/`was_dtype` receive what to
// restore.
char *ad_autocast_enter(int device_type, bool enabled, bool *was_enabled, int8_t *was_dtype) {
  return guarded([&] {
    auto device = static_cast<at::DeviceType>(device_type);
    *was_enabled = at::autocast::is_autocast_enabled(device);
    *was_dtype = static_cast<int8_t>(at::autocast::get_autocast_dtype(device));
    at::autocast::set_autocast_dtype(device, at::kBFloat16);
    at::autocast::set_autocast_enabled(device, enabled);
    at::autocast::increment_nesting();
  });
}

char *ad_autocast_exit(int device_type, bool was_enabled, int8_t was_dtype) {
  return guarded([&] {
    auto device = static_cast<at::DeviceType>(device_type);
    if (at::autocast::decrement_nesting() == 0)
      at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device, was_enabled);
    at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(was_dtype));
  });
}

// Peak bytes allocated on a CUDA device since the last reset.
char *ad_cuda_peak_bytes(int index, bool reset, int64_t *bytes) {
  return guarded([&] {
    auto *allocator = at::getDeviceAllocator(at::kCUDA);
    *bytes = allocator->getDeviceStats(index).allocated_bytes[0].peak;
    if (reset)
      allocator->resetPeakStats(index);
  });
}

// Denormal numbers as zero on this thread; false where the processor cannot.
bool ad_flush_denormals(bool on) { return at::globalContext().setFlushDenormal(on); }
}
