using System.Runtime.InteropServices;

namespace MendCluster.Torch;

/// <summary>The entries of Native/shim.h, and nothing else. A pointer is a borrowed tensor unless the entry's doc says otherwise.</summary>
internal static unsafe partial class Native
{
    public const string Library = "mendtorch";

    /// <summary>Version of the entries that this assembly was written for.</summary>
    public const int Abi = 1;

    [LibraryImport(Library)]
    public static partial nint mt_last_error();

    [LibraryImport(Library)]
    public static partial int mt_abi();

    [LibraryImport(Library)]
    public static partial nint mt_version();

    /// <summary>Takes the reference back.</summary>
    [LibraryImport(Library)]
    public static partial void mt_release(nint tensor);

    /// <summary>The result owns a new reference.</summary>
    [LibraryImport(Library)]
    public static partial int mt_alias(nint tensor, nint* result);

    [LibraryImport(Library)]
    public static partial int mt_info(nint tensor, Info* info, long* sizes, int capacity);

    /// <summary>The pointer lives as long as the tensor.</summary>
    [LibraryImport(Library)]
    public static partial int mt_data(nint tensor, void** data);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int mt_find(string name, nint* op);

    /// <summary>Tensors among the results own new references.</summary>
    [LibraryImport(Library)]
    public static partial int mt_call(nint op, Value* arguments, int count, Value* results, int capacity, int* resultCount);

    /// <summary>Gradients own new references; zero where unused.</summary>
    [LibraryImport(Library)]
    public static partial int mt_grad(nint* outputs, int outputCount, nint* inputs, int inputCount, nint* outputGradients,
        int retainGraph, int createGraph, int allowUnused, nint* gradients);

    [LibraryImport(Library)]
    public static partial int mt_set_requires_grad(nint tensor, int value);

    [LibraryImport(Library)]
    public static partial int mt_grad_enabled();

    [LibraryImport(Library)]
    public static partial void mt_set_grad_enabled(int value);

    [LibraryImport(Library)]
    public static partial int mt_set_threads(int count);

    [LibraryImport(Library)]
    public static partial int mt_threads();

    [LibraryImport(Library)]
    public static partial int mt_cuda_available();

    /// <summary>The result owns a reference.</summary>
    [LibraryImport(Library)]
    public static partial int mt_generator(ulong seed, nint* result);

    /// <summary>Takes the reference back.</summary>
    [LibraryImport(Library)]
    public static partial void mt_generator_release(nint generator);

    [LibraryImport(Library)]
    public static partial void mt_memory(Memory* figures);

    [LibraryImport(Library)]
    public static partial void mt_memory_reset();

    public enum Kind
    {
        Default = 0,
        Tensor = 1,
        Int = 2,
        Double = 3,
        Bool = 4,
        Ints = 5,
        Tensors = 6,
        DType = 7,
        Device = 8,
        Generator = 9,
        None = 10,
    }

    [StructLayout(LayoutKind.Explicit, Size = 16)]
    public struct Value
    {
        [FieldOffset(0)] public Kind Kind;
        [FieldOffset(4)] public int Length;
        [FieldOffset(8)] public long Number;
        [FieldOffset(8)] public double Real;
        [FieldOffset(8)] public nint Pointer;
    }

    public struct Info
    {
        public int DType;
        public int DeviceType;
        public int DeviceIndex;
        public int Dims;
        public int RequiresGrad;
        public int Contiguous;
        public long Bytes;
        public long Elements;
    }

    public struct Memory
    {
        public long Live;
        public long Peak;
        public long Largest;
    }
}
