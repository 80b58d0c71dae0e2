using Xunit;

namespace MendCluster.Testing;

/// <summary>A test of what is Linux' own: libgomp, processes and their signals.</summary>
public sealed class LinuxFactAttribute : FactAttribute
{
    public LinuxFactAttribute() => Skip = LinuxTheoryAttribute.WhyNot;
}

/// <summary>The same of a theory.</summary>
public sealed class LinuxTheoryAttribute : TheoryAttribute
{
    internal static string? WhyNot { get; } = OperatingSystem.IsLinux() ? null : "this is not Linux";

    public LinuxTheoryAttribute() => Skip = WhyNot;
}
