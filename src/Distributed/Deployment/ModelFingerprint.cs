using MendCluster.Engine.Checkpoints;

namespace MendCluster.Distributed.Deployment;

/// <summary>Tells models apart, in ledgers: <see cref="CheckpointFingerprint"/>.</summary>
public static class ModelFingerprint
{
    /// <returns>32 bytes.</returns>
    public static byte[] Of(string directory) => CheckpointFingerprint.Of(directory);
}
