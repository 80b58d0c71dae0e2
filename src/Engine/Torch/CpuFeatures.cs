using System.Runtime.Intrinsics.X86;

namespace MendCluster.Engine.Torch;

/// <summary>What this machine's CPU has units for.</summary>
public static class CpuFeatures
{
    private const int Amd = 0x68747541; // "Auth", the beginning of "AuthenticAMD"

    /// <summary>
    /// Whether it multiplies bfloat16 faster than float32. A fact of the CPU, not a measurement: a model that is opened twice on one
    /// machine has to give the same bits, and a measurement beside other work does not.
    /// </summary>
    public static bool IsBFloat16Faster { get; } = OfThis();

    /// <summary>
    /// Measured on products of 1024 x 1024 x 1024, two cores, GFLOP/s: an AMD EPYC with AVX-512 475 in bfloat16 and 350 to 420 in float32;
    /// an Intel Xeon with AVX-512 whose matrix unit (AMX) was not there 165 and 310 to 355. Without such instructions libtorch converts
    /// each number.
    /// </summary>
    internal static bool IsFaster(bool isAmd, bool hasAvx512, bool hasMatrixUnit) => hasMatrixUnit || isAmd && hasAvx512;

    private static bool OfThis()
    {
        if (!X86Base.IsSupported || !Avx512BW.VL.IsSupported)
            return false;
        var (last, vendor, _, _) = X86Base.CpuId(0, 0);
        if (last < 7)
            return false;
        var (subleaves, _, _, features) = X86Base.CpuId(7, 0);
        var more = subleaves > 0 ? X86Base.CpuId(7, 1).Eax : 0;
        const int matrices = 1 << 24, bfloat16Matrices = 1 << 22, bfloat16 = 1 << 5; // AMX-TILE, AMX-BF16, AVX512_BF16
        return IsFaster(vendor == Amd, (more & bfloat16) != 0, (features & matrices) != 0 && (features & bfloat16Matrices) != 0);
    }
}
