// Log-probabilities of given tokens without the logits of all of them: forward and backward go through the rows in parts, and
// only one part's logits exist at a time.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Logits of some rows, in 32 bits (64 where the input has them), in `buffer` when its type allows that.
at::Tensor part_logits(const at::Tensor &hidden, const at::Tensor &head, at::Tensor &buffer) {
  if (buffer.scalar_type() != hidden.scalar_type())
    return at::mm(hidden, head.t()).to(buffer.scalar_type());
  auto out = buffer.narrow(0, 0, hidden.size(0));
  at::mm_out(out, hidden, head.t());
  return out;
}

at::Tensor buffer_for(const at::Tensor &hidden, const at::Tensor &head, int64_t rows) {
  auto kind = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::empty({std::min(rows, hidden.size(0)), head.size(0)}, hidden.options().dtype(kind).requires_grad(false));
}

struct SelectedLogProbs : torch::autograd::Function<SelectedLogProbs> {
  // hidden [N, H], head [V, H], targets [N]: [N].
  static Variable forward(AutogradContext *ctx, const Variable &hidden, const Variable &head, const Variable &targets,
                          int64_t rows) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto buffer = buffer_for(hidden, head, rows);
    auto n = hidden.size(0);
    auto out = at::empty({n}, buffer.options()), normalizer = at::empty({n}, buffer.options());
    for (int64_t from = 0; from < n; from += rows) {
      auto len = std::min(rows, n - from);
      auto logits = part_logits(hidden.narrow(0, from, len), head, buffer);
      auto picked = logits.gather(1, targets.narrow(0, from, len).unsqueeze(1)).squeeze(1);
      auto largest = logits.amax({1}, /*keepdim=*/true);
      auto norm = logits.sub_(largest).exp_().sum({1}).log_().add_(largest.squeeze(1));
      normalizer.narrow(0, from, len).copy_(norm);
      out.narrow(0, from, len).copy_(picked.sub_(norm));
    }
    ctx->save_for_backward({hidden, head, targets, normalizer});
    ctx->saved_data["rows"] = rows;
    return out;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    auto &hidden = saved[0], &head = saved[1], &targets = saved[2], &normalizer = saved[3];
    auto rows = ctx->saved_data["rows"].toInt();
    auto wants_hidden = ctx->needs_input_grad(0), wants_head = ctx->needs_input_grad(1);
    auto buffer = buffer_for(hidden, head, rows);
    at::Tensor d_hidden, d_head;
    if (wants_hidden)
      d_hidden = at::empty_like(hidden);
    if (wants_head)
      d_head = at::zeros(head.sizes(), buffer.options());
    for (int64_t from = 0, n = hidden.size(0); from < n; from += rows) {
      auto len = std::min(rows, n - from);
      auto h = hidden.narrow(0, from, len);
      auto g = grads[0].narrow(0, from, len).unsqueeze(1);
      auto d = part_logits(h, head, buffer);
      d.sub_(normalizer.narrow(0, from, len).unsqueeze(1)).exp_().mul_(-g);
      d.scatter_add_(1, targets.narrow(0, from, len).unsqueeze(1), g);
      if (d.scalar_type() != hidden.scalar_type())
        d = d.to(hidden.scalar_type());
      if (wants_hidden) {
        auto into = d_hidden.narrow(0, from, len);
        at::mm_out(into, d, head);
      }
      // Parts are added in the buffer's type: many roundings to half precision would lose what each part adds.
      if (wants_head && d.scalar_type() == d_head.scalar_type())
        d_head.addmm_(d.t(), h);
      else if (wants_head)
        d_head.add_(at::mm(d.t(), h));
    }
    return {d_hidden, wants_head ? d_head.to(head.scalar_type()) : d_head, Variable(), Variable()};
  }
};

} // namespace

extern "C" char *ad_selected_log_probs(const at::Tensor *hidden, const at::Tensor *head, const at::Tensor *targets, int64_t rows,
                                       at::Tensor *out) {
  try {
    *out = SelectedLogProbs::apply(*hidden, *head, *targets, rows);
    return nullptr;
  } catch (const c10::Error &e) {
    return strdup(e.what_without_backtrace());
  } catch (const std::exception &e) {
    return strdup(e.what());
  }
}
