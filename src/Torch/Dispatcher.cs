using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MendCluster.Torch;

/// <summary>An argument of an operator, or a result.</summary>
internal readonly struct Argument
{
    private Argument(Native.Kind kind, long number = 0, double real = 0, object? reference = null) =>
        (Kind, Number, Real, Reference) = (kind, number, real, reference);

    /// <summary>What the operator's schema says when nothing is given.</summary>
    public static Argument Default => default;

    public static Argument None => new(Native.Kind.None);

    public Native.Kind Kind { get; }

    public long Number { get; }

    public double Real { get; }

    public object? Reference { get; }

    public static implicit operator Argument(Tensor? tensor) => tensor is null ? None : new(Native.Kind.Tensor, reference: tensor);

    public static implicit operator Argument(long number) => new(Native.Kind.Int, number);

    public static implicit operator Argument(double real) => new(Native.Kind.Double, real: real);

    public static implicit operator Argument(bool flag) => new(Native.Kind.Bool, flag ? 1 : 0);

    public static implicit operator Argument(long[] numbers) => new(Native.Kind.Ints, reference: numbers);

    public static implicit operator Argument(ScalarType? dtype) => dtype is { } type ? new(Native.Kind.DType, (long)type) : None;

    public static implicit operator Argument(ScalarType dtype) => new(Native.Kind.DType, (long)dtype);

    public static implicit operator Argument(Device? device) =>
        device is null ? None : new(Native.Kind.Device, ((long)device.type << 32) | (uint)(device.index + 1));

    public static implicit operator Argument(Scalar scalar) => scalar.IsFloatingPoint ? scalar.ToDouble() : scalar.IsBool ? scalar.ToInt64() != 0 : scalar.ToInt64();

    public static implicit operator Argument(Scalar? scalar) => scalar is { } value ? value : None;

    public static implicit operator Argument(Generator? generator) => generator is null ? None : new(Native.Kind.Generator, reference: generator);

    public static Argument Of(IReadOnlyCollection<Tensor> tensors) => new(Native.Kind.Tensors, reference: tensors);

    /// <summary>For an error: the shape and type of a tensor, the value of a number.</summary>
    public override string ToString() => Kind switch
    {
        Native.Kind.Tensor => Reference is Tensor { IsInvalid: false } tensor ? tensor.ToString() : "disposed tensor",
        Native.Kind.Tensors => "{" + string.Join(", ", ((IReadOnlyCollection<Tensor>)Reference!).Select(tensor => ((Argument)tensor).ToString())) + "}",
        Native.Kind.Ints => "[" + string.Join(", ", (long[])Reference!) + "]",
        Native.Kind.Double => Real.ToString("R", System.Globalization.CultureInfo.InvariantCulture),
        Native.Kind.Bool => Number != 0 ? "true" : "false",
        Native.Kind.DType => ((ScalarType)Number).ToString(),
        Native.Kind.Int => Number.ToString(System.Globalization.CultureInfo.InvariantCulture),
        _ => Kind.ToString().ToLowerInvariant(),
    };
}

/// <summary>The one path to an operator: pack, call, check, wrap. No operator can forget the check.</summary>
internal static unsafe class Dispatcher
{
    private const int MostResults = 256;
    private static readonly ConcurrentDictionary<string, nint> Operators = new();

    /// <summary>Calls an operator with one tensor as its result.</summary>
    /// <param name="name">With its overload: <c>aten::sum.dim_IntList</c>.</param>
    /// <param name="arguments">In the schema's order; what is missing at the end takes the schema's default.</param>
    /// <exception cref="TorchException">libtorch refused; the message names the operator and what it was given.</exception>
    /// <exception cref="ObjectDisposedException">An argument was disposed of.</exception>
    public static Tensor Call(string name, params ReadOnlySpan<Argument> arguments)
    {
        Native.Value result = default;
        return Invoke(name, arguments, &result, 1) == 1 && result.Kind == Native.Kind.Tensor
            ? new Tensor(result.Pointer)
            : throw new InvalidOperationException($"{name} does not return one tensor");
    }

    /// <summary>Calls an operator with several tensors as its result.</summary>
    public static Tensor[] CallMany(string name, params ReadOnlySpan<Argument> arguments)
    {
        var results = stackalloc Native.Value[MostResults];
        var tensors = new Tensor[Invoke(name, arguments, results, MostResults)];
        for (var i = 0; i < tensors.Length; i++)
            tensors[i] = new Tensor(results[i].Pointer);
        return tensors;
    }

    /// <summary>Calls an operator with a number as its result.</summary>
    public static Scalar CallScalar(string name, params ReadOnlySpan<Argument> arguments)
    {
        Native.Value result = default;
        _ = Invoke(name, arguments, &result, 1);
        return result.Kind switch
        {
            Native.Kind.Double => result.Real,
            Native.Kind.Bool => result.Number != 0,
            _ => result.Number,
        };
    }

    /// <summary>Calls an in-place operator; the result is the tensor itself.</summary>
    public static Tensor CallInPlace(string name, Tensor self, params ReadOnlySpan<Argument> rest)
    {
        Native.Value result = default;
        _ = Invoke(name, [self, .. rest], &result, 1);
        if (result.Kind == Native.Kind.Tensor)
            Native.mt_release(result.Pointer); // another reference to self
        return self;
    }

    /// <summary>Throws what the last failed entry left behind.</summary>
    public static TorchException Failure(string operation) =>
        new($"{operation}: {Marshal.PtrToStringUTF8(Native.mt_last_error())}");

    private static int Invoke(string name, ReadOnlySpan<Argument> arguments, Native.Value* results, int capacity)
    {
        var op = Find(name);
        var packed = stackalloc Native.Value[arguments.Length];
        var numbers = 0;
        foreach (ref readonly var argument in arguments)
            numbers += argument.Reference is long[] ints ? ints.Length : argument.Reference is IReadOnlyCollection<Tensor> tensors ? tensors.Count : 0;
        var buffer = numbers <= 256 ? stackalloc long[numbers] : new long[numbers];
        int count;
        bool failed;
        fixed (long* start = buffer)
        {
            var next = start;
            for (var i = 0; i < arguments.Length; i++)
                packed[i] = Pack(name, arguments[i], ref next);
            failed = Native.mt_call(op, packed, arguments.Length, results, capacity, &count) != 0;
        }
        foreach (ref readonly var argument in arguments)
            GC.KeepAlive(argument.Reference); // the call borrowed the tensors
        if (!failed)
            return count;
        for (var i = 0; i < count; i++)
            if (results[i].Kind == Native.Kind.Tensor)
                Native.mt_release(results[i].Pointer);
        var described = new List<string>();
        foreach (ref readonly var argument in arguments)
            described.Add(argument.ToString());
        throw Failure($"{name}({string.Join(", ", described)})");
    }

    private static Native.Value Pack(string name, in Argument argument, ref long* next)
    {
        var value = new Native.Value { Kind = argument.Kind };
        switch (argument.Kind)
        {
            case Native.Kind.Tensor:
                value.Pointer = ((Tensor)argument.Reference!).Pointer(name);
                break;
            case Native.Kind.Generator:
                value.Pointer = ((Generator)argument.Reference!).Pointer;
                break;
            case Native.Kind.Ints:
                var ints = (long[])argument.Reference!;
                (value.Pointer, value.Length) = ((nint)next, ints.Length);
                foreach (var number in ints)
                    *next++ = number;
                break;
            case Native.Kind.Tensors:
                var tensors = (IReadOnlyCollection<Tensor>)argument.Reference!;
                (value.Pointer, value.Length) = ((nint)next, tensors.Count);
                foreach (var tensor in tensors)
                    *next++ = tensor.Pointer(name);
                break;
            case Native.Kind.Double:
                value.Real = argument.Real;
                break;
            default:
                value.Number = argument.Number;
                break;
        }
        return value;
    }

    private static nint Find(string name)
    {
        if (Operators.TryGetValue(name, out var op))
            return op;
        LibraryLoader.EnsureLoaded();
        if (Native.mt_find(name, &op) != 0)
            throw Failure(name);
        return Operators.GetOrAdd(name, op);
    }
}

/// <summary>libtorch refused an operation. The message names the operator, what it was given, and libtorch's reason.</summary>
public sealed class TorchException(string message) : ExternalException(message);
