using MendCluster.Engine.Torch;

namespace MendCluster.Testing;

/// <summary>A test that measures the memory of tensors; skipped where there is no meter.</summary>
public sealed class MeteredFactAttribute : FactAttribute
{
    internal const string NoMeter = "The memory of tensors is measured on Linux x64 only.";

    public MeteredFactAttribute() => Skip = AllocationMeter.IsSupported ? null : NoMeter;
}

/// <summary>The same with data.</summary>
public sealed class MeteredTheoryAttribute : TheoryAttribute
{
    public MeteredTheoryAttribute() => Skip = AllocationMeter.IsSupported ? null : MeteredFactAttribute.NoMeter;
}
