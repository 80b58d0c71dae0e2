using System.Runtime.CompilerServices;
using TorchSharp;
using static TorchSharp.torch;

#pragma warning disable RS0030 // the plain calls, each with its Scalar held

namespace MendCluster.Engine.Torch;

/// <summary>
/// Operators with a number. TorchSharp 0.107 hands a Scalar's address to native code and keeps nothing alive: a collection at that moment
/// frees it, and the call fails or reads something else. Here the Scalar is disposed after the call, so it lives until then. Sums of two
/// tensors have such a Scalar too, the factor 1 of the second. Plus, Minus, Times and Over stand for + - * /; the others have TorchSharp's
/// name with a capital.
/// </summary>
public static class TensorMath
{
    private static readonly Scalar One = 1.ToScalar();

    extension(Tensor x)
    {
        public Tensor Plus(Tensor y) => x.add(y, One);

        [OverloadResolutionPriority(1)] // a number converts to a Tensor too
        public Tensor Plus(Number y)
        {
            using var held = y.ToScalar();
            return x.add(held, One);
        }

        public Tensor Minus(Number y)
        {
            using var held = y.ToScalar();
            return x.sub(held);
        }

        public Tensor Times(Number y)
        {
            using var held = y.ToScalar();
            return x.mul(held);
        }

        public Tensor Over(Number y)
        {
            using var held = y.ToScalar();
            return x.div(held);
        }

        public Tensor Clamp(Number min)
        {
            using var held = min.ToScalar();
            return x.clamp(held);
        }

        public Tensor Eq(Number y)
        {
            using var held = y.ToScalar();
            return x.eq(held);
        }

        public Tensor Ne(Number y)
        {
            using var held = y.ToScalar();
            return x.ne(held);
        }

        public Tensor Ge(Number y)
        {
            using var held = y.ToScalar();
            return x.ge(held);
        }

        public Tensor Add_(Tensor y) => x.add_(y, One);

        public Tensor Add_(Tensor y, Number alpha)
        {
            using var held = alpha.ToScalar();
            return x.add_(y, held);
        }

        [OverloadResolutionPriority(1)]
        public Tensor Add_(Number y)
        {
            using var held = y.ToScalar();
            return x.add_(held, One);
        }

        public Tensor Mul_(Number y)
        {
            using var held = y.ToScalar();
            return x.mul_(held);
        }

        /// <summary>x + value y z.</summary>
        public Tensor Addcmul_(Tensor y, Tensor z, Number value)
        {
            using var held = value.ToScalar();
            return x.addcmul_(y, z, held);
        }

        /// <summary>x + value y / z.</summary>
        public Tensor Addcdiv_(Tensor y, Tensor z, Number value)
        {
            using var held = value.ToScalar();
            return x.addcdiv_(y, z, held);
        }

        /// <summary>Adds each row of <paramref name="source"/> to the row of x that <paramref name="index"/> names.</summary>
        public Tensor IndexAdd_(long dim, Tensor index, Tensor source) => x.index_add_(dim, index, source, One);
    }

    /// <summary>
    /// A copy without a graph, in no dispose scope: the caller's. What lies between is held by a scope of its own: where nothing names a tensor
    /// any more the collector takes it, though native code still reads it.
    /// </summary>
    /// <param name="type">Null: the tensor's own.</param>
    public static Tensor KeptCopy(this Tensor value, ScalarType? type = null)
    {
        using var scope = NewDisposeScope();
        var copy = value.to_type(type ?? value.dtype).detach().clone().DetachFromDisposeScope();
        GC.KeepAlive(value);
        return copy;
    }
}
