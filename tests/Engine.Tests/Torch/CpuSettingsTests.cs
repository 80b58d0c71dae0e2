using System.Globalization;
using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

public class CpuSettingsTests
{
    [Fact]
    public void Threads_AreThoseOfMEND_THREADS_OrOneForEachCore()
    {
        Assert.Equal(Environment.ProcessorCount, CpuSettings.Threads(null));
        Assert.Equal(Environment.ProcessorCount, CpuSettings.Threads(""));
        Assert.Equal(3, CpuSettings.Threads("3"));
    }

    [Theory]
    [InlineData("0")]
    [InlineData("-1")]
    [InlineData("+2")]
    [InlineData("1.5")]
    [InlineData("1,5")]
    [InlineData(" 2")]
    [InlineData("two")]
    [InlineData("99999999999")]
    public void ThreadsThatAreNoPositiveWholeNumber_AreRefused(string value)
    {
        var refused = Assert.Throws<MendException>(() => CpuSettings.Threads(value));
        Assert.Equal(MendError.InvalidOption, refused.Error);
        Assert.Contains($"MEND_THREADS is \"{value}\"", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>Without the settings every one of these tensors meets each of its pages as a fault.</summary>
    [LinuxFact]
    public void MemoryThatATensorLetGoOf_IsThereForTheNext()
    {
        const int tensors = 20, pages = 12 << 20 >> 12;
        var faults = 0L;
        var thread = new Thread(() =>
        {
            for (var i = 0; i < tensors; i++)
                Make(); // the heap finds its form
            var before = Faults();
            for (var i = 0; i < tensors; i++)
                Make();
            faults = Faults() - before;
        });
        thread.Start();
        thread.Join();
        Assert.True(faults < tensors * pages / 10, $"{faults} faults");

        static void Make() => ones([pages * 1024L], device: CPU).Dispose();

        static long Faults() => long.Parse(File.ReadAllText("/proc/thread-self/stat").Split(')')[1].Split(' ')[8], CultureInfo.InvariantCulture);
    }

    [Fact]
    public void TheDescription_SaysWhatIsInForce()
    {
        Assert.Contains($"{get_num_threads()} threads", TorchRuntime.Description, StringComparison.Ordinal);
        Assert.Contains(OperatingSystem.IsLinux() ? $"spin {CpuSettings.Spin}" : "libtorch", TorchRuntime.Description,
            StringComparison.Ordinal);
        Assert.Contains("CUDA device", TorchRuntime.Description, StringComparison.Ordinal);
    }

    [Fact]
    public void BFloat16_IsTakenForFaster_WhereItWasMeasuredSo()
    {
        Assert.True(CpuFeatures.IsFaster(isAmd: true, hasAvx512: true, hasMatrixUnit: false));
        Assert.True(CpuFeatures.IsFaster(isAmd: false, hasAvx512: true, hasMatrixUnit: true));
        Assert.False(CpuFeatures.IsFaster(isAmd: false, hasAvx512: true, hasMatrixUnit: false));
        Assert.False(CpuFeatures.IsFaster(isAmd: true, hasAvx512: false, hasMatrixUnit: false));
    }
}
