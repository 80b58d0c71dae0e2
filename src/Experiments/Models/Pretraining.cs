using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Experiments;

/// <summary>Settings for training a small language model from scratch, so that there is something to edit.</summary>
public sealed record PretrainingOptions
{
    public long Steps { get; init; } = 4000;

    /// <summary>Peak learning rate of Adam; linear warm-up, then half a cosine down to a tenth.</summary>
    public double Lr { get; init; } = 1e-3;

    public long Warmup { get; init; } = 200;

    /// <summary>Decoupled, on matrices only.</summary>
    public double WeightDecay { get; init; } = 0.01;

    public double GradClip { get; init; } = 1;
}

/// <summary>Trains all weights of a whole model on labelled batches.</summary>
/// <param name="stage">The whole model, float32.</param>
/// <param name="batch">The batch of a step: a function of its number.</param>
/// <param name="checkpoint">Where a training that is stopped goes on; null: it begins anew.</param>
public sealed class Pretraining(Stage stage, PretrainingOptions options, Func<long, LabelledInput> batch,
    PretrainingCheckpoint? checkpoint = null)
{
    private const int ReportEvery = 50, SaveEvery = 250;

    /// <param name="progress">Told the step, the number of steps and the mean loss since the last report.</param>
    /// <param name="isDone">Asked at every report whether the model is good enough already.</param>
    public void Run(Action<long, long, double>? progress = null, Func<long, bool>? isDone = null, CancellationToken cancellation = default)
    {
        var weights = stage.Weights.Loaded.Select(entry => (entry.Key, entry.Value.Value)).ToList();
        foreach (var (_, value) in weights)
            value.requires_grad_();
        try
        {
            using var adam = new Adam([new(weights, options.Lr)], options.WeightDecay);
            Tensor[] parameters = [.. weights.Select(weight => weight.Value)];
            double sum = 0;
            for (var step = checkpoint?.Restore(weights, adam) ?? 0; step < options.Steps; step++)
            {
                cancellation.ThrowIfCancellationRequested();
                using var scope = NewDisposeScope();
                var (input, labels) = batch(step);
                var top = stage.Forward(Activations.None, new ForwardContext(input));
                var rows = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
                var loss = Losses.MaskedNll(stage.Logits(top, rows.Rows), rows).Nll;
                Tensor[] gradients = [.. Derivatives.Of([loss], parameters)];
                Adam.ClipNorm(gradients, options.GradClip);
                adam.Step(gradients, Rate(step));
                sum += loss.Host().item<float>();
                if ((step + 1) % SaveEvery == 0)
                    checkpoint?.Save(weights, adam);
                if ((step + 1) % ReportEvery != 0)
                    continue;
                progress?.Invoke(step + 1, options.Steps, sum / ReportEvery);
                sum = 0;
                if (isDone?.Invoke(step + 1) == true)
                    return;
            }
        }
        finally
        {
            foreach (var (_, value) in weights)
                value.requires_grad_(false);
        }
    }

    /// <summary>Fraction of the examples answered exactly, teacher-forced (which for one answer equals greedy decoding).</summary>
    public static double ExactMatch(Stage stage, IEnumerable<LabelledInput> batches, WeightUpdates? edits = null)
    {
        using var _ = no_grad();
        var (right, all) = (0.0, 0L);
        foreach (var (input, labels) in batches)
        {
            using var scope = NewDisposeScope();
            var top = stage.Forward(Activations.None, new ForwardContext(input, edits));
            var rows = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
            right += Losses.MaskedNll(stage.Logits(top, rows.Rows), rows).Accuracy * input.BatchSize;
            all += input.BatchSize;
        }
        return right / all;
    }

    /// <summary>exp of the mean negative log-likelihood over the scored tokens of all batches.</summary>
    public static double Perplexity(Stage stage, IEnumerable<LabelledInput> batches)
    {
        var (sum, tokens) = (0.0, 0L);
        foreach (var batch in batches)
        {
            using var scope = NewDisposeScope();
            var scored = TrainingStep.Score(stage, batch);
            sum += scored.Loss * scored.Tokens;
            tokens += scored.Tokens;
        }
        return Math.Exp(sum / tokens);
    }

    private double Rate(long step)
    {
        if (step < options.Warmup)
            return (step + 1.0) / options.Warmup;
        var progress = (double)(step - options.Warmup) / Math.Max(1, options.Steps - options.Warmup);
        return 0.1 + 0.9 * 0.5 * (1 + Math.Cos(Math.PI * progress));
    }
}
