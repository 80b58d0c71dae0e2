using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>
/// Collects an editor's gradients over a window of steps, then clips their norm and takes one Adam step. MEND's phi and alpha are two
/// parameter groups with a learning rate each; the published code by accident steps alpha with the other one (mend-spec 0.3), which
/// <see cref="MendOptions.Reference"/> keeps.
/// </summary>
public sealed class EditorOptimiser : IDisposable
{
    private readonly int _window;
    private readonly double _gradClip;
    private readonly bool _reference;
    private readonly Tensor[] _sums;
    private readonly double[] _shares;
    private long _seen;

    /// <param name="groups">What is trained.</param>
    /// <param name="window">Steps whose gradients make one Adam step; each counts 1/window.</param>
    /// <param name="gradClip">Most norm of the summed gradient.</param>
    /// <param name="reference"><see cref="MendOptions.Reference"/>.</param>
    public EditorOptimiser(IReadOnlyList<ParameterGroup> groups, int window, double gradClip, bool reference = false)
    {
        (_window, _gradClip, _reference) = (window, gradClip, reference);
        Adam = new(groups);
        Parameters = [.. Adam.Parameters.Select(parameter => parameter.Value)];
        _sums = [.. Parameters.Select(parameter => zeros_like(parameter).DetachFromDisposeScope())];
        // The published trainer's numbers show that it collects a bias's gradient a second time, undivided (fixtures: 2 g with a window
        // of 1, 3/2 g with 2).
        _shares = [.. Adam.Parameters.Select(parameter =>
            1.0 / window + (_reference && parameter.Name.EndsWith(".bias", StringComparison.Ordinal) ? 1 : 0))];
    }

    /// <summary>Of phi, then the step sizes.</summary>
    public EditorOptimiser(IPreparedEditor editor, double lr, double lrLr, int window, double gradClip)
        : this(GroupsOf(editor, lr, lrLr), window, gradClip, editor is Mend { Options.Reference: true })
    {
    }

    /// <summary>phi and the step sizes with a learning rate each.</summary>
    public static IReadOnlyList<ParameterGroup> GroupsOf(IPreparedEditor editor, double lr, double lrLr) =>
        [new([.. editor.Parameters], lr), new([.. editor.StepSizes], editor is Mend { Options.Reference: true } ? lr : lrLr)];

    public Adam Adam { get; }

    /// <summary>In the order of the groups.</summary>
    public IReadOnlyList<Tensor> Parameters { get; }

    /// <summary>What has been collected since the last Adam step, in the order of <see cref="Parameters"/>.</summary>
    public IReadOnlyList<Tensor> Collected => _sums;

    /// <summary>Gradients that were refused because an entry was NaN or infinite. They still count towards the window.</summary>
    public int Refused { get; private set; }

    /// <summary>Takes one step's gradients.</summary>
    /// <param name="rate">Factor on both learning rates, for a schedule.</param>
    /// <returns>The norm of the window's gradient when an Adam step was taken, otherwise null.</returns>
    public double? Take(IReadOnlyList<Tensor> gradients, double rate = 1)
    {
        using var _ = no_grad();
        using (NewDisposeScope())
        {
            if (Devices.Numbers(gradients.Select(gradient => gradient.sum())).All(float.IsFinite))
                for (var i = 0; i < _sums.Length; i++)
                    _sums[i].Add_(gradients[i], alpha: _shares[i]);
            else
                Refused++;
        }
        // The published trainer counts from 0, so its first window has one step more (mend-spec 4.2).
        var steps = _reference ? _seen > 0 && _seen % _window == 0 : (_seen + 1) % _window == 0;
        _seen++;
        if (!steps)
            return null;
        var norm = Adam.ClipNorm(_sums, _gradClip);
        Adam.Step(_sums, rate);
        foreach (var sum in _sums)
            sum.zero_();
        return norm;
    }

    public void Dispose()
    {
        Adam.Dispose();
        foreach (var sum in _sums)
            sum.Dispose();
    }
}
