using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>What a shard is made from.</summary>
/// <param name="ModelDirectory">A Hugging Face directory; only the stage's own tensors are read.</param>
/// <param name="Editor">The editor's safetensors file; null: the model can be asked but not edited.</param>
/// <param name="DType">Of the weights in memory.</param>
/// <param name="Replica">Of the model; all have the same weights.</param>
/// <param name="Factors">How the updates of edits are kept; null: as <see cref="FactorStorage"/> says by itself.</param>
/// <param name="Device">Where the stage is held and computes (<see cref="Devices.Of"/>).</param>
/// <param name="MaxBatch">Answers that are computed together at most (<see cref="AnswerPass"/>).</param>
public sealed record ShardOptions(
    string ModelDirectory, string? Editor, int Stage, int Stages, DType DType = DType.Float32, int Replica = 0,
    FactorStorage? Factors = null, string Device = "cpu", int MaxBatch = ShardOptions.DefaultMaxBatch)
{
    public const int DefaultMaxBatch = 32;

    public int MaxBatch { get; init; } = MaxBatch >= 1 ? MaxBatch
        : throw new MendException(MendError.InvalidOption, $"MaxBatch is {MaxBatch}.", "At least one answer is computed at once.");
}

/// <summary>How an edit's factors are kept, in the ledger and in memory. What is tried and measured is what is kept.</summary>
/// <param name="Kept">
/// Of the update's squared Frobenius norm, from 0 to 1; the rest is spared, and with it most of its rows
/// (<see cref="LowRankUpdate.Compress"/>).
/// </param>
/// <param name="DType">Of the factors: Float32 or BFloat16.</param>
public sealed record FactorStorage(double Kept = LowRankUpdate.DefaultKept, DType DType = DType.Float32)
{
    public DType DType { get; init => field = Checked(value); } = Checked(DType);

    private static DType Checked(DType dtype) => dtype is DType.Float32 or DType.BFloat16 ? dtype
        : throw new MendException(MendError.InvalidOption, $"The factors of edits were to be kept in {dtype}.",
        "Keep them in Float32 or BFloat16.");
}

/// <summary>Types of weights in memory. Editor, loss, softmax, norms and activations between layers are float32 in any case.</summary>
public static class WeightTypes
{
    /// <summary>Float16 is for GPUs and for exported checkpoints.</summary>
    public static IReadOnlyList<DType> All { get; } = [DType.Float32, DType.BFloat16, DType.Float16];

    /// <exception cref="MendException">The device does not compute with it.</exception>
    internal static ScalarType InMemory(this DType type, Device device) => type switch
    {
        DType.BFloat16 => ScalarType.BFloat16,
        DType.Float16 when device.type == TorchSharp.DeviceType.CPU => throw new MendException(MendError.InvalidOption,
            "The weights were asked for in Float16 on the CPU.", "Use BFloat16 or Float32 there; Float16 is for GPUs."),
        DType.Float16 => ScalarType.Float16,
        DType.Float32 => ScalarType.Float32,
        _ => throw new MendException(MendError.InvalidOption, $"The weights were asked for in {type}.",
            $"Use one of {string.Join(", ", All)}."),
    };
}
