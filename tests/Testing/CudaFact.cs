using Xunit;
using static TorchSharp.torch;

namespace MendCluster.Testing;

/// <summary>A test on a GPU; where there is none it is skipped.</summary>
public sealed class CudaFactAttribute : FactAttribute
{
    public CudaFactAttribute() => Skip = CudaTheoryAttribute.WhyNot;
}

/// <summary>The same of a theory.</summary>
public sealed class CudaTheoryAttribute : TheoryAttribute
{
    internal static string? WhyNot { get; } = cuda.is_available() ? null : "there is no GPU here, or this libtorch is not for GPUs";

    public CudaTheoryAttribute() => Skip = WhyNot;
}
