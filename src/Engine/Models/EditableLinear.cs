using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>
/// z = x W^T + b, less the active updates: the only place where an update meets a weight. In a recording pass it hands its input u and
/// its output z to the recording.
/// </summary>
/// <param name="name">The weight's name in the checkpoint, e.g. <c>transformer.h.3.mlp.c_fc.weight</c>.</param>
/// <param name="W">[n, m], any floating dtype.</param>
/// <param name="b">[n] or null.</param>
public sealed class EditableLinear(string name, Tensor W, Tensor? b)
{
    public string Name { get; } = name;

    public long InFeatures { get; } = W.shape[1];

    public long OutFeatures { get; } = W.shape[0];

    /// <summary>Whether the editor may change this weight; only then is it recorded.</summary>
    public bool IsEditable { get; internal set; }

    /// <param name="x">[..., m] float32.</param>
    /// <param name="pass">Supplies the active updates and the recording.</param>
    /// <returns>[..., n] float32.</returns>
    public Tensor Forward(Tensor x, ForwardContext pass)
    {
        var z = Layers.Linear(x, W, b);
        if (pass.Edits.For(Name) is { } update)
            z = z - update.Of(x);
        if (IsEditable && pass.Recording is { } recording)
            z = recording.Keep(Name, x, z);
        return z;
    }
}
