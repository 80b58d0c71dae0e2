using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Routing;

/// <summary>How a router is trained.</summary>
public sealed record RouterOptions
{
    /// <summary>The threshold is set for so many edits in force, as far as there are facts to train on.</summary>
    public int Edits { get; init; } = 1000;

    /// <summary>Fraction of questions about other facts that may match one of those edits.</summary>
    public double FalseMatches { get; init; } = 0.005;

    public int Dimensions { get; init; } = 128;

    public int Steps { get; init; } = 800;

    public long Seed { get; init; } = 1;
}

/// <summary>
/// Trains a router by contrast (InfoNCE: van den Oord et al. 2018, equation 4): of a batch of facts, each in two wordings, the one wording
/// is to find the other among those of all facts of the batch and among questions that are near them and ask for something else. The map
/// goes on from one that gives the states unit covariance, and is linear. S numbers in a state, D dimensions, B facts.
/// </summary>
public static class RouterTraining
{
    /// <summary>Without so many facts in at least two wordings nothing is learned or measured.</summary>
    public const int MinFacts = 20;

    /// <summary>Of those facts, kept from training to set the threshold.</summary>
    private const double ValidationShare = 0.1;

    private const int Batch = 512;

    private const double LearningRate = 2e-3, Temperature = 0.05;

    /// <summary>Of the mean variance, added to that of each direction before it is brought to 1.</summary>
    private const double Ridge = 1e-3;

    /// <summary>Trains the router of a model on this machine.</summary>
    /// <param name="model">A Hugging Face directory; not changed.</param>
    /// <param name="device">Where the model is.</param>
    /// <param name="progress">Told of the questions that have passed through the model and how many there are.</param>
    /// <exception cref="MendException">The model writes no answers, or there are too few facts.</exception>
    public static EditRouter Run(string model, RoutedFacts facts, RouterOptions options, string device = "cpu",
        Action<int, int>? progress = null, CancellationToken cancellation = default)
    {
        var family = ModelFamily.FromDirectory(model);
        if (family.Labels is not null)
            throw new MendException(MendError.InvalidOption, $"{model} is a classifier.",
                "Edits are routed by the answer that a model is about to write; a classifier writes none.");
        using var scope = NewDisposeScope();
        using var files = HuggingFaceDirectory.Open(model);
        using var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32, Devices.Of(device)), []);
        var states = States(stage, new TextBatch(family, TokenizerFiles.Load(model)), facts.Questions, progress, cancellation);
        return Train(facts, states, options, cancellation);
    }

    /// <summary>Where the model is before the first token of its answers.</summary>
    /// <param name="questions">With any answers: a state does not depend on them.</param>
    /// <returns>[N, 2 C] float32, on the host (<see cref="QuestionState"/>).</returns>
    public static Tensor States(Stage stage, TextBatch text, IReadOnlyList<QaPair> questions, Action<int, int>? progress = null,
        CancellationToken cancellation = default)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        var order = Enumerable.Range(0, questions.Count).OrderBy(place => questions[place].Question.Length).ToList(); // alike in length
        var (parts, done) = (new List<Tensor>(), 0);
        foreach (var portion in EditorData.Portions(text, order.Select(place => questions[place])))
        {
            cancellation.ThrowIfCancellationRequested();
            using var own = NewDisposeScope();
            var (top, memory) = stage.Forward(Activations.None, new ForwardContext(portion.Input));
            var sources = portion.Input.AttentionMask.sum([1]).Host().data<long>().ToArray();
            var first = ScoredPositions.Of(portion.Labels, stage.Family.ShiftsLabels).First(); // places in [B * T]
            parts.Add(stack([.. first.Select((place, row) =>
            {
                var (hidden, end) = (top!.select(0, row), place % top.shape[1]);
                return QuestionState.Of(memory is null ? hidden.narrow(0, 0, end + 1) : memory.select(0, row).narrow(0, 0, sources[row]),
                    hidden.select(0, end));
            })], 0).MoveToOuterDisposeScope());
            progress?.Invoke(done += (int)portion.Input.BatchSize, questions.Count);
        }
        var places = new long[questions.Count];
        foreach (var (row, place) in order.Index())
            places[place] = row;
        return cat(parts, 0).index_select(0, NewTensor.Of(places, places.Length)).MoveToOuterDisposeScope();
    }

    /// <param name="states">Of the facts' questions. [N, S] float32, on the host.</param>
    public static EditRouter Train(RoutedFacts facts, Tensor states, RouterOptions options, CancellationToken cancellation = default)
    {
        if (options is not { Edits: >= 1, FalseMatches: > 0 and < 1, Dimensions: >= 1, Steps: >= 1 })
            throw Fault.Setting($"{options}: Edits, Dimensions and Steps are at least 1, FalseMatches is above 0 and below 1");
        if (facts.InManyWordings.Count < MinFacts)
            throw Fault.Setting($"{facts.InManyWordings.Count} facts are asked in two wordings or more; a router needs {MinFacts}");
        using var scope = NewDisposeScope();
        var rng = new Prng((ulong)options.Seed);
        var shuffled = rng.Shuffle(facts.InManyWordings);
        var kept = (int)Math.Ceiling(ValidationShare * shuffled.Length);
        IReadOnlyList<RoutedFact> validation = shuffled[..kept], training = shuffled[kept..];

        var (mean, white) = Whitening(states.index_select(0, Places(training.SelectMany(fact => fact.Wordings))));
        using var generator = new Generator((ulong)options.Seed);
        var S = states.shape[1];
        var map = NewTensor.Normal([S, options.Dimensions], generator).Over(Math.Sqrt(S)).requires_grad_();
        Learn(map, (states - mean).mm(white), facts, training, options.Steps, rng, cancellation);
        using var _ = no_grad();
        var whole = white.mm(map.detach());
        var (threshold, figures) = Measured(EditRouter.Directions((states - mean).mm(whole)), facts, training, validation, options);
        return new(mean.DetachFromDisposeScope(), whole.DetachFromDisposeScope(), threshold, figures);
    }

    /// <returns>The mean [S], and a map [S, S] after which states less their mean have unit covariance.</returns>
    private static (Tensor Mean, Tensor Map) Whitening(Tensor states)
    {
        var mean = states.mean([0]);
        var centred = (states - mean).to_type(ScalarType.Float64);
        var (_, variances, directions) = linalg.svd(centred.t().mm(centred).Over(states.shape[0]), fullMatrices: false);
        var scales = variances.Plus(variances.mean().Host().item<double>() * Ridge).sqrt();
        return (mean, (directions.t() / scales).to_type(ScalarType.Float32));
    }

    private static void Learn(Tensor map, Tensor states, RoutedFacts facts, IReadOnlyList<RoutedFact> training, int steps, Prng rng,
        CancellationToken cancellation)
    {
        using var adam = new Adam([new([("map", map)], LearningRate)]);
        for (var step = 0; step < steps; step++)
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            List<RoutedFact> batch = [.. rng.Shuffle(training).DistinctBy(facts.Name).Take(Batch)];
            List<int[]> pairs = [.. batch.Select(fact => rng.Shuffle(fact.Wordings)[..2])];
            var wordings = batch.SelectMany(fact => fact.Wordings).ToHashSet(); // each of which may be what another is to find
            var near = batch.Where(fact => fact.Others.Count > 0).Select(fact => rng.Pick(fact.Others))
                .Where(other => !wordings.Contains(other));
            var asked = Mapped(pairs.Select(pair => pair[0]));                        // [B, D]
            var among = Mapped(pairs.Select(pair => pair[1]).Concat(near));           // [B + others, D]
            var likely = asked.mm(among.t()).Over(Temperature).log_softmax(-1);
            var loss = -likely.gather(1, NewTensor.Arange(0, batch.Count, device: CPU).unsqueeze(1)).mean();
            adam.Step(Derivatives.Of([loss], [map]));
        }

        Tensor Mapped(IEnumerable<int> questions) => EditRouter.Directions(states.index_select(0, Places(questions)).mm(map));
    }

    /// <summary>Sets the threshold on facts that were not trained on, beside as many edits of others as are asked for.</summary>
    private static (double Threshold, RouterFigures Figures) Measured(Tensor keys, RoutedFacts facts, IReadOnlyList<RoutedFact> training,
        IReadOnlyList<RoutedFact> validation, RouterOptions options)
    {
        var measured = validation.Select(facts.Name).ToHashSet();
        List<RoutedFact> edited = [.. training.Where(fact => !measured.Contains(facts.Name(fact))).Take(options.Edits)];
        var known = Rows(edited.SelectMany(fact => fact.Wordings));
        var asked = edited.SelectMany(fact => fact.Wordings).ToHashSet();
        List<int> unrelated = [.. validation.SelectMany(fact => fact.Wordings.Concat(fact.Others)).Distinct()
            .Where(question => !asked.Contains(question))];
        var nearest = Nearest(Rows(unrelated), known);
        var sorted = nearest.Order().ToList();
        // above so many of them that the rest is no more than may match
        var threshold = Math.BitIncrement(sorted[Math.Max(0, (int)Math.Ceiling((1 - options.FalseMatches) * sorted.Count) - 1)]);

        var first = Rows(validation.Select(fact => fact.Wordings[0]));
        var (found, queries) = (0, 0);
        foreach (var (place, fact) in validation.Index())
        {
            var own = Rows(fact.Wordings.Skip(1));
            var cosines = own.mm(first.narrow(0, place, 1).t()).squeeze(1).Host().data<float>().ToArray();
            var others = Nearest(own, known);
            found += cosines.Zip(others).Count(pair => pair.First >= threshold && pair.First >= pair.Second);
            queries += cosines.Length;
        }
        return (threshold, new(edited.Count, (double)nearest.Count(cosine => cosine >= threshold) / nearest.Length, (double)found / queries,
            training.Count, validation.Count));

        Tensor Rows(IEnumerable<int> questions) => keys.index_select(0, Places(questions));
        static float[] Nearest(Tensor rows, Tensor among) => rows.mm(among.t()).max(1).values.Host().data<float>().ToArray();
    }

    private static Tensor Places(IEnumerable<int> questions)
    {
        long[] places = [.. questions.Select(question => (long)question)];
        return NewTensor.Of(places, places.Length);
    }
}
