// The door to libtorch: a dozen C entries. Every entry that can fail returns 0 when done and 1 when not; mt_last_error() then says why.
// No C++ exception leaves this library, and no entry keeps what it is given unless it says so.
#pragma once
#include <cstdint>

extern "C" {

typedef void* MtTensor;     // owns one reference; give it back with mt_release
typedef void* MtGenerator;  // owns one reference; give it back with mt_generator_release
typedef const void* MtOperator;  // lives as long as the process

enum MtKind : int32_t {
  MT_DEFAULT = 0,  // argument: the schema's default. result: none
  MT_TENSOR = 1,   // argument: borrowed, null is None. result: a new reference
  MT_INT = 2,
  MT_DOUBLE = 3,
  MT_BOOL = 4,
  MT_INTS = 5,     // argument only: length numbers at ints
  MT_TENSORS = 6,  // argument only: length borrowed tensors at tensors
  MT_DTYPE = 7,    // c10::ScalarType as a number
  MT_DEVICE = 8,   // device type << 32 | index + 1
  MT_GENERATOR = 9,
  MT_NONE = 10,
};

struct MtValue {
  int32_t kind;
  int32_t length;
  union {
    int64_t number;
    double real;
    void* pointer;
    const int64_t* ints;
    const MtTensor* tensors;
  };
};

struct MtInfo {
  int32_t dtype;
  int32_t device_type;
  int32_t device_index;
  int32_t dims;
  int32_t requires_grad;
  int32_t contiguous;
  int64_t bytes;    // of the elements, when contiguous
  int64_t elements;
};

struct MtMemory {
  int64_t live;     // bytes held by CPU tensors now
  int64_t peak;     // most since the last reset
  int64_t largest;  // largest single tensor since the last reset
};

// Why the last call on this thread failed. Valid until the next failure on it.
const char* mt_last_error();

// Version of these entries; the loader compares it.
int32_t mt_abi();
const char* mt_version();

// Lifetime.
void mt_release(MtTensor tensor);
int mt_alias(MtTensor tensor, MtTensor* result);  // another reference to the same tensor

// Data.
int mt_info(MtTensor tensor, MtInfo* info, int64_t* sizes, int32_t capacity);  // fills sizes up to capacity
int mt_data(MtTensor tensor, void** data);  // of a contiguous CPU tensor; valid while the tensor lives

// Any ATen operator by name ("aten::mm" or "aten::sum.dim_IntList"), through the dispatcher. Arguments that are missing at the end, or
// MT_DEFAULT, take the schema's default. Tensor lists among the results are laid out one after another; *count says how many there are.
int mt_find(const char* name, MtOperator* op);
int mt_call(MtOperator op, const MtValue* arguments, int32_t count, MtValue* results, int32_t capacity, int32_t* result_count);

// Autograd. gradients receives one new reference per input, or null where the output does not depend on it and allow_unused is set.
int mt_grad(const MtTensor* outputs, int32_t output_count, const MtTensor* inputs, int32_t input_count, const MtTensor* output_gradients,
            int32_t retain_graph, int32_t create_graph, int32_t allow_unused, MtTensor* gradients);
int mt_set_requires_grad(MtTensor tensor, int32_t value);

// Modes.
int32_t mt_grad_enabled();
void mt_set_grad_enabled(int32_t value);
int mt_set_threads(int32_t count);
int32_t mt_threads();
int32_t mt_cuda_available();
int mt_generator(uint64_t seed, MtGenerator* result);
void mt_generator_release(MtGenerator generator);

// Memory of CPU tensors, counted at the allocator.
void mt_memory(MtMemory* figures);
void mt_memory_reset();
}
