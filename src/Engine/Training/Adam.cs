using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>A set of parameters with one learning rate.</summary>
public sealed record ParameterGroup(IReadOnlyList<(string Name, Tensor Value)> Parameters, double LearningRate);

/// <summary>
/// Adam (Kingma and Ba, 2015) with betas 0.9 and 0.999, eps 1e-8, and optionally decoupled weight decay. Updates in place; its state can
/// be saved and given back.
/// </summary>
public sealed class Adam : IDisposable
{
    private const double Beta1 = 0.9, Beta2 = 0.999, Epsilon = 1e-8;
    private readonly IReadOnlyList<ParameterGroup> _groups;
    private readonly Dictionary<string, (Tensor Mean, Tensor Square)> _moments = [];
    private readonly double _weightDecay;

    public Adam(IReadOnlyList<ParameterGroup> groups, double weightDecay = 0)
    {
        (_groups, _weightDecay) = (groups, weightDecay);
        foreach (var (name, value) in Parameters)
            _moments.Add(name, (zeros_like(value).DetachFromDisposeScope(), zeros_like(value).DetachFromDisposeScope()));
    }

    public long Steps { get; private set; }

    /// <summary>All parameters, in the order in which <see cref="Step"/> takes their gradients.</summary>
    public IEnumerable<(string Name, Tensor Value)> Parameters => _groups.SelectMany(group => group.Parameters);

    /// <summary>The moments, for a checkpoint.</summary>
    public IEnumerable<(string Name, Tensor Value)> State => _moments.SelectMany(entry => new[]
    {
        ($"adam.m.{entry.Key}", entry.Value.Mean), ($"adam.v.{entry.Key}", entry.Value.Square),
    });

    /// <summary>Continues where a saved optimiser stopped.</summary>
    public void Restore(long steps, Func<string, Tensor> read)
    {
        using var _ = no_grad();
        foreach (var (name, (mean, square)) in _moments)
        {
            mean.copy_(read($"adam.m.{name}"));
            square.copy_(read($"adam.v.{name}"));
        }
        Steps = steps;
    }

    /// <summary>
    /// Scales the gradients, together, to a norm of at most <paramref name="maxNorm"/>.
    /// </summary>
    /// <returns>The norm before; not finite when any entry is not, and then nothing is changed.</returns>
    public static double ClipNorm(IReadOnlyList<Tensor> gradients, double maxNorm)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        var norm = Math.Sqrt(Devices.Numbers(gradients.Select(gradient => gradient.norm())).Sum(one => Math.Pow(one, 2)));
        if (double.IsFinite(norm) && ClipScale(norm, maxNorm) is var scale and not 1)
            foreach (var gradient in gradients)
                gradient.Mul_(scale);
        return norm;
    }

    /// <summary>By what gradients of a norm are scaled, so that it is at most <paramref name="maxNorm"/>.</summary>
    public static double ClipScale(double norm, double maxNorm) => norm > maxNorm ? maxNorm / (norm + 1e-6) : 1;

    /// <param name="gradients">In the order of <see cref="Parameters"/>.</param>
    /// <param name="rate">Factor on every group's learning rate, for a schedule.</param>
    public void Step(IReadOnlyList<Tensor> gradients, double rate = 1)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        Steps++;
        var (bias1, bias2) = (1 - Math.Pow(Beta1, Steps), 1 - Math.Pow(Beta2, Steps));
        var next = 0;
        foreach (var group in _groups)
            foreach (var (name, value) in group.Parameters)
            {
                var (gradient, (mean, square)) = (gradients[next++], _moments[name]);
                if (_weightDecay > 0 && value.dim() > 1)
                    value.Mul_(1 - group.LearningRate * rate * _weightDecay);
                mean.Mul_(Beta1).Add_(gradient, alpha: 1 - Beta1);
                square.Mul_(Beta2).Addcmul_(gradient, gradient, value: 1 - Beta2);
                var denominator = square.sqrt().Mul_(1 / Math.Sqrt(bias2)).Add_(Epsilon);
                value.Addcdiv_(mean, denominator, value: -group.LearningRate * rate / bias1);
            }
    }

    public void Dispose()
    {
        foreach (var (mean, square) in _moments.Values)
        {
            mean.Dispose();
            square.Dispose();
        }
    }
}
