using MendCluster.Engine.Checkpoints;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>
/// Weights of the right shapes without memory or values: for asking which weights a model has, before one of them is read.
/// </summary>
/// <param name="files">The checkpoint whose headers must agree with the shapes; null: the configuration is asked alone.</param>
public sealed class WeightShapes(ScalarType dtype = ScalarType.Float32, HuggingFaceDirectory? files = null) : WeightSource(dtype)
{
    private readonly Dictionary<string, string> _storedNames = [];

    /// <summary>Under which name the checkpoint keeps each weight that was given out.</summary>
    public IReadOnlyDictionary<string, string> StoredNames => _storedNames;

    public override bool Has(string name) => files is null || CheckpointWeights.NameIn(files, name) is not null;

    /// <summary>One zero, spread by strides of 0.</summary>
    protected override Tensor Read(string name, long[] shape, ScalarType dtype)
    {
        if (files is not null)
        {
            CheckpointWeights.Find(files, name, shape, CopiesOf(name));
            _storedNames[name] = CheckpointWeights.NameIn(files, name, CopiesOf(name))!;
        }
        return zeros([1], dtype, Device).expand(shape);
    }

    protected override Tensor Turn(Tensor value) => value.t();
}
