using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>
/// The editor network of one weight shape: n_hidden + 1 low-rank blocks (paper, 3.1, equations 3a and 3b).
/// d width, r rank, K modes (weights that share the network), N rows.
/// </summary>
public sealed class EditorNetwork : IDisposable
{
    private readonly EditorInit _init;
    private readonly bool _clampsFirst;
    private readonly IReadOnlyList<Block> _blocks;

    /// <summary>A network to be trained.</summary>
    /// <param name="width">d.</param>
    /// <param name="modes">K; 0 when the network serves one weight alone and has no scale and shift.</param>
    /// <param name="clampsFirst">Scale and shift follow the clamp, as in MALMEN; otherwise they come before it.</param>
    /// <param name="device">The network is the same on every device.</param>
    public EditorNetwork(MendOptions options, long width, int modes, Generator generator, Device device, bool clampsFirst = false)
    {
        (_init, _clampsFirst) = (options.Init, clampsFirst);
        _blocks = [.. Enumerable.Range(0, options.NHidden + 1).Select(_ => Block.Initial(options, width, modes, generator, device))];
    }

    /// <summary>A trained network.</summary>
    /// <param name="read">A parameter by its name below the network's, e.g. <c>layers.0.u</c>; the network takes it over.</param>
    /// <param name="modes">0 when there is no scale and shift.</param>
    public EditorNetwork(MendOptions options, int modes, Func<string, Tensor> read, bool clampsFirst = false)
    {
        (_init, _clampsFirst) = (options.Init, clampsFirst);
        _blocks = [.. Enumerable.Range(0, options.NHidden + 1).Select(i => new Block(
            Take($"layers.{i}.u"), Take($"layers.{i}.v"), Take($"layers.{i}.bias"),
            modes > 0 ? Take($"layers.{i}.mode_scale.weight") : null,
            modes > 0 ? Take($"layers.{i}.mode_shift.weight") : null))];

        Tensor Take(string name)
        {
            using var scope = NewDisposeScope(); // what was read in another type goes at once: an editor of GPT-J's is a gigabyte
            return Own(read(name));
        }
    }

    /// <summary>The parameters phi of this network, by the names of the authors' checkpoints.</summary>
    public IEnumerable<(string Name, Tensor Value)> Parameters
    {
        get
        {
            for (var i = 0; i < _blocks.Count; i++)
            {
                yield return ($"layers.{i}.u", _blocks[i].U);
                yield return ($"layers.{i}.v", _blocks[i].V);
                yield return ($"layers.{i}.bias", _blocks[i].Bias);
                if (_blocks[i].Scale is { } scale && _blocks[i].Shift is { } shift)
                {
                    yield return ($"layers.{i}.mode_scale.weight", scale);
                    yield return ($"layers.{i}.mode_shift.weight", shift);
                }
            }
        }
    }

    /// <param name="x">[N, d] float32, normalised factors.</param>
    /// <param name="modes">[N] int64, the mode of each row; ignored without modes.</param>
    /// <returns>[N, d] float32.</returns>
    public Tensor Forward(Tensor x, Tensor modes)
    {
        foreach (var block in _blocks)
        {
            var a = x.mm(block.V.t()).mm(block.U.t()).Plus(block.Bias); // [N, r] -> [N, d]
            if (_clampsFirst)
                a = a.Clamp(min: 0);
            if (block.Scale is { } scale && block.Shift is { } shift)
                a = (a * scale.index_select(0, modes)).Plus(shift.index_select(0, modes));
            // A clamp and not a ReLU: at the identity initialisation a is exactly 0, where the gradient of a ReLU is 0 and that of a
            // clamp is 1. With a ReLU the editor never learns. The last block clamps too.
            if (!_clampsFirst)
                a = a.Clamp(min: 0);
            x = _init == EditorInit.Identity ? x.Plus(a) : a;
        }
        return x;
    }

    public void Dispose()
    {
        foreach (var (_, value) in Parameters)
            value.Dispose();
    }

    /// <summary>Not copied, where it is float32 already.</summary>
    private static Tensor Own(Tensor value)
    {
        using var scope = NewDisposeScope(); // as KeptCopy
        var own = value.to_type(ScalarType.Float32).detach().requires_grad_().DetachFromDisposeScope();
        GC.KeepAlive(value);
        return own;
    }

    /// <param name="U">[d, r].</param>
    /// <param name="V">[r, d].</param>
    /// <param name="Bias">[d].</param>
    /// <param name="Scale">[K, d] or null.</param>
    /// <param name="Shift">[K, d] or null.</param>
    private sealed record Block(Tensor U, Tensor V, Tensor Bias, Tensor? Scale, Tensor? Shift)
    {
        public static Block Initial(MendOptions options, long d, int modes, Generator generator, Device device)
        {
            var r = Math.Min(options.Rank, d);
            // V is standard normal in the published code although the paper says Xavier; with Xavier a learning rate of 1e-6 would be
            // about a hundred times too small (mend-spec, 0.5).
            var (U, V) = options.Init == EditorInit.Identity
                ? (zeros([d, r], device: device), NewTensor.Normal([r, d], generator))
                : (XavierUniform(d, r, Math.Sqrt(2), generator), XavierUniform(r, d, 1, generator));
            return new(Own(U.On(device)), Own(V.On(device)), Own(zeros([d], device: device)),
                modes > 0 ? Own(ones([modes, d], device: device)) : null, modes > 0 ? Own(zeros([modes, d], device: device)) : null);
        }

        private static Tensor XavierUniform(long rows, long columns, double gain, Generator generator) =>
            NewTensor.Uniform([rows, columns], generator).Times(2).Minus(1).Times(gain * Math.Sqrt(6.0 / (rows + columns)));
    }
}
