using System.Globalization;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Metrics;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Recipes;

/// <summary>An editor, measured on a set of cases.</summary>
/// <param name="PerEdit">Mean time of making one edit, without measuring it.</param>
public sealed record EditorReport(string Editor, EvaluationSummary Summary, TimeSpan PerEdit, IReadOnlyList<CaseResult> Cases);

/// <summary>A whole model on this machine, with editors to compare on it. Each edit starts from the model as it was read.</summary>
public sealed class EditorComparison : IDisposable
{
    private readonly Stage _stage;
    private readonly ITokenizer _tokenizer;
    private readonly TextBatch _text;
    private readonly TimeProvider _time;

    /// <param name="model">A Hugging Face directory.</param>
    /// <param name="time">Measures the edits.</param>
    public EditorComparison(string model, TimeProvider time)
    {
        using var files = HuggingFaceDirectory.Open(model);
        var family = ModelFamily.FromDirectory(model);
        _tokenizer = TokenizerFiles.Load(model);
        _text = new(family, _tokenizer);
        _stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32));
        _time = time;
    }

    public static EditorAlgorithm AlgorithmOf(string editor)
    {
        using var checkpoint = EditorCheckpoint.Open(editor);
        return checkpoint.Algorithm;
    }

    /// <summary>As in the paper's tables.</summary>
    internal static string NameOf(EditorAlgorithm algorithm) => algorithm == EditorAlgorithm.UltraEdit ? "UltraEdit" : algorithm.ToString().ToUpperInvariant();

    /// <summary>Measures a trained editor of any algorithm.</summary>
    /// <param name="editor">Its safetensors file.</param>
    /// <param name="confidence">
    /// Each edit as strong as it has to be (<see cref="StrengthSearch"/>), as through the cluster; KE and ENN are not searched. Null: as in the paper.
    /// </param>
    public EditorReport Editor(
        string editor, double? confidence, IReadOnlyList<EditRows> cases, IProgress<CaseResult>? progress = null, CancellationToken cancellation = default)
    {
        using var checkpoint = EditorCheckpoint.Open(editor);
        switch (checkpoint.Algorithm)
        {
            case EditorAlgorithm.Ke:
                using (var ke = KnowledgeEditorTraining.Load(_stage, checkpoint))
                    return Measure(NameOf(checkpoint.Algorithm), input => KnowledgeEditorTraining.Edit(_stage, ke, input), cases, progress, cancellation);
            case EditorAlgorithm.Enn:
                using (var trained = Stage.LoadWhole(_stage.Family, new CopiedWeights(_stage.Weights), _stage.EditableOrder))
                using (var enn = EnnTraining.Load(trained, checkpoint))
                    return Measure(NameOf(checkpoint.Algorithm), input => EnnTraining.Edit(trained, enn, input), cases, progress, cancellation, trained);
            default:
                using (var prepared = checkpoint.Prepared())
                    return Measure(NameOf(checkpoint.Algorithm) + (confidence is null ? "" : string.Create(CultureInfo.InvariantCulture, $", to {confidence}")), input =>
                    {
                        var updates = prepared.Propose(TrainingStep.Record(_stage, input).Factors);
                        return confidence is { } wanted ? AsStrongAsNeeded(updates, input, wanted) : new Edits(updates);
                    }, cases, progress, cancellation);
        }
    }

    /// <summary>Measures plain fine-tuning of the same weights.</summary>
    public EditorReport FineTune(FineTuneOptions options, IReadOnlyList<EditRows> cases, IProgress<CaseResult>? progress = null, CancellationToken cancellation = default) =>
        Measure("FT", input => FineTuning.Edit(_stage, options, input).Edits, cases, progress, cancellation);

    /// <summary>What the model answers to each prompt after one edit by fine-tuning, and the time that the edit took.</summary>
    public (IReadOnlyList<string> Answers, TimeSpan Time) AnswersAfterFineTuning(FineTuneOptions options, string prompt, string target, IReadOnlyList<string> prompts)
    {
        using var scope = NewDisposeScope();
        var start = _time.GetTimestamp();
        var (edits, _) = FineTuning.Edit(_stage, options, _text.Of([(prompt, target)]));
        var time = _time.GetElapsedTime(start);
        return ([.. prompts.Select(asked => _tokenizer.Decode(Generation.Run(_stage, _tokenizer.Encode(asked), new SamplingOptions(), edits)).Trim())], time);
    }

    public void Dispose() => _stage.Dispose();

    /// <summary>As through the cluster: in few rows, and with the smallest step that does it.</summary>
    private Edits AsStrongAsNeeded(IReadOnlyDictionary<string, LowRankUpdate> updates, LabelledInput input, double confidence)
    {
        updates = updates.ToDictionary(update => update.Key, update => update.Value.Compress(LowRankUpdate.UsuallyKept));
        var search = new StrengthSearch(confidence);
        while (search.Next is { } strength)
        {
            var scored = TrainingStep.Score(_stage, input, At(strength));
            search.Report(scored.Accuracy == 1, Math.Exp(-scored.Nll.item<float>()));
        }
        return At(search.Chosen);

        Edits At(double strength) => new(updates.ToDictionary(update => update.Key, update => update.Value.Times(strength)));
    }

    private EditorReport Measure(string name, Func<LabelledInput, Edits> edit, IReadOnlyList<EditRows> cases, IProgress<CaseResult>? progress, CancellationToken cancellation,
        Stage? trained = null)
    {
        var spent = TimeSpan.Zero;
        var results = new Evaluation(trained ?? _stage, _text, input =>
        {
            var start = _time.GetTimestamp();
            var edits = edit(input);
            spent += _time.GetElapsedTime(start);
            return edits;
        }, trained is null ? null : _stage).RunRows(cases, progress, cancellation);
        return new(name, EvaluationSummary.Of(results), spent / Math.Max(1, results.Count), results);
    }
}
