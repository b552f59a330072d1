// A pretend GPU: a stand-in for libtorch_cuda.so that gives machines without one a device `cuda:0` made of ordinary memory.
//
// Tensors on it are CUDA tensors to libtorch: they have its dispatch key, pass its autocast and its autograd threads, and
// meet tensors of the CPU only where a GPU's would. What mixes the two otherwise, or asks for a kernel that CUDA is known
// here to lack, fails. The arithmetic is the CPU's, on the same bytes, so results can be compared.
//
// What it does not show: speed, numerics of CUDA kernels, memory limits, races of streams; kernels that CUDA lacks and this
// file does not name; waits inside CUDA's own kernels (of uploads from ordinary memory, of some factorisations).
//
// With AUTODIDACT_PRETEND_GPU_COUNTS=FILE the numbers of kernels, uploads, and waits of the host for the device, by
// operation, are written to FILE as JSON when the process ends.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/FakeGuardImpl.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace {

const c10::Device GPU(c10::kCUDA, 0);

// ---- what is counted

struct Counts {
  std::mutex mutex;
  std::map<std::string, int64_t> kernels, uploads, waits;

  void add(std::map<std::string, int64_t> Counts::*kind, const std::string &op) {
    std::lock_guard<std::mutex> lock(mutex);
    ++(this->*kind)[op];
  }

  ~Counts() {
    const char *path = std::getenv("AUTODIDACT_PRETEND_GPU_COUNTS");
    if (!path)
      return;
    std::ofstream out(path);
    auto list = [&](const char *name, const std::map<std::string, int64_t> &of, const char *end) {
      int64_t total = 0;
      for (auto &entry : of)
        total += entry.second;
      out << "\"" << name << "\": {\"all\": " << total;
      for (auto &entry : of)
        out << ", \"" << entry.first << "\": " << entry.second;
      out << "}" << end;
    };
    out << "{";
    list("kernels", kernels, ",\n ");
    list("uploads", uploads, ",\n ");
    list("waits", waits, "}\n");
  }
};

Counts counts;

// Operations whose result's size or value the host must know before it goes on.
const std::set<std::string> WAITING = {"aten::_local_scalar_dense", "aten::nonzero",    "aten::masked_select", "aten::_unique",
                                       "aten::_unique2",            "aten::unique_dim", "aten::unique_consecutive",
                                       "aten::equal",               "aten::bincount",   "aten::repeat_interleave",
                                       "aten::_linalg_eigh",        "aten::_linalg_svd"};

// Operations that only look at the same bytes in another way.
const std::set<std::string> VIEWS = {"aten::as_strided", "aten::view", "aten::_reshape_alias", "aten::unfold",
                                     "aten::view_as_real", "aten::view_as_complex"};

// ---- memory

struct Memory : c10::DeviceAllocator {
  std::atomic<int64_t> now{0}, peak{0};

  struct Block {
    c10::DataPtr data;
    int64_t bytes;
    Memory *owner;
  };

  static void release(void *context) {
    auto *block = static_cast<Block *>(context);
    block->owner->now -= block->bytes;
    delete block;
  }

  // Takes over memory of the host.
  c10::DataPtr adopt(c10::DataPtr data, int64_t bytes) {
    auto held = now += bytes;
    for (auto seen = peak.load(); held > seen && !peak.compare_exchange_weak(seen, held);) {
    }
    void *address = data.get();
    return {address, new Block{std::move(data), bytes, this}, &release, GPU};
  }

  c10::DataPtr allocate(size_t bytes) override {
    return adopt(c10::GetAllocator(c10::kCPU)->allocate(bytes), static_cast<int64_t>(bytes));
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void *into, const void *from, size_t bytes) const override { default_copy_data(into, from, bytes); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr &, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[0].current = now;
    stats.allocated_bytes[0].peak = peak;
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override { peak = now.load(); }
};

Memory *memory() {
  static auto *memory = new Memory;
  return memory;
}

// ---- the device

struct Hooks : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  int getNumGPUs() const override { return 1; }
  c10::DeviceIndex current_device() const override { return 0; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  void deviceSynchronize(c10::DeviceIndex) const override {}
  c10::Device getDeviceFromPtr(void *) const override { return GPU; }
  c10::Allocator *getCUDADeviceAllocator() const override { return memory(); }
  // Kernels draw from the CPU's generator: they are the CPU's.
  const at::Generator &getDefaultGenerator(c10::DeviceIndex) const override { return at::detail::getDefaultCPUGenerator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::detail::createCPUGenerator(); }
};

// ---- tensors seen from the host

at::Tensor shaped_as(c10::Storage storage, const at::Tensor &t, c10::DispatchKey key) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), t.dtype());
  auto *impl = made.unsafeGetTensorImpl();
  impl->set_storage_offset(t.storage_offset());
  impl->set_sizes_and_strides(t.sizes(), t.strides());
  made._set_conj(t.is_conj());
  made._set_neg(t.is_neg());
  return made;
}

c10::Storage make_storage(int64_t bytes, c10::DataPtr data, c10::Allocator *allocator) {
  return c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), bytes, std::move(data), allocator, true);
}

int64_t bytes_of(const at::Tensor &t) { return static_cast<int64_t>(t.storage().nbytes()); }

void *address_of(const at::Tensor &t) { return t.storage().unsafeGetStorageImpl()->mutable_data(); }

// The same bytes as a tensor of the CPU; valid as long as `t` is.
at::Tensor on_host(const at::Tensor &t) {
  c10::DataPtr borrowed(address_of(t), c10::Device(c10::kCPU));
  return shaped_as(make_storage(bytes_of(t), std::move(borrowed), c10::GetAllocator(c10::kCPU)), t, c10::DispatchKey::CPU);
}

// Memory that a kernel of the CPU made, as the device's.
c10::DataPtr taken_over(const at::Tensor &host) {
  auto *held = new c10::Storage(host.storage());
  c10::DataPtr data(address_of(host), held, [](void *s) { delete static_cast<c10::Storage *>(s); }, c10::Device(c10::kCPU));
  return memory()->adopt(std::move(data), bytes_of(host));
}

at::Tensor new_on_device(const at::Tensor &host) {
  if (!host.defined())
    return host;
  return shaped_as(make_storage(bytes_of(host), taken_over(host), memory()), host, c10::DispatchKey::CUDA);
}

// ---- one operation

bool is_indexing(const std::string &name) {
  static const std::set<std::string> all = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"};
  return all.count(name);
}

class Call {
public:
  explicit Call(const c10::OperatorHandle &op) : name(op.schema().name()), schema(op.schema()) {}

  void arguments(torch::jit::Stack &stack) {
    auto given = schema.arguments();
    auto first = stack.size() - given.size();
    for (size_t i = 0; i < given.size(); ++i) {
      argument = &given[i];
      auto &value = stack[first + i];
      if (value.isTensor()) {
        value = host(value.toTensor());
      } else if (value.isTensorList()) {
        c10::List<at::Tensor> list;
        for (const at::Tensor &t : value.toTensorVector())
          list.push_back(host(t));
        value = list;
      } else if (value.isOptionalTensorList()) {
        c10::List<std::optional<at::Tensor>> list;
        for (const std::optional<at::Tensor> &t : value.toOptionalTensorVector())
          list.push_back(t ? std::optional<at::Tensor>(host(*t)) : std::nullopt);
        value = list;
      } else if (value.isDevice() && value.toDevice().is_cuda()) {
        value = c10::Device(c10::kCPU);
      }
    }
    only_what_cuda_has();
  }

  void results(torch::jit::Stack &stack) {
    for (auto &[original, seen] : tensors)
      if (original.is_cuda())
        follow(original, seen);
    auto count = schema.returns().size();
    for (auto at = stack.size() - count; at < stack.size(); ++at) {
      auto &value = stack[at];
      if (value.isTensor()) {
        value = on_device(value.toTensor());
      } else if (value.isTensorList()) {
        c10::List<at::Tensor> list;
        for (const at::Tensor &t : value.toTensorVector())
          list.push_back(on_device(t));
        value = list;
      }
    }
  }

private:
  const std::string name;
  const c10::FunctionSchema &schema;
  const c10::Argument *argument = nullptr;
  // Each tensor of the call with what the CPU's kernel sees of it.
  std::vector<std::pair<at::Tensor, at::Tensor>> tensors;

  at::Tensor host(const at::Tensor &t) {
    if (!t.defined())
      return t;
    if (!t.is_cuda()) {
      static const std::set<std::string> by_address = {
          "aten::mm",     "aten::bmm",         "aten::addmm",   "aten::addmm_",      "aten::addmv",       "aten::baddbmm",
          "aten::gather", "aten::scatter_add", "aten::scatter", "aten::embedding",   "aten::index_copy",  "aten::index_select",
          "aten::dot",    "aten::index_add",   "aten::cat",     "aten::native_batch_norm"};
      auto index = is_indexing(name) && argument->name() == "indices";
      auto written = argument->alias_info() && argument->alias_info()->isWrite();
      // In operations element by element a scalar of the CPU travels as an argument of the kernel.
      auto scalar = t.dim() == 0 && !written && argument->type()->kind() != c10::TypeKind::ListType &&
                    !by_address.count(name) && name.rfind("aten::_fused", 0) != 0;
      TORCH_CHECK(index || scalar, "Expected all tensors to be on the same device, but argument ", argument->name(), " of ",
                  name, " is on ", t.device(), " beside others on ", GPU);
      return t;
    }
    tensors.emplace_back(t, on_host(t));
    return tensors.back().second;
  }

  // Kernels that the CPU has and CUDA has not.
  void only_what_cuda_has() const {
    static const std::set<std::string> products = {"aten::mm",  "aten::bmm",     "aten::addmm", "aten::addmm_", "aten::addmv",
                                                   "aten::dot", "aten::baddbmm", "aten::addr"};
    if (products.count(name) && !tensors.empty())
      TORCH_CHECK(!c10::isIntegralType(tensors.front().first.scalar_type(), true), name, ": not implemented on CUDA for ",
                  tensors.front().first.scalar_type());
    TORCH_CHECK(name.rfind("aten::histogram", 0) != 0 && name.rfind("aten::_histogramdd", 0) != 0, name,
                " has no CUDA kernel");
  }

  // A kernel may have given an output another size, and then other memory.
  static void follow(const at::Tensor &original, const at::Tensor &seen) {
    if (address_of(seen) != address_of(original)) {
      auto *storage = original.storage().unsafeGetStorageImpl();
      storage->set_data_ptr_noswap(taken_over(seen));
      storage->set_nbytes(bytes_of(seen));
    }
    if (seen.sizes() != original.sizes() || seen.strides() != original.strides())
      original.unsafeGetTensorImpl()->set_sizes_and_strides(seen.sizes(), seen.strides());
  }

  at::Tensor on_device(const at::Tensor &t) const {
    if (!t.defined() || t.is_cuda())
      return t;
    for (auto &[original, seen] : tensors)
      if (seen.is_same(t))
        return original;
    for (auto &[original, seen] : tensors)
      if (address_of(seen) && address_of(seen) == address_of(t))
        return shaped_as(original.storage(), t, c10::DispatchKey::CUDA);
    return new_on_device(t);
  }
};

// Whether a mask says which elements are written, whose number is known to the device alone. (Where they are read, the library
// asks for `nonzero` itself.)
bool masks(const torch::jit::Stack &stack, const c10::OperatorHandle &op) {
  if (op.schema().name() != "aten::_index_put_impl_")
    return false;
  for (auto at = stack.size() - op.schema().arguments().size(); at < stack.size(); ++at)
    if (stack[at].isOptionalTensorList())
      for (const std::optional<at::Tensor> &t : stack[at].toOptionalTensorVector())
        if (t && t->defined() && (t->scalar_type() == at::kBool || t->scalar_type() == at::kByte))
          return true;
  return false;
}

// What kernels warn of on the CPU (of outputs of another size, which libtorch prepares itself, say) need not concern CUDA's.
struct Silent : c10::WarningHandler {
  void process(const c10::Warning &) override {}
};

void any_operation(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
  at::AutoDispatchBelowADInplaceOrView plain;
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  static Silent silent;
  c10::WarningUtils::WarningHandlerGuard quiet(&silent);
  auto &name = op.schema().name();
  if (!VIEWS.count(name))
    counts.add(WAITING.count(name) || masks(*stack, op) ? &Counts::waits : &Counts::kernels, name);
  Call call(op);
  call.arguments(*stack);
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  call.results(*stack);
}

// ---- the few operations that are no kernels

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>,
                 std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, memory(), c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   dtype.value_or(at::get_default_dtype_as_scalartype()), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, memory(), c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                           dtype.value_or(at::get_default_dtype_as_scalartype()));
}

// Where the library chooses kernels by device before it calls them: the CPU's own way to the same result.

template <class F> auto with_hosts(const char *op, F f) {
  at::AutoDispatchBelowADInplaceOrView plain;
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  counts.add(&Counts::kernels, op);
  return f([op](const at::Tensor &t) {
    TORCH_CHECK(!t.defined() || t.is_cuda(), "Expected all tensors to be on the same device, but one of ", op, " is on ",
                t.device(), " beside others on ", GPU);
    return t.defined() ? on_host(t) : t;
  });
}

at::Tensor convolution(const at::Tensor &input, const at::Tensor &weight, const std::optional<at::Tensor> &bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups) {
  return with_hosts("aten::convolution", [&](auto host) {
    auto with_bias = bias && bias->defined() ? std::optional<at::Tensor>(host(*bias)) : std::nullopt;
    return new_on_device(at::convolution(host(input), host(weight), with_bias, stride, padding, dilation, transposed,
                                         output_padding, groups));
  });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor>
convolution_backward(const at::Tensor &grad, const at::Tensor &input, const at::Tensor &weight, at::OptionalIntArrayRef bias,
                     at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                     at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> mask) {
  return with_hosts("aten::convolution_backward", [&](auto host) {
    auto [d_input, d_weight, d_bias] = at::convolution_backward(host(grad), host(input), host(weight), bias, stride, padding,
                                                                dilation, transposed, output_padding, groups, mask);
    return std::make_tuple(new_on_device(d_input), new_on_device(d_weight), new_on_device(d_bias));
  });
}

// The gates r, z, n of h' = (1 - z) n + z h with n = tanh(i_n + r h_n); for the way back, [r, z, n, h, h_n] are kept.
std::tuple<at::Tensor, at::Tensor> gru_cell(const at::Tensor &input, const at::Tensor &hidden, const at::Tensor &h,
                                            const std::optional<at::Tensor> &input_bias,
                                            const std::optional<at::Tensor> &hidden_bias) {
  return with_hosts("aten::_thnn_fused_gru_cell", [&](auto host) {
    auto gates = [&](const at::Tensor &of, const std::optional<at::Tensor> &bias) {
      return (bias && bias->defined() ? host(of) + host(*bias) : host(of)).chunk(3, 1);
    };
    auto i = gates(input, input_bias), j = gates(hidden, hidden_bias);
    auto r = (i[0] + j[0]).sigmoid(), z = (i[1] + j[1]).sigmoid(), n = (i[2] + r * j[2]).tanh();
    auto before = host(h);
    return std::make_tuple(new_on_device((before - n) * z + n), new_on_device(at::cat({r, z, n, before, j[2]}, 1)));
  });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> gru_cell_backward(const at::Tensor &grad,
                                                                                         const at::Tensor &kept, bool bias) {
  return with_hosts("aten::_thnn_fused_gru_cell_backward", [&](auto host) {
    auto g = host(grad);
    auto k = host(kept).chunk(5, 1);
    auto &r = k[0], &z = k[1], &n = k[2], &h = k[3], &h_n = k[4];
    auto d_n = g * (1 - z) * (1 - n * n), d_z = g * (h - n) * z * (1 - z), d_r = d_n * h_n * r * (1 - r);
    auto input = at::cat({d_r, d_z, d_n}, 1), hidden = at::cat({d_r, d_z, d_n * r}, 1);
    auto sum = [&](const at::Tensor &of) { return bias ? new_on_device(of.sum(0)) : at::Tensor(); };
    return std::make_tuple(new_on_device(input), new_on_device(hidden), new_on_device(g * z), sum(input), sum(hidden));
  });
}

at::Tensor &copy(at::Tensor &self, const at::Tensor &src, bool) {
  at::AutoDispatchBelowADInplaceOrView plain;
  auto kind = self.is_cuda() && src.is_cuda() ? &Counts::kernels : self.is_cuda() ? &Counts::uploads : &Counts::waits;
  counts.add(kind, "aten::copy_");
  auto host = [](const at::Tensor &t) { return t.is_cuda() ? on_host(t) : t; };
  host(self).copy_(host(src));
  return self;
}

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&any_operation>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", TORCH_FN(empty));
  m.impl("empty_strided", TORCH_FN(empty_strided));
  m.impl("copy_", TORCH_FN(copy));
  m.impl("convolution", TORCH_FN(convolution));
  m.impl("convolution_backward", TORCH_FN(convolution_backward));
  m.impl("_thnn_fused_gru_cell", TORCH_FN(gru_cell));
  m.impl("_thnn_fused_gru_cell_backward", TORCH_FN(gru_cell_backward));
}

using Guard = c10::impl::FakeGuardImpl<c10::DeviceType::CUDA>;
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

const bool ready = [] {
  c10::SetAllocator(c10::kCUDA, memory());
  return true;
}();

} // namespace

// For tests: how often the host has waited for the device.
extern "C" int64_t pretend_gpu_waits() {
  std::lock_guard<std::mutex> lock(counts.mutex);
  int64_t total = 0;
  for (auto &entry : counts.waits)
    total += entry.second;
  return total;
}

namespace at {
using CUDAHooks = Hooks;
REGISTER_CUDA_HOOKS(CUDAHooks)
} // namespace at
