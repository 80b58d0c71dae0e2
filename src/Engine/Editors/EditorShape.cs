using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>
/// What MEND has for the weights of one shape (of one weight, when nothing is shared): the statistics of u and delta, and the networks over
/// [u | delta], or over u and over delta. A side without a network stays as it is.
/// m in-features, n out-features, N rows of all weights of the shape.
/// </summary>
public sealed class EditorShape : IDisposable
{
    private readonly WeightGroup _group;
    private readonly IReadOnlyList<(string Name, EditorNetwork Network)> _networks; // by the names of the authors' checkpoints

    /// <summary>To be trained.</summary>
    internal EditorShape(MendOptions options, WeightGroup group, long seed, Device device)
    {
        var generator = new Generator((ulong)seed + (ulong)group.Index);
        (_group, U, Delta) = (group, new(group.InFeatures, device), new(group.OutFeatures, device));
        _networks = [.. Networks(options, group).Select(network =>
            (network.Name, new EditorNetwork(options, network.Width, Modes(options, group), generator, device)))];
    }

    /// <summary>Trained.</summary>
    /// <param name="read">A saved tensor by name.</param>
    internal EditorShape(MendOptions options, WeightGroup group, Func<string, Tensor> read)
    {
        _group = group;
        var k = Read("k");
        var count = k.to_type(ScalarType.Float64).Host().item<double>();
        var rows = double.IsNaN(count) ? 0 : (long)count; // the published code marks "no rows yet" by NaN
        (U, Delta) = (Saved("u", group.InFeatures), Saved("v", group.OutFeatures));
        _networks = [.. Networks(options, group).Select(network =>
            (network.Name, new EditorNetwork(options, Modes(options, group), name => Read($"{network.Name}.{name}"))))];

        Tensor Read(string name) => read($"mend.{group.Key}.{name}");
        RunningStatistics Saved(string side, long dimensions) => rows == 0 ? new(dimensions, k.device)
            : new(rows, Read($"{side}_mean"), Read($"{side}_s"));
    }

    public string Key => _group.Key;

    /// <summary>In configuration order, which numbers the modes.</summary>
    public IReadOnlyList<string> Weights => _group.Weights;

    /// <summary>Statistics of u.</summary>
    public RunningStatistics U { get; }

    /// <summary>Statistics of delta.</summary>
    public RunningStatistics Delta { get; }

    /// <summary>phi, by the names of the authors' checkpoints.</summary>
    public IReadOnlyList<(string Name, Tensor Value)> Parameters => [.. _networks.SelectMany(network =>
        network.Network.Parameters.Select(parameter => ($"mend.{Key}.{network.Name}.{parameter.Name}", parameter.Value)))];

    /// <summary>Count, means and squares, by the names of the authors' checkpoints.</summary>
    internal IEnumerable<(string Name, Tensor Value)> Statistics =>
    [
        ($"mend.{Key}.k", tensor(new[] { U.Count }, device: CPU)),
        ($"mend.{Key}.u_mean", U.Mean),
        ($"mend.{Key}.v_mean", Delta.Mean),
        ($"mend.{Key}.u_s", U.Squares),
        ($"mend.{Key}.v_s", Delta.Squares),
    ];

    /// <summary>The networks over rows of any of the shape's weights.</summary>
    /// <param name="u">[N, m] float32, normalised.</param>
    /// <param name="delta">[N, n] float32, normalised.</param>
    /// <param name="weights">Whose rows they are, in order, and how many of each.</param>
    /// <returns>[N, m] and [N, n] float32.</returns>
    internal (Tensor uTilde, Tensor deltaTilde) Forward(Tensor u, Tensor delta, IEnumerable<(string Weight, long Rows)> weights)
    {
        var modes = cat([.. weights.Select(part => _group.Modes(part.Weight, part.Rows, u.device))], 0); // [N]
        if (Network("mlp") is not { } combined)
            return (Network("mlp1")?.Forward(u, modes) ?? u, Network("mlp2")?.Forward(delta, modes) ?? delta);
        var output = combined.Forward(cat([u, delta], 1), modes); // [N, m + n]
        return (output.narrow(1, 0, u.shape[1]), output.narrow(1, u.shape[1], delta.shape[1]));
    }

    /// <summary>Bytes of networks and statistics; nothing is made.</summary>
    internal static long BytesOf(MendOptions options, WeightGroup group) =>
        sizeof(float) * ParametersOf(options, group) + 2 * sizeof(double) * (group.InFeatures + group.OutFeatures); // mean and squares

    /// <summary>How many numbers the networks have.</summary>
    internal static long ParametersOf(MendOptions options, WeightGroup group) =>
        Networks(options, group).Sum(network => (options.NHidden + 1) * (2 * network.Width
            * Math.Min(options.Rank, network.Width) + network.Width + 2 * Modes(options, group) * network.Width));

    public void Dispose()
    {
        U.Dispose();
        Delta.Dispose();
        foreach (var (_, network) in _networks)
            network.Dispose();
    }

    private EditorNetwork? Network(string name) => _networks.FirstOrDefault(network => network.Name == name).Network;

    private static int Modes(MendOptions options, WeightGroup group) => options.Shared ? group.Weights.Count : 0;

    /// <summary>The networks that <see cref="MendOptions.Sides"/> asks for.</summary>
    private static IReadOnlyList<(string Name, long Width)> Networks(MendOptions options, WeightGroup group)
    {
        var (m, n) = (group.InFeatures, group.OutFeatures);
        return options.Sides switch
        {
            EditorSides.Combined => [("mlp", m + n)],
            EditorSides.Separate => [("mlp1", m), ("mlp2", n)],
            EditorSides.DeltaOnly => [("mlp2", n)],
            EditorSides.Smaller when m > n => [("mlp2", n)],
            _ => [("mlp1", m)],
        };
    }
}
