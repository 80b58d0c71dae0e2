using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors.Baselines;

/// <summary>Optimisers that fine-tuning can use, all with PyTorch's defaults.</summary>
public enum FineTuneOptimiser
{
    RmsProp,
    Adam,
    Sgd,
}

/// <summary>Settings of FT and FT+KL, by the names of the authors' configuration (mend-spec 4.4).</summary>
public sealed record FineTuneOptions
{
    public FineTuneOptimiser Opt { get; init; } = FineTuneOptimiser.RmsProp;

    /// <summary>Learning rate.</summary>
    /// <value>5e-6, the paper's for GPT-Neo and GPT-J. It used 1e-4 for T5 and 1e-6 for the small models.</value>
    public double EditLr { get; init; } = 5e-6;

    /// <summary>Most forward passes over the edit.</summary>
    /// <value>100.</value>
    public int MaxEditSteps { get; init; } = 100;

    /// <summary>Most norm of the gradient of all weights together.</summary>
    /// <value>100.</value>
    public double GradClip { get; init; } = 100;

    /// <summary>FT+KL only: weight of the edit's NLL beside the locality KL.</summary>
    /// <value>1e-2; the paper used 1e-3 for GPT-J.</value>
    public double CEdit { get; init; } = 1e-2;

    /// <exception cref="MendException">Naming the setting.</exception>
    public FineTuneOptions Validated()
    {
        if (MaxEditSteps < 1)
            throw Fault.Setting($"max_edit_steps is {MaxEditSteps}; it must be at least 1");
        if (!(EditLr > 0 && GradClip > 0 && CEdit > 0))
            throw Fault.Setting($"edit_lr {EditLr}, grad_clip {GradClip} and cedit {CEdit} must be above 0");
        return this;
    }
}

/// <summary>Settings of breadth-first fine-tuning, which makes many edits at once (Training.FineTuning.BreadthFirst).</summary>
public sealed record BreadthFirstOptions
{
    /// <summary>
    /// Whose MLP down-projection is changed: the number of a block in the model's order, an encoder's first; below 0 from the end.
    /// </summary>
    /// <value>-1, the last block.</value>
    public int Block { get; init; } = -1;

    public FineTuneOptimiser Opt { get; init; } = FineTuneOptimiser.Adam;

    /// <summary>Learning rate.</summary>
    /// <value>1e-3, for models of a few million weights.</value>
    public double EditLr { get; init; } = 1e-3;

    /// <summary>Edits of a mini-batch, which make one step together.</summary>
    /// <value>32.</value>
    public int BatchSize { get; init; } = 32;

    /// <summary>Most passes over all edits.</summary>
    /// <value>50.</value>
    public int MaxEpochs { get; init; } = 50;

    /// <summary>Most norm of a step's gradient.</summary>
    /// <value>100.</value>
    public double GradClip { get; init; } = 100;

    /// <summary>
    /// Weight, beside the edits' NLL, of the KL of the unedited to the edited model on as many known questions as the mini-batch has edits.
    /// </summary>
    /// <value>0: none are asked.</value>
    public double Replay { get; init; }

    /// <summary>Of the order of the edits.</summary>
    public ulong Seed { get; init; } = 1;

    internal FineTuneOptions Steps => new() { Opt = Opt, EditLr = EditLr, GradClip = GradClip };

    /// <exception cref="MendException">Naming the setting.</exception>
    public BreadthFirstOptions Validated()
    {
        if (BatchSize < 1 || MaxEpochs < 1)
            throw Fault.Setting($"batch_size {BatchSize} and max_epochs {MaxEpochs} must be at least 1");
        if (!(double.IsFinite(EditLr) && EditLr > 0 && GradClip > 0))
            throw Fault.Setting($"edit_lr {EditLr} and grad_clip {GradClip} must be above 0, and edit_lr finite");
        if (!(double.IsFinite(Replay) && Replay >= 0))
            throw Fault.Setting($"replay is {Replay}; it must be a finite number, 0 or more");
        return this;
    }
}

/// <summary>
/// FT, the paper's plain baseline (section 4): the optimiser's side of fine-tuning the editable weights on one edit. Holds a difference R
/// per weight, zero at first, and steps on it. Dense by nature: R, its gradient and the moments are each of the weight's size.
/// The passes over the model are <c>Training.FineTuning</c>'s.
/// </summary>
public sealed class FineTune : IDisposable
{
    private const double RmsPropAlpha = 0.99, Beta1 = 0.9, Beta2 = 0.999, Epsilon = 1e-8;
    private readonly FineTuneOptions _options;
    private readonly Dictionary<string, WeightUpdate> _updates = [];
    private readonly Dictionary<string, (Tensor R, Tensor Mean, Tensor Square)> _state = [];
    private long _steps;

    /// <param name="weights">Those to change. Each R lives in the dispose scope that is open now.</param>
    /// <param name="device">That of the gradients; null: the CPU.</param>
    public FineTune(FineTuneOptions options, IReadOnlyList<EditableWeight> weights, Device? device = null)
    {
        _options = options.Validated();
        foreach (var (name, m, n) in weights)
        {
            var R = zeros([n, m], device: device);
            _updates.Add(name, new DenseUpdate(R));
            _state.Add(name, (R, zeros_like(R).DetachFromDisposeScope(), zeros_like(R).DetachFromDisposeScope()));
        }
    }

    /// <summary>The differences as they stand. They change with every <see cref="Step"/>.</summary>
    public IReadOnlyDictionary<string, WeightUpdate> Updates => _updates;

    /// <summary>dL/dW = delta^T u, which is dL/dR too. [n, m] float32.</summary>
    public static Tensor Gradient(GradientFactors factors) => factors.delta.t().mm(factors.u);

    /// <summary>Clips the gradients together and takes one optimiser step.</summary>
    /// <param name="gradients">dL/dR by weight name, one for each weight; scaled in place when clipped.</param>
    public void Step(IReadOnlyDictionary<string, Tensor> gradients)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        var norm = Math.Sqrt(Devices.Numbers(gradients.Values.Select(g => g.norm())).Sum(one => Math.Pow(one, 2)));
        if (!double.IsFinite(norm))
            throw Fault.Setting($"fine-tuning, step {_steps}: the gradient is not finite; lower edit_lr, now {_options.EditLr}");
        _steps++;
        foreach (var (name, (R, mean, square)) in _state)
        {
            var g = gradients[name].Mul_(Math.Min(1, _options.GradClip / (norm + 1e-6)));
            switch (_options.Opt)
            {
                case FineTuneOptimiser.Sgd:
                    R.Add_(g, alpha: -_options.EditLr);
                    break;
                case FineTuneOptimiser.RmsProp:
                    square.Mul_(RmsPropAlpha).Addcmul_(g, g, value: 1 - RmsPropAlpha);
                    R.Addcdiv_(g, square.sqrt().Add_(Epsilon), value: -_options.EditLr);
                    break;
                case FineTuneOptimiser.Adam:
                    mean.Mul_(Beta1).Add_(g, alpha: 1 - Beta1);
                    square.Mul_(Beta2).Addcmul_(g, g, value: 1 - Beta2);
                    var (bias1, bias2) = (1 - Math.Pow(Beta1, _steps), 1 - Math.Pow(Beta2, _steps));
                    R.Addcdiv_(mean, square.sqrt().Mul_(1 / Math.Sqrt(bias2)).Add_(Epsilon), value: -_options.EditLr / bias1);
                    break;
            }
        }
    }

    /// <summary>Disposes of the moments; the differences belong to their scope.</summary>
    public void Dispose()
    {
        foreach (var (_, mean, square) in _state.Values)
        {
            mean.Dispose();
            square.Dispose();
        }
    }
}
