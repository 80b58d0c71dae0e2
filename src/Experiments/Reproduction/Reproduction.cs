using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Files;
using MendCluster.Engine.Models;
using MendCluster.Engine.Routing;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;

namespace MendCluster.Experiments;

/// <summary>What is to be said of a step's product without looking at it again; null where it does not apply.</summary>
/// <param name="Score">What a model knows: the share of its questions that it answers, of texts its perplexity.</param>
/// <param name="Model">Its family and size.</param>
/// <param name="TrainingEdits">Of the data, for editors.</param>
/// <param name="ValidationEdits">Of the data, for measurements.</param>
/// <param name="Training">Of an editor.</param>
public sealed record ReproductionProduct(double? Score = null, string? Model = null, int? TrainingEdits = null, int? ValidationEdits = null,
    EditorProduct? Training = null);

/// <param name="IsKept">Not when no validation of the training gave a number.</param>
public sealed record EditorProduct(bool IsKept, TrainingCost Cost);

/// <summary>Where a reproduction is.</summary>
/// <param name="Number">Of the step, from 1.</param>
/// <param name="Done">Share of the step.</param>
public sealed record ReproductionProgress(ReproductionStep Step, int Number, double Done);

/// <summary>
/// Does what a <see cref="ReproductionPlan"/> says, and each step once. A step's product is a folder with a <c>step.json</c>: the settings
/// that it is made with, and at the end that it is done. A run that was stopped, at whatever point, goes on with the first step that is not
/// done: the training of an editor or of a large world's model at its checkpoint, measurements after the last one made, a sequence after its
/// last edit, the others at their beginning. A product of other settings is deleted and made anew, and so is what was made of it.
/// What <see cref="ReproductionResults"/> reads is in the <c>step.json</c> of all steps and the <c>results.json</c>, or <c>.gz</c>, of measurements, so these
/// files are the record of a reproduction: with them alone what was measured stays, and the others are made again where a step needs them.
/// </summary>
/// <param name="folder">Of all products.</param>
/// <param name="time">Measures the steps.</param>
public sealed class Reproduction(string folder, ReproductionPlan plan, TimeProvider time)
{
    private static readonly JsonSerializerOptions Json = new()
    {
        WriteIndented = true,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new JsonStringEnumConverter() },
    };

    /// <summary>Of a sequence's answers, at most.</summary>
    private const int AnswerTokens = 32;

    public ReproductionPlan Plan { get; } = plan;

    /// <summary>Of a step's product.</summary>
    public string this[string step] => Path.Combine(folder, step);

    public bool IsDone(ReproductionStep step) => Read(step) is { Done: true };

    /// <summary>Time spent on a step so far; that of a process that was killed is not in it.</summary>
    public TimeSpan Spent(ReproductionStep step) => TimeSpan.FromSeconds(Read(step)?.Seconds ?? 0);

    /// <summary>That steps were made on; empty where that is not known.</summary>
    public IReadOnlyList<string> Machines => [.. Plan.Steps.Select(step => Read(step)?.Machine).OfType<string>().Distinct()];

    private static string Machine => string.Create(CultureInfo.InvariantCulture,
        $"{Environment.ProcessorCount} cores, {GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 1e9:0} GB, {RuntimeInformation.OSDescription.Trim()}, {RuntimeInformation.FrameworkDescription}, {TorchRuntime.Description}");

    /// <exception cref="InvalidOperationException">It is not done.</exception>
    public ReproductionProduct Product(ReproductionStep step) => Read(step)?.Product ?? throw new InvalidOperationException($"{step.Name} is not done");

    /// <summary>By the plan's estimates, of the steps that are not done.</summary>
    public TimeSpan Left => TimeSpan.FromMinutes(Plan.Steps.Where(step => !IsDone(step)).Sum(step => step.Minutes));

    /// <summary>Makes what is not there yet.</summary>
    /// <param name="progress">Told on the caller's thread; first at the beginning of each step that is made.</param>
    /// <returns>How many steps had something to do.</returns>
    /// <exception cref="OperationCanceledException">Run it again to go on.</exception>
    public int Run(Action<ReproductionProgress>? progress = null, CancellationToken cancellation = default)
    {
        var toMake = ToMake();
        foreach (var (i, step) in toMake)
        {
            cancellation.ThrowIfCancellationRequested();
            var (number, before) = (i + 1, Begin(step));
            progress?.Invoke(new(step, number, 0));
            var start = time.GetTimestamp();
            var after = before;
            try
            {
                var score = Make(step, share => progress?.Invoke(new(step, number, share)), cancellation);
                after = before with { Product = Describe(step, score), Machine = Machine, Done = true };
            }
            finally
            {
                Write(step, after with { Seconds = before.Seconds + time.GetElapsedTime(start).TotalSeconds });
            }
        }
        return toMake.Count;
    }

    /// <summary>What is not done, and what is done but not there any more and one of those needs.</summary>
    private List<(int Index, ReproductionStep Step)> ToMake()
    {
        var (make, needed) = (new List<(int, ReproductionStep)>(), new HashSet<string>());
        foreach (var (i, step) in Plan.Steps.Index().Reverse())
        {
            if (IsDone(step) && (HasProduct(step) || !needed.Contains(step.Name)))
                continue;
            make.Insert(0, (i, step));
            needed.UnionWith(step.Inputs);
        }
        return make;
    }

    /// <summary>Not where only the record is left.</summary>
    private bool HasProduct(ReproductionStep step) => Directory.EnumerateFileSystemEntries(this[step.Name]).Any(entry => Path.GetFileName(entry) != RecordName);

    private ReproductionProduct Describe(ReproductionStep step, double? score)
    {
        var folder = this[step.Name];
        var product = new ReproductionProduct(score);
        switch (step.Work)
        {
            case ModelWork or FactsModelWork:
                using (var files = HuggingFaceDirectory.Open(folder))
                {
                    var weights = files.Names.Sum(name => files.Find(name)!.Shape.Aggregate(1L, (count, size) => count * size));
                    return product with
                    {
                        Model = string.Create(CultureInfo.InvariantCulture, $"{ModelFamily.FromDirectory(folder).Type}, {weights / 1e6:0.00} million weights"),
                    };
                }
            case ContinuationsWork:
                return product with
                {
                    TrainingEdits = Wikitext.ReadContinuations(Path.Combine(folder, TaskFolder.ContinuationsTraining)).Completions.Count,
                    ValidationEdits = Wikitext.ReadContinuations(Path.Combine(folder, TaskFolder.ContinuationsValidation)).Completions.Count,
                };
            case DataWork { Task: not EditTaskKind.Gen } data:
                var (training, validation) = TaskFolder.ReadEdits(folder, data.Task, seed: 0);
                return product with { TrainingEdits = training.Count, ValidationEdits = validation.Count };
            case EditorWork or FactsEditorWork:
                return product with { Training = new(EditorOf(step.Name) is not null, TrainingReports.Cost(new RunFolder(folder))) };
            default:
                return product;
        }
    }

    /// <summary>What a <see cref="MeasurementWork"/> measured, without its cases.</summary>
    public IReadOnlyList<EditorReport> Reports(ReproductionStep step) => ResultTables.Read(this[step.Name]);

    /// <summary>The file of an editor; null: no validation of its training gave a number, so there was none to keep.</summary>
    /// <param name="step">Its training.</param>
    public string? EditorOf(string step) => new RunFolder(this[step]).BestEditor is var file && File.Exists(file) ? file : null;

    /// <summary>What a <see cref="FactsSequenceWork"/> measured.</summary>
    public SequenceResults Sequence(ReproductionStep step) => SequenceRun.Read(this[step.Name])
        ?? throw new InvalidOperationException($"{step.Name} is not measured yet");

    /// <returns>The step's score, of those that have one: what a model knows.</returns>
    private double? Make(ReproductionStep step, Action<double> progress, CancellationToken cancellation)
    {
        var (product, inputs) = (this[step.Name], step.Inputs.Select(input => this[input]).ToList());
        void Pretrained(PretrainingProgress at) => progress((double)at.Step / at.Steps);
        switch (step.Work)
        {
            case DataWork { Task: EditTaskKind.Qa } data:
                SyntheticTasks.WriteQuestionAnswering(product, data.Seed);
                return null;
            case DataWork { Task: EditTaskKind.Fc } data:
                SyntheticTasks.WriteFactChecking(product, data.Seed);
                return null;
            case DataWork data:
                SyntheticTasks.WriteTexts(product, data.Seed);
                return null;
            case ModelWork { Model: SmallT5Options t5 } model:
                return SmallT5.Train(product, TaskTraining.ReadQuestions(inputs[0]), t5, Pretrained, cancellation: cancellation);
            case ModelWork { Model: SmallBertOptions bert } model:
                return SmallBert.Train(product, TaskTraining.ReadClaims(inputs[0]), bert, Pretrained, cancellation);
            case ModelWork { Model: SmallGptOptions gpt }:
                return SmallGpt.Train(product, TaskFolder.Texts(inputs[0], training: true), TaskFolder.Texts(inputs[0], training: false),
                    gpt, Pretrained, cancellation);
            case ContinuationsWork continuations:
                foreach (var file in new[] { TaskFolder.WikitextTraining, TaskFolder.WikitextValidation })
                    File.Copy(Path.Combine(inputs[0], file), Path.Combine(product, file));
                SyntheticTasks.WriteContinuations(product, inputs[1], continuations.Seed,
                    (made, all) => progress((double)made / all), continuations.Training, continuations.Validation, continuations.Choice,
                    cancellation);
                return null;
            case EditorWork editor:
                TrainEditor(product, inputs[1],
                    text => TaskFolder.Open(inputs[0], editor.Task, text, (ulong)editor.Options.Seed, new(editor.Options.UnrelatedRows)),
                    editor.Options, null, progress, cancellation);
                return null;
            case MeasurementWork measurement:
                Measure(measurement, inputs[0], inputs[1], product, progress, cancellation);
                return null;
            case FactsModelWork model:
                return SmallT5.Train(product, new ThousandFacts(model.World, model.Size).Questions, model.Model, Pretrained, resumes: true,
                    cancellation);
            case FactsEditorWork editor:
                var known = new ThousandFacts(editor.World, editor.Size);
                TrainEditor(product, inputs[0], known.Task, editor.Options, editor.Preserves ? known.Known : null, progress, cancellation);
                return null;
            case FactsMeasurementWork measurement:
                MeasureFacts(measurement, inputs[0], product, progress, cancellation);
                return null;
            case FactsSequenceWork sequence:
                var facts = new ThousandFacts(sequence.World, sequence.Size);
                var (probes, replay) = SyntheticTasks.Known(facts.World, sequence.World, sequence.Probes);
                var router = sequence.Routes ? TrainRouter(inputs[0], facts, product, cancellation) : null;
                var sequenced = sequence.Beta is not { } beta ? new RunFolder(inputs[1]).BestEditor
                    : Sequential(inputs[0], new RunFolder(inputs[1]).BestEditor, facts, beta, product);
                new SequenceRun(product, new(facts.Edits, facts.Unrelated, "held-out facts of the world, all known to the model"), sequence.Options,
                    AnswerTokens, time, sequence.ConsolidateEvery, new() { Share = 1, MaxTime = sequence.ConsolidationTime })
                    .RunAsync(inputs[0], sequenced,
                    probes, sequence.Replays ? replay : [], sequence.Counts, revertAll: true, progress, router: router, cancellation: cancellation)
                    .GetAwaiter().GetResult();
                return null;
            default:
                throw new InvalidOperationException($"nothing makes {step.Work}");
        }
    }

    /// <returns>Its file, which an earlier run may have left.</returns>
    private static string TrainRouter(string model, ThousandFacts facts, string product, CancellationToken cancellation)
    {
        var file = Path.Combine(product, EditRouter.FileName);
        if (File.Exists(file))
            return file;
        using var router = RouterTraining.Run(model, RoutedFacts.Of(facts.RouterEdits), new(), cancellation: cancellation);
        router.Save(file, ModelFingerprint.Of(model));
        return file;
    }

    /// <returns>The file of an editor that goes round the training facts and earlier edits, which an earlier run may have left.</returns>
    private static string Sequential(string model, string trained, ThousandFacts facts, double beta, string product)
    {
        var file = Path.Combine(product, EditorCheckpoint.FileName);
        if (!File.Exists(file))
            LocalTraining.Preserve(model, trained, facts.Known, rounds: null, beta, file, sequential: true);
        return file;
    }

    private static void TrainEditor(string product, string model, Func<TextBatch, IEditTask> open, EditorTrainingOptions options,
        IReadOnlyList<QaPair>? preserve, Action<double> progress, CancellationToken cancellation)
    {
        var meter = AllocationMeter.IsSupported ? AllocationMeter.Install() : null;
        meter?.Reset();
        var run = new RunFolder(product);
        var trained = LocalTraining.Run(model, open, options, product,
            new SynchronousProgress<TrainingProgress>(at => progress((double)at.Iteration / at.MaxIters)), preserve: preserve,
            cancellation: cancellation);
        TrainingReports.DrawCurves(run);
        if (meter is not null)
            run.LogMemory(trained.Iterations, meter.Peak);
        cancellation.ThrowIfCancellationRequested(); // a training that is told to stop ends as if it were over
    }

    private void MeasureFacts(FactsMeasurementWork work, string model, string product, Action<double> progress,
        CancellationToken cancellation)
    {
        var facts = new ThousandFacts(work.World, work.Size);
        var family = ModelFamily.FromDirectory(model);
        var text = new TextBatch(family, TokenizerFiles.Load(model));
        var task = facts.Task(text);
        List<EditRows> cases = work.MadeUp ? [.. facts.MadeUp.Select(text.Rows)] : [.. Enumerable.Range(0, task.CaseCount).Select(task.Case)];
        List<TokenRow> known = [.. facts.Known.Select(pair => text.Row(pair.Question, pair.Answer))];
        var measured = work.Editors.Select(editor => (Editor: editor, Spec: Spec(editor))).Where(editor => editor.Spec is not null)
            .SelectMany(editor => editor.Editor.Counts.Select(count => (editor.Editor.Line, Spec: editor.Spec!, Count: count,
                Cases: cases[..Math.Min(cases.Count, Math.Max(count, work.MaxCases))]))).Where(row => row.Count <= row.Cases.Count).ToList();
        using var comparison = new EditorComparison(model, time, work.Task, work.World);
        var store = new MeasurementStore(this[$"measured/cases-facts-{work.World}"]);
        var reports = new List<FactsReport>();
        foreach (var (line, spec, count, some) in measured)
        {
            cancellation.ThrowIfCancellationRequested();
            reports.Add(FactsReport.Of(line, store.GetOrMeasure($"{spec.Name} {count} of {some.Count}{(work.MadeUp ? " made up" : "")}",
                comparison.ProtocolOf(spec, count, some), () => comparison.Measure(spec, count, some, cancellation: cancellation)), facts));
            progress((double)reports.Count / measured.Count);
        }
        ThousandFactsResults.Write(product, reports);

        EditorSpec? Spec(FactsEditor editor)
        {
            if (editor.BreadthFirst is { } breadthFirst)
                return new BreadthFirstEditor(breadthFirst, known);
            if (editor.UltraEdit is { } ultraEdit)
                return new UntrainedUltraEdit(ultraEdit, EditableWeights.DownProjections(family), ThousandFactsPlan.UltraEditTurn);
            if (EditorOf(editor.Trained!) is not { } file)
                return null;
            if (editor.Beta is not { } beta)
                return new TrainedEditor(file);
            var other = Path.Combine(product, string.Create(CultureInfo.InvariantCulture, $"beta-{beta}.safetensors"));
            LocalTraining.Preserve(model, file, facts.Known, null, beta, other);
            return new TrainedEditor(other) { Name = string.Create(CultureInfo.InvariantCulture, $"{editor.Line}, beta {beta}") };
        }
    }

    private void Measure(MeasurementWork work, string data, string model, string product, Action<double> progress,
        CancellationToken cancellation)
    {
        var text = new TextBatch(ModelFamily.FromDirectory(model), TokenizerFiles.Load(model));
        var task = TaskFolder.Open(data, work.Task, text, work.Seed);
        List<EditRows> cases = [.. Enumerable.Range(0, Math.Min(work.MaxCases, task.CaseCount)).Select(task.Case)];
        var editors = new List<(EditorSpec Editor, IReadOnlyList<int> Counts)>();
        void Add(EditorSpec editor) =>
            editors.Add((editor, [.. work.Counts.Where(count => count <= Math.Min(cases.Count, editor.MaxEdits ?? count))]));
        if (work.FineTune is { } fineTune)
        {
            Add(new FineTunedEditor(fineTune, work.Editable));
            Add(new FineTunedEditor(fineTune, work.Editable, EditorComparison.UnrelatedRows(task, cases)));
        }
        if (work.BreadthFirst is { } breadthFirst)
            Add(new BreadthFirstEditor(breadthFirst));
        foreach (var step in work.Trained)
        {
            if (EditorOf(step) is not { } file)
                continue;
            var trained = new TrainedEditor(file);
            if (work.Confidence is { } confidence && trained.Algorithm == EditorAlgorithm.Mend
                && trained.Searched(confidence) is { } searched)
                Add(searched);
            Add(trained);
        }
        if (work.UltraEdit is { } ultraEdit)
            Add(new UntrainedUltraEdit(ultraEdit, work.Editable));

        using var comparison = new EditorComparison(model, time, work.Task, work.Seed);
        // the task's tables share measurements
        var store = new MeasurementStore(this[$"measured/cases-{work.Task.ToString().ToLowerInvariant()}"]);
        var reports = new List<EditorReport>();
        int Cases(int count) => cases.Count / count * count;
        var (measured, all) = (0, editors.Sum(row => row.Counts.Sum(Cases)));
        foreach (var (editor, counts) in editors)
            foreach (var count in counts)
            {
                cancellation.ThrowIfCancellationRequested();
                var before = measured;
                reports.Add(store.GetOrMeasure($"{editor.Name} {count} of {cases.Count}", comparison.ProtocolOf(editor, count, cases),
                    () => comparison.Measure(editor, count, cases,
                    new SynchronousProgress<CaseResult>(_ => progress((double)++measured / all)), cancellation)));
                measured = before + Cases(count);
            }
        ResultTables.Write(product, reports);
    }

    /// <summary>A folder that holds nothing but what this step left in it.</summary>
    private StepRecord Begin(ReproductionStep step)
    {
        if (Read(step) is { Done: false } begun && step.Work is EditorWork or FactsModelWork or FactsEditorWork or FactsSequenceWork)
            return begun; // goes on by itself
        if (Directory.Exists(this[step.Name]))
            Directory.Delete(this[step.Name], recursive: true);
        Directory.CreateDirectory(this[step.Name]);
        var fresh = new StepRecord(Fingerprint(step), step.Work, Done: false, Seconds: 0, Product: null);
        Write(step, fresh);
        return fresh;
    }

    /// <returns>Null where the product is of other settings, or none is there.</returns>
    private StepRecord? Read(ReproductionStep step)
    {
        var file = RecordFile(step);
        if (!File.Exists(file))
            return null;
        var found = JsonSerializer.Deserialize<StepRecord>(File.ReadAllText(file), Json);
        return found?.Fingerprint == Fingerprint(step) ? found : null;
    }

    private void Write(ReproductionStep step, StepRecord state) =>
        AtomicFile.Write(RecordFile(step), JsonSerializer.Serialize(state with { Settings = step.Work }, Json) + "\n");

    private const string RecordName = "step.json";

    private string RecordFile(ReproductionStep step) => Path.Combine(this[step.Name], RecordName);

    /// <summary>Raised when steps of the same settings come to make something else.</summary>
    private const int Version = 2;

    /// <summary>Of the step's settings and of all that went into its inputs.</summary>
    private string Fingerprint(ReproductionStep step)
    {
        var inputs = step.Inputs.Select(name => Fingerprint(Plan.Steps.Single(other => other.Name == name)));
        var settings = JsonSerializer.Serialize(new
        {
            step.Name,
            Version,
            Kind = step.Work.GetType().Name,
            Settings = (object)step.Work,
            Inputs = inputs
        }, Json);
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(settings)));
    }

    /// <param name="Settings">For readers; the fingerprint is what counts.</param>
    private sealed record StepRecord(string Fingerprint, object Settings, bool Done, double Seconds, ReproductionProduct? Product,
        string? Machine = null);
}
