namespace MendCluster.Engine.Torch;

/// <param name="Live">Bytes held by tensors now.</param>
/// <param name="Peak">Most since the last reset.</param>
/// <param name="Largest">Largest single tensor made since the last reset.</param>
public sealed record CpuMemory(long Live, long Peak, long Largest);
