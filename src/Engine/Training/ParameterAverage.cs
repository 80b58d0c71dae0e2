using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>An exponential running average of parameters (Polyak averaging).</summary>
/// <param name="parameters">Those that are trained, in place.</param>
/// <param name="keep">How much of the average stays at each step.</param>
public sealed class ParameterAverage(IReadOnlyList<Tensor> parameters, double keep) : IDisposable
{
    private readonly List<Tensor> _average = [.. parameters.Select(parameter => parameter.KeptCopy())];

    /// <summary>How often the parameters were taken in.</summary>
    public long Steps { get; set; }

    /// <summary>For a checkpoint.</summary>
    public IEnumerable<(string Name, Tensor Value)> State =>
        _average.Select((value, i) => ($"average.{i}", value)).Append(("average.steps", tensor(new[] { Steps }, device: CPU)));

    /// <summary>Continues where a saved average stopped.</summary>
    public void Restore(Func<string, Tensor> read)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        for (var i = 0; i < _average.Count; i++)
            _average[i].copy_(read($"average.{i}"));
        Steps = read("average.steps").Host().item<long>();
    }

    /// <summary>Takes the parameters in as they are now.</summary>
    public void Add()
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        var kept = Math.Min(keep, (1.0 + Steps) / (10 + Steps)); // young averages forget faster
        Steps++;
        for (var i = 0; i < parameters.Count; i++)
            _average[i].Mul_(kept).Add_(parameters[i].detach(), alpha: 1 - kept);
    }

    /// <summary>Exchanges the parameters and their average; a second time puts them back.</summary>
    public void Swap()
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        for (var i = 0; i < parameters.Count; i++)
        {
            var now = parameters[i].detach().clone();
            parameters[i].copy_(_average[i]);
            _average[i].copy_(now);
        }
    }

    public void Dispose()
    {
        foreach (var tensor in _average)
            tensor.Dispose();
    }
}
