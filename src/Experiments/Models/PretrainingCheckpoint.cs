using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Experiments;

/// <summary>Weights and optimiser of a pretraining that may be stopped.</summary>
/// <param name="path">A file, which is there while the training is not over.</param>
/// <param name="settings">Digest of all that the training depends on: what others left is not gone on with.</param>
public sealed class PretrainingCheckpoint(string path, string settings)
{
    private const string Settings = "settings", Weight = "weight.", Steps = "adam.steps";

    /// <summary>Sets weights and optimiser to what was saved.</summary>
    /// <returns>Steps that were taken; 0 where nothing of these settings is there.</returns>
    public long Restore(IReadOnlyList<(string Name, Tensor Value)> weights, Adam adam)
    {
        if (!File.Exists(path))
            return 0;
        using var file = SafetensorsFile.Open(path);
        if (file.Metadata.GetValueOrDefault(Settings) != settings)
            return 0;
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        foreach (var (name, value) in weights)
            value.copy_(TensorBytes.Load(file.Find(Weight + name)));
        adam.Restore(TensorBytes.Load(file.Find(Steps)).Host().item<long>(), name => TensorBytes.Load(file.Find(name)));
        return adam.Steps;
    }

    public void Save(IReadOnlyList<(string Name, Tensor Value)> weights, Adam adam)
    {
        using var scope = NewDisposeScope();
        SafetensorsWriter.Write(path, weights.Select(weight => (Weight + weight.Name, weight.Value)).Concat(adam.State)
            .Append((Steps, tensor(adam.Steps, device: CPU))).Select(tensor => TensorBytes.ToWrite(tensor.Item1, tensor.Item2)),
            new Dictionary<string, string> { [Settings] = settings });
    }

    /// <summary>The training is over.</summary>
    public void Delete() => File.Delete(path);
}
