using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using MendCluster.Engine.Tests.Training;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

[Collection(nameof(MemoryTests))]
public class AllocationMeterTests
{
    private const int Bytes = 1 << 20;

    private static Tensor OfBytes(long bytes) => empty([bytes], ScalarType.Byte);

    private static AllocationMeter Meter
    {
        get
        {
            GC.Collect(); // tensors of other tests that wait for their finalizer
            GC.WaitForPendingFinalizers();
            return AllocationMeter.Install();
        }
    }

    [MeteredFact]
    public void ATensor_AddsItsBytesAndNoMore_AndItsEndTakesThemBack()
    {
        var meter = Meter;
        meter.Reset();
        var before = meter.Live;
        using (var first = OfBytes(Bytes))
        using (var view = first.narrow(0, 1, 5))
        {
            Assert.Equal((before + Bytes, before + Bytes, Bytes), (meter.Live, meter.Peak, meter.Largest));
            using (var second = OfBytes(3))
                Assert.Equal((before + Bytes + 3, before + Bytes + 3, Bytes), (meter.Live, meter.Peak, meter.Largest));
            Assert.Equal(before + Bytes, meter.Live);
        }
        Assert.Equal((before, before + Bytes + 3, Bytes), (meter.Live, meter.Peak, meter.Largest));
        meter.Reset();
        Assert.Equal((before, 0), (meter.Peak, meter.Largest));
    }

    [MeteredFact]
    public void ThePeakOfAnAction_IsWhatItAddsToWhatIsThere()
    {
        using var there = OfBytes(Bytes);
        Assert.Equal(2 * Bytes, Meter.PeakOf(() =>
        {
            OfBytes(2 * Bytes).Dispose();
            OfBytes(Bytes).Dispose();
        }));
    }

    /// <summary>Each thread ends tensors that another one made.</summary>
    [MeteredFact]
    public async Task TensorsOfManyThreads_AreAllCounted()
    {
        const int threads = 8, each = 500;
        var meter = Meter;
        meter.Reset();
        var before = meter.Live;
        var tensors = new Tensor[threads * each];
        Task All(Action<int, int> action) => Task.WhenAll(Enumerable.Range(0, threads).Select(thread => Task.Factory.StartNew(() =>
        {
            for (var i = 0; i < each; i++)
                action(thread, i);
        }, TaskCreationOptions.LongRunning)));
        await All((thread, i) => tensors[thread * each + i] = OfBytes(1000 + i));
        var bytes = threads * Enumerable.Range(0, each).Sum(i => 1000L + i);
        Assert.Equal((before + bytes, before + bytes, 1000 + each - 1), (meter.Live, meter.Peak, meter.Largest));
        await All((thread, i) => tensors[(thread + 1) % threads * each + i].Dispose());
        Assert.Equal(before, meter.Live);
    }

    [MeteredFact]
    public void ATensorThatIsLeftToTheCollector_IsTakenBackToo()
    {
        var meter = Meter;
        var before = meter.Live;
        Leave();
        Assert.Equal(before, Meter.Live);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Leave() => Assert.Equal(Bytes, OfBytes(Bytes).numel());
    }

    [MeteredFact]
    public void InstalledTwice_ItIsOneMeterThatCountsOnce()
    {
        var meter = Meter;
        Assert.Same(meter, AllocationMeter.Install());
        var before = meter.Live;
        using var one = OfBytes(Bytes);
        Assert.Equal(before + Bytes, meter.Live);
    }

    /// <summary>What another build of libtorch may look like.</summary>
    [MeteredFact]
    public void ALibraryOfAnotherBuild_IsRefusedByWhatIsDifferent()
    {
        _ = Meter;
        string[] maps = File.ReadAllLines("/proc/self/maps");
        Refused("libc11.so is not loaded", maps, "libc11.so");
        Refused("does not call nothing_at_all", maps, "libc10.so", "nothing_at_all");
        Refused("where it cannot be written", [.. maps.Select(line => line.Replace(" rw-p ", " r--p ", StringComparison.Ordinal))],
            "libc10.so", "free");
        var zeros = GCHandle.Alloc(new byte[64], GCHandleType.Pinned);
        Refused("ELF", [$"{zeros.AddrOfPinnedObject():x}-{zeros.AddrOfPinnedObject() + 64:x} r-xp 00000000 00:00 0 /a folder/libzero.so"],
            "libzero.so");
        zeros.Free();
    }

    private static void Refused(string what, string[] maps, string library, string function = "free") => Assert.Contains(what,
        Assert.Throws<NotSupportedException>(() => new ImportTable(maps, library).SlotOf(function)).Message, StringComparison.Ordinal);
}
