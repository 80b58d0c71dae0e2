using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Experiments;

/// <summary>
/// A whole model on this machine, with editors to compare on it: the cases in batches, each of which edits the base model afresh, all its
/// edits at once, and is then asked about every one of its cases.
/// </summary>
public sealed class EditorComparison : IDisposable
{
    private const int RecordedAtOnce = 32;

    /// <summary>Of a task that FT+KL draws from.</summary>
    private const int TrainingRows = 500;

    private readonly ModelFamily _family;
    private readonly WeightSource _weights;
    private readonly Stage _stage;
    private readonly ITokenizer _tokenizer;
    private readonly TextBatch _text;
    private readonly TimeProvider _time;
    private readonly EditTaskKind _task;
    private readonly ulong _seed;
    private readonly Lazy<string> _digest;
    private readonly AllocationMeter? _meter = AllocationMeter.IsSupported ? AllocationMeter.Install() : null;

    /// <param name="model">A Hugging Face directory.</param>
    /// <param name="time">Measures the edits.</param>
    /// <param name="task">What the cases are of.</param>
    /// <param name="seed">Draws FT+KL's unrelated rows; the cases were drawn with it too.</param>
    /// <param name="device">Where models, editors and edits are.</param>
    public EditorComparison(string model, TimeProvider time, EditTaskKind task = EditTaskKind.Qa, ulong seed = 0, string device = "cpu")
    {
        using var files = HuggingFaceDirectory.Open(model);
        _family = ModelFamily.FromDirectory(model);
        _tokenizer = TokenizerFiles.Load(model);
        _text = new(_family, _tokenizer);
        _weights = new CheckpointWeights(files, ScalarType.Float32, Devices.Of(device));
        _stage = Stage.LoadWhole(_family, _weights);
        (_time, _task, _seed) = (time, task, seed);
        _digest = new(() => Digest.OfModel(model, EditorCheckpoint.FileName));
    }

    /// <summary>What FT+KL draws from: the unrelated rows that a task trains on; without a task, those of all cases.</summary>
    public static IReadOnlyList<TokenRow> UnrelatedRows(IEditTask? task, IReadOnlyList<EditRows> cases) => task is null
        ? [.. cases.SelectMany(edit => edit.Locality).DistinctBy(Asked)]
        : [.. Enumerable.Range(0, TrainingRows).SelectMany(i => task.Training(i).Locality).DistinctBy(Asked)];

    /// <summary>How <see cref="Measure"/> would measure.</summary>
    /// <param name="edits">At once.</param>
    public Protocol ProtocolOf(EditorSpec editor, int edits, IReadOnlyList<EditRows> cases)
    {
        var measured = Batched(edits, cases);
        return new(_task, edits,
            "Teacher-forced exact match of all tokens; free-running: greedy, on one rephrase.",
            (editor is TrainedEditor { Algorithm: EditorAlgorithm.Enn } ? "ENN's drawdown is from the model before its training. " : "")
                + (edits == 1 ? "Drawdown on each case's own unrelated rows."
                    : "Drawdown on each case's own unrelated rows but what the batch itself edits."),
            _task == EditTaskKind.Gen ? $"Passages cut to {_family.MaxPositions} tokens." : $"Texts cut to {_text.MaxLength} tokens.",
            "float32", _seed, measured.Count,
                Digest.OfRows(measured.SelectMany(edit => edit.Rephrases.Concat(edit.Locality).Prepend(edit.Edit))), _digest.Value,
                editor.Digest);
    }

    /// <summary>Measures an editor with so many edits at once.</summary>
    /// <param name="cases">Those that fill no batch are left out. A batch whose numbers overflow in the editor counts as not edited.</param>
    /// <param name="progress">Told each case as it is measured.</param>
    /// <exception cref="InvalidDataException">More edits at once than there are cases or than the editor can make.</exception>
    public EditorReport Measure(
        EditorSpec editor, int edits, IReadOnlyList<EditRows> cases, IProgress<CaseResult>? progress = null,
        CancellationToken cancellation = default)
    {
        if (edits > editor.MaxEdits)
            throw new InvalidDataException($"{editor.Name} makes at most {editor.MaxEdits} edit at once, not {edits}");
        switch (editor)
        {
            case FineTunedEditor fineTuned:
                var tuned = StageOf(fineTuned.Editable);
                return Run(tuned, (batch, number) =>
                    FineTuning.Edit(tuned, fineTuned.Options, Edit(batch), Unrelated(fineTuned, batch, number)).Edits);
            case BreadthFirstEditor breadthFirst:
                var one = StageOf([EditableWeights.DownProjection(_family, breadthFirst.Options.Validated().Block)]);
                return Run(one, (batch, _) => FineTuning.BreadthFirst(one, breadthFirst.Options, Edit(batch),
                    epoch => Prng.At(breadthFirst.Options.Seed, (ulong)epoch).Shuffle(Enumerable.Range(0, batch.Count)),
                    (step, rows) => Known(breadthFirst, step, rows)).Edits);
            case UntrainedUltraEdit ultraEdit:
                var plain = StageOf(ultraEdit.Editable);
                using (var learning = new UltraEdit(ultraEdit.Options, EditorTraining.EditableWeights(plain), plain.Device))
                    return Run(plain, (batch, _) => new(batch.Chunk(ultraEdit.Turn).Aggregate(
                        (IReadOnlyDictionary<string, LowRankUpdate>)new Dictionary<string, LowRankUpdate>(), (made, turn) =>
                        {
                            var rows = Record(plain, turn, new WeightUpdates(made));
                            learning.AddToStatistics(rows);
                            return learning.Propose(rows).ToDictionary(update => update.Key, update =>
                                made.TryGetValue(update.Key, out var earlier) ? LowRankUpdate.Stack([earlier, update.Value]) : update.Value);
                        })));
            case TrainedEditor trained:
                using (var checkpoint = EditorCheckpoint.Open(trained.File))
                {
                    checkpoint.RequireFit(_family);
                    var stage = StageOf(trained.Editable);
                    switch (checkpoint.Algorithm)
                    {
                        case EditorAlgorithm.Ke:
                            using (var ke = KnowledgeEditorTraining.Load(stage, checkpoint))
                                return Run(stage, (batch, _) => KnowledgeEditorTraining.Edit(stage, ke, Edit(batch)));
                        case EditorAlgorithm.Enn:
                            using (var copy = Stage.LoadWhole(_family, new CopiedWeights(_weights), stage.EditableOrder))
                            using (var enn = EnnTraining.Load(copy, checkpoint))
                                return Run(copy, (batch, _) => EnnTraining.Edit(copy, enn, Edit(batch)), original: stage);
                        default:
                            using (var prepared = checkpoint.Prepared(device: stage.Device))
                                return Run(stage, (batch, _) =>
                                {
                                    var updates = TrainingStep.Propose(stage, prepared, [.. batch.Chunk(RecordedAtOnce).Select(Edit)]);
                                    return trained.Confidence is { } wanted ? AsStrongAsNeeded(stage, updates, Edit(batch), wanted)
                                        : At(updates, trained.Strength);
                                });
                    }
                }
            default:
                throw new ArgumentOutOfRangeException(nameof(editor), editor, "is no editor that this knows");
        }

        EditorReport Run(Stage stage, Func<IReadOnlyList<EditRows>, int, WeightUpdates> edit, Stage? original = null)
        {
            var results = new List<CaseResult>();
            var (spent, peak, notMade) = (TimeSpan.Zero, (long?)null, 0);
            var batches = Batched(edits, cases).Chunk(edits).ToList();
            foreach (var (number, batch) in batches.Index())
            {
                using var scope = NewDisposeScope();
                var together = SimultaneousEdits.Together(batch);
                var before = _meter?.Live;
                _meter?.Reset();
                var start = _time.GetTimestamp();
                WeightUpdates made;
                try
                {
                    made = edit(together, number);
                }
                catch (MendException e) when (e.Error == MendError.NotFinite)
                {
                    (made, notMade) = (WeightUpdates.None, notMade + 1);
                }
                spent += _time.GetElapsedTime(start);
                if (_meter?.Peak - before is { } added)
                    peak = Math.Max(peak ?? 0, added);
                made = Cheapest(made);
                results.AddRange(new Evaluation(stage, _text, _ => made, original).RunRows(together, progress, cancellation)
                    .Select((result, i) => result with { Index = number * edits + i }));
            }
            return new(editor.Name, edits, batches.Count, EvaluationSummary.Of(results, edits), spent / batches.Count, peak,
                ProtocolOf(editor, edits, cases), results, notMade);
        }
    }

    /// <summary>What the model answers to each prompt after one edit by fine-tuning, and the time that the edit took.</summary>
    public (IReadOnlyList<string> Answers, TimeSpan Time) AnswersAfterFineTuning(FineTuneOptions options, string prompt, string target,
        IReadOnlyList<string> prompts)
    {
        using var scope = NewDisposeScope();
        var start = _time.GetTimestamp();
        var (edits, _) = FineTuning.Edit(_stage, options, _text.Of([(prompt, target)]));
        var time = _time.GetElapsedTime(start);
        return ([.. prompts.Select(asked =>
            _tokenizer.Decode(Generation.Run(_stage, _tokenizer.Encode(asked), new AskOptions(), edits)).Trim())], time);
    }

    public void Dispose() => _stage.Dispose();

    /// <summary>The same weights, others of which are editable.</summary>
    private Stage StageOf(IReadOnlyList<string> editable) => Stage.LoadWhole(_family, _weights, EditableWeights.Select(_family, editable));

    /// <summary>
    /// Many edits have more rows than their weight; as a matrix they answer in less time. Only to be measured: on an edit's own path they
    /// stay factors.
    /// </summary>
    private static WeightUpdates Cheapest(WeightUpdates made) =>
        new(made.Updates.ToDictionary(update => update.Key, update => update.Value is LowRankUpdate rows
        && rows.Rank * (rows.uTilde.shape[1] + rows.deltaTilde.shape[1]) > rows.uTilde.shape[1] * rows.deltaTilde.shape[1]
        ? new DenseUpdate(rows.ToDense()) : update.Value));

    private static IReadOnlyList<EditRows> Batched(int edits, IReadOnlyList<EditRows> cases) => edits >= 1 && edits <= cases.Count
        ? [.. cases.Take(cases.Count / edits * edits)]
        : throw new InvalidDataException($"{edits} edits at once cannot be measured with {cases.Count} cases; it must be 1 to {cases.Count}");

    private LabelledInput Edit(IEnumerable<EditRows> batch) => _text.Of([.. batch.Select(edit => edit.Edit)]);

    private IReadOnlyDictionary<string, GradientFactors> Record(Stage stage, IReadOnlyList<EditRows> batch, WeightUpdates active) =>
        TrainingStep.RecordEach(stage, batch.Chunk(RecordedAtOnce).Select(Edit), active);

    private ModelInput Known(BreadthFirstEditor editor, int step, int rows)
    {
        var rng = Prng.At(~editor.Options.Seed, (ulong)step);
        return _text.Of([.. Enumerable.Range(0, rows).Select(_ => rng.Pick(editor.Known))]).Input;
    }

    /// <summary>An unrelated row for each step of FT+KL. What the batch is asked afterwards would give the answer away.</summary>
    private Func<int, ModelInput>? Unrelated(FineTunedEditor editor, IReadOnlyList<EditRows> batch, int number)
    {
        if (editor.Unrelated is null)
            return null;
        var asked = batch.SelectMany(edit => edit.Rephrases.Concat(edit.Locality).Prepend(edit.Edit)).Select(Asked).ToHashSet();
        List<TokenRow> others = [.. editor.Unrelated.Where(row => !asked.Contains(Asked(row)))];
        if (others.Count == 0)
            throw new InvalidDataException($"FT+KL has no unrelated row but those that its {batch.Count} case(s) ask: give more cases, or leave it out");
        var rng = Prng.At(_seed, (ulong)number);
        return _ => _text.Of([rng.Pick(others)]).Input;
    }

    /// <summary>What tells rows apart: a text that is scored whole has no prompt.</summary>
    private static string Asked(TokenRow row) => row.Prompt.Length > 0 ? row.Prompt : row.Target;

    /// <summary>As through the cluster: in few rows, and with the smallest step that does it.</summary>
    private static WeightUpdates AsStrongAsNeeded(Stage stage, IReadOnlyDictionary<string, LowRankUpdate> updates, LabelledInput input,
        double confidence)
    {
        updates = updates.ToDictionary(update => update.Key, update => update.Value.Compress(LowRankUpdate.DefaultKept));
        var search = new EditScaleSearch(confidence);
        while (search.Next is { } strength)
        {
            var scored = TrainingStep.Score(stage, input, At(updates, strength));
            search.Report(scored.Accuracy == 1, Math.Exp(-scored.Loss));
        }
        return At(updates, search.Chosen);
    }

    private static WeightUpdates At(IReadOnlyDictionary<string, LowRankUpdate> updates, double strength) =>
        new(updates.ToDictionary(update => update.Key, update => update.Value.Times(strength)));
}
