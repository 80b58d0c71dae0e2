#include "shim.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/GradMode.h>
#include <malloc.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/version.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace {

thread_local char last_error[4096];

void remember(const char* message) noexcept {
  std::strncpy(last_error, message, sizeof last_error - 1);
  last_error[sizeof last_error - 1] = 0;
}

// Runs body: 0 = done, 1 = failed and mt_last_error() says why. No C++ exception leaves this file.
template <class Body>
int guarded(Body body) noexcept {
  try {
    body();
    return 0;
  } catch (const c10::Error& e) {
    remember(e.what_without_backtrace());
  } catch (const std::exception& e) {
    remember(e.what());
  } catch (...) {
    remember("unknown C++ exception");
  }
  return 1;
}

using TensorPtr = c10::intrusive_ptr<at::TensorImpl, at::UndefinedTensorImpl>;

at::Tensor borrow(MtTensor tensor) {
  TORCH_CHECK(tensor != nullptr, "the tensor is null");
  return at::Tensor(TensorPtr::reclaim_copy(static_cast<at::TensorImpl*>(tensor)));
}

MtTensor give(at::Tensor tensor) { return tensor.defined() ? tensor.unsafeReleaseTensorImpl() : nullptr; }

std::vector<at::Tensor> borrow_all(const MtTensor* tensors, int32_t count) {
  std::vector<at::Tensor> all;
  all.reserve(count);
  for (int32_t i = 0; i < count; i++) all.push_back(borrow(tensors[i]));
  return all;
}

// A number as the schema wants it: Scalar and int keep integers, float widens them.
c10::IValue number_as(const c10::TypePtr& type, const MtValue& value) {
  const bool real = value.kind == MT_DOUBLE;
  switch (type->kind()) {
    case c10::TypeKind::FloatType:
      return real ? value.real : static_cast<double>(value.number);
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      TORCH_CHECK(!real, "expected an integer, got ", value.real);
      return value.number;
    case c10::TypeKind::BoolType:
      TORCH_CHECK(!real, "expected a boolean, got ", value.real);
      return value.number != 0;
    default:
      if (real) return c10::IValue(value.real);
      return value.kind == MT_BOOL ? c10::IValue(value.number != 0) : c10::IValue(value.number);
  }
}

c10::IValue to_ivalue(const MtValue& value, const c10::Argument& argument) {
  c10::TypePtr type = argument.type();
  if (auto optional = type->cast<c10::OptionalType>()) {
    if (value.kind == MT_NONE || (value.kind == MT_TENSOR && value.pointer == nullptr)) return {};
    type = optional->getElementType();
  }
  switch (value.kind) {
    case MT_TENSOR:
      return borrow(value.pointer);
    case MT_INT:
    case MT_DOUBLE:
    case MT_BOOL:
      return number_as(type, value);
    case MT_INTS:
      return std::vector<int64_t>(value.ints, value.ints + value.length);
    case MT_TENSORS:
      if (type->cast<c10::ListType>() && type->cast<c10::ListType>()->getElementType()->kind() == c10::TypeKind::OptionalType) {
        c10::List<c10::optional<at::Tensor>> list;
        for (int32_t i = 0; i < value.length; i++)
          list.push_back(value.tensors[i] ? c10::optional<at::Tensor>(borrow(value.tensors[i])) : c10::nullopt);
        return list;
      }
      return borrow_all(value.tensors, value.length);
    case MT_DTYPE:
      return static_cast<at::ScalarType>(value.number);
    case MT_DEVICE:
      return c10::Device(static_cast<c10::DeviceType>(value.number >> 32),
                         static_cast<c10::DeviceIndex>((value.number & 0xffffffff) - 1));
    case MT_GENERATOR:
      TORCH_CHECK(value.pointer != nullptr, "the generator is null");
      return at::Generator(c10::intrusive_ptr<c10::GeneratorImpl>::reclaim_copy(static_cast<c10::GeneratorImpl*>(value.pointer)));
    case MT_NONE:
      return {};
    default:
      TORCH_CHECK(false, "argument ", argument.name(), ": unknown kind ", value.kind);
  }
}

void append_result(const c10::IValue& value, MtValue* results, int32_t capacity, int32_t& count) {
  if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) append_result(tensor, results, capacity, count);
    return;
  }
  TORCH_CHECK(count < capacity, "more results than the ", capacity, " there is room for");
  MtValue& result = results[count];
  result = {MT_NONE, 0, {0}};
  if (value.isTensor()) {
    result.kind = MT_TENSOR;
    result.pointer = give(value.toTensor());
  } else if (value.isInt()) {
    result.kind = MT_INT;
    result.number = value.toInt();
  } else if (value.isDouble()) {
    result.kind = MT_DOUBLE;
    result.real = value.toDouble();
  } else if (value.isBool()) {
    result.kind = MT_BOOL;
    result.number = value.toBool();
  } else if (value.isScalar()) {
    const at::Scalar scalar = value.toScalar();
    result.kind = scalar.isFloatingPoint() ? MT_DOUBLE : MT_INT;
    if (scalar.isFloatingPoint()) result.real = scalar.toDouble();
    else result.number = scalar.toLong();
  } else {
    TORCH_CHECK(value.isNone(), "a result of kind ", value.tagKind(), " is not carried");
  }
  count++;
}

// Counts what CPU tensors hold. A tensor's size stands in front of its data.
class CountingAllocator final : public at::Allocator {
 public:
  static constexpr size_t header = 64;  // libtorch's kernels want 64-byte alignment

#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 3)
  at::DataPtr allocate(size_t bytes) override { return take(bytes); }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
#else
  at::DataPtr allocate(size_t bytes) const override { return take(bytes); }
#endif

  static at::DataPtr take(size_t bytes) {
    void* block = nullptr;
    TORCH_CHECK(posix_memalign(&block, header, bytes + header) == 0, "out of memory: ", bytes, " bytes for a tensor could not be had");
    *static_cast<size_t*>(block) = bytes;
    const int64_t now = live.fetch_add(static_cast<int64_t>(bytes)) + static_cast<int64_t>(bytes);
    raise(peak, now);
    raise(largest, static_cast<int64_t>(bytes));
    void* data = static_cast<char*>(block) + header;
    return {data, data, &release, at::Device(at::DeviceType::CPU)};
  }

  at::DeleterFnPtr raw_deleter() const override { return &release; }

  static void release(void* data) {
    if (data == nullptr) return;
    void* block = static_cast<char*>(data) - header;
    live -= static_cast<int64_t>(*static_cast<size_t*>(block));
    std::free(block);
  }

  static std::atomic<int64_t> live, peak, largest;

 private:
  static void raise(std::atomic<int64_t>& mark, int64_t value) {
    int64_t seen = mark.load();
    while (value > seen && !mark.compare_exchange_weak(seen, value)) {
    }
  }
};

std::atomic<int64_t> CountingAllocator::live{0}, CountingAllocator::peak{0}, CountingAllocator::largest{0};

CountingAllocator counting_allocator;

const bool prepared = [] {
  // Freshly mapped pages cost 0.3 ms a megabyte; a freed block is kept for the next tensor instead of being unmapped.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  c10::SetCPUAllocator(&counting_allocator, 1);
  return true;
}();

}  // namespace

extern "C" {

const char* mt_last_error() { return last_error; }

int32_t mt_abi() { return 1; }

const char* mt_version() { return TORCH_VERSION; }

void mt_release(MtTensor tensor) {
  guarded([&] { TensorPtr::reclaim(static_cast<at::TensorImpl*>(tensor)); });
}

int mt_alias(MtTensor tensor, MtTensor* result) {
  return guarded([&] { *result = give(borrow(tensor).alias()); });
}

int mt_info(MtTensor tensor, MtInfo* info, int64_t* sizes, int32_t capacity) {
  return guarded([&] {
    TORCH_CHECK(tensor != nullptr, "the tensor is null");
    const auto* impl = static_cast<at::TensorImpl*>(tensor);
    const auto shape = impl->sizes();
    const auto device = impl->device();
    *info = {static_cast<int32_t>(c10::typeMetaToScalarType(impl->dtype())), static_cast<int32_t>(device.type()), device.index(),
             static_cast<int32_t>(shape.size()), impl->requires_grad() || (impl->autograd_meta() && borrow(tensor).requires_grad()),
             impl->is_contiguous(), impl->numel() * static_cast<int64_t>(impl->itemsize()), impl->numel()};
    for (int32_t i = 0; i < info->dims && i < capacity; i++) sizes[i] = shape[i];
  });
}

int mt_data(MtTensor tensor, void** data) {
  return guarded([&] {
    const at::Tensor borrowed = borrow(tensor);
    TORCH_CHECK(borrowed.device().is_cpu(), "data is on ", borrowed.device(), "; copy the tensor to the CPU first");
    TORCH_CHECK(borrowed.is_contiguous(), "data is not contiguous; call contiguous() first");
    *data = borrowed.data_ptr();
  });
}

int mt_find(const char* name, MtOperator* op) {
  return guarded([&] {
    const char* dot = std::strchr(name, '.');
    const std::string base(name, dot ? static_cast<size_t>(dot - name) : std::strlen(name));
    const auto found = c10::Dispatcher::singleton().findSchema({base, dot ? dot + 1 : ""});
    TORCH_CHECK(found.has_value(), "libtorch ", TORCH_VERSION, " has no operator ", name);
    *op = new c10::OperatorHandle(*found);
  });
}

int mt_call(MtOperator op, const MtValue* arguments, int32_t count, MtValue* results, int32_t capacity, int32_t* result_count) {
  *result_count = 0;
  return guarded([&] {
    TORCH_CHECK(op != nullptr, "the operator is null");
    const auto& handle = *static_cast<const c10::OperatorHandle*>(op);
    const auto& schema = handle.schema().arguments();
    TORCH_CHECK(static_cast<size_t>(count) <= schema.size(), "takes ", schema.size(), " arguments, got ", count);
    torch::jit::Stack stack;
    stack.reserve(schema.size());
    for (size_t i = 0; i < schema.size(); i++) {
      const bool given = i < static_cast<size_t>(count) && arguments[i].kind != MT_DEFAULT;
      TORCH_CHECK(given || schema[i].default_value().has_value(), "argument ", schema[i].name(), " is missing");
      stack.push_back(given ? to_ivalue(arguments[i], schema[i]) : *schema[i].default_value());
    }
    handle.callBoxed(stack);
    for (const auto& value : stack) append_result(value, results, capacity, *result_count);
  });
}

int mt_grad(const MtTensor* outputs, int32_t output_count, const MtTensor* inputs, int32_t input_count, const MtTensor* output_gradients,
            int32_t retain_graph, int32_t create_graph, int32_t allow_unused, MtTensor* gradients) {
  return guarded([&] {
    std::vector<at::Tensor> seeds;
    if (output_gradients != nullptr) seeds = borrow_all(output_gradients, output_count);
    const auto found = torch::autograd::grad(borrow_all(outputs, output_count), borrow_all(inputs, input_count), seeds,
                                             retain_graph != 0, create_graph != 0, allow_unused != 0);
    for (int32_t i = 0; i < input_count; i++) gradients[i] = give(found[i]);
  });
}

int mt_set_requires_grad(MtTensor tensor, int32_t value) {
  return guarded([&] { borrow(tensor).set_requires_grad(value != 0); });
}

int32_t mt_grad_enabled() { return c10::GradMode::is_enabled(); }

void mt_set_grad_enabled(int32_t value) { c10::GradMode::set_enabled(value != 0); }

int mt_set_threads(int32_t count) {
  return guarded([&] { at::set_num_threads(count); });
}

int32_t mt_threads() { return at::get_num_threads(); }

int32_t mt_cuda_available() { return at::hasCUDA(); }

int mt_generator(uint64_t seed, MtGenerator* result) {
  return guarded([&] { *result = at::detail::createCPUGenerator(seed).unsafeReleaseGeneratorImpl(); });
}

void mt_generator_release(MtGenerator generator) {
  guarded([&] { c10::intrusive_ptr<c10::GeneratorImpl>::reclaim(static_cast<c10::GeneratorImpl*>(generator)); });
}

void mt_memory(MtMemory* figures) {
  *figures = {CountingAllocator::live, CountingAllocator::peak, CountingAllocator::largest};
}

void mt_memory_reset() {
  CountingAllocator::peak = CountingAllocator::live.load();
  CountingAllocator::largest = 0;
}
}
