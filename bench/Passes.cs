using System.Diagnostics;
using System.Globalization;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Bench;

/// <summary>
/// The passes of an edit, a training step and an answer on a whole model of <see cref="GeneratedModels"/>, without cluster, ledger and
/// tries: what bench/gpu/reference.py does in plain PyTorch, over the same texts.
/// An edit has 28 tokens of which 10 are labels (T5: 28 and 6), a training step is a window of 10 edits, each with a rephrase and an
/// unrelated example of 32 tokens, and one step of Adam.
/// </summary>
internal sealed class Passes : IDisposable
{
    public const int WarmUp = 3, Rounds = 10, Asks = 3, AnswerTokens = 32, Window = 10, Windows = 3;

    private readonly string _directory;
    private readonly Device _device;
    private readonly EditorOptimiser _optimiser;
    private readonly IReadOnlyList<EditBatch> _batches;

    public Passes(string directory, ScalarType dtype, Device device)
    {
        (_directory, _device) = (directory, device);
        using var files = HuggingFaceDirectory.Open(directory);
        Mend = EditorCheckpoint.LoadEditor(EditorOf(directory), device: device);
        Stage = Stage.LoadWhole(ModelFamily.FromDirectory(directory), new CheckpointWeights(files, dtype, device),
            [.. Mend.Weights.Select(weight => weight.Name)]);
        _optimiser = new EditorOptimiser(Mend, 1e-6, 1e-4, Window, gradClip: 100);
        var text = new TextBatch(Stage.Family, TokenizerFiles.Load(directory));
        _batches = [.. Enumerable.Range(0, Window).Select(i => Batch(text, directory, i))];
    }

    public Stage Stage { get; }

    public Mend Mend { get; }

    public EditBatch FirstBatch => _batches[0];

    /// <summary>Rows of the edit's factors, over all weights.</summary>
    public long Rows { get; private set; }

    public void Dispose()
    {
        _optimiser.Dispose();
        Mend.Dispose();
        Stage.Dispose();
    }

    public void MeasureEdit(Dictionary<string, object> found)
    {
        using var scope = NewDisposeScope();
        var (before, gradient) = TrainingStep.Record(Stage, FirstBatch.Inner);
        var after = TrainingStep.Score(Stage, FirstBatch.Inner, new WeightUpdates(Mend.Propose(gradient)));
        (found["passes_log_p_before"], found["passes_log_p_after"]) = (-before.Loss, -after.Loss);
        found["passes_ms"] = 1000 * Median(Times(_device, WarmUp, Rounds, () =>
        {
            var (_, factors) = TrainingStep.Record(Stage, FirstBatch.Inner);
            Rows = factors.Values.Sum(factor => factor.u.shape[0]);
            Mend.Propose(factors);
        }));
    }

    public void MeasureAnswer(Dictionary<string, object> found)
    {
        var prompt = TokenizerFiles.Load(_directory).Encode(Texts(_directory, 0).Prompt);
        double Answer(int tokens) => Median(Times(_device, 1, Asks, () =>
        {
            if (Generation.Run(Stage, prompt, new(tokens)).Count is var count && count != tokens)
                throw new InvalidOperationException($"the answer ended after {count} of {tokens} tokens: tokens a second would be wrong; "
                    + "make the checkpoint from another seed");
        }));
        var first = Answer(1);
        (found["passes_first_token_ms"], found["passes_tokens_s"]) = (1000 * first, AnswerTokens / (Answer(1 + AnswerTokens) - first));
    }

    public void MeasureStep(Dictionary<string, object> found) =>
        found["step_ms"] = 1000 * Median(Times(_device, 1, Windows, () =>
        {
            foreach (var batch in _batches)
            {
                using var edit = NewDisposeScope();
                _optimiser.Take(TrainingStep.Run(Stage, Mend, batch, new(), _optimiser.Parameters).Gradients);
            }
        })) / Window;

    public static EditBatch Batch(TextBatch text, string directory, int i)
    {
        var (prompt, target) = Texts(directory, i);
        var unrelated = Texts(directory, 200 + i, more: 4);
        return new(text.Of([(prompt, target)]), text.Of([(Texts(directory, 100 + i).Prompt, target)]), text.Of([unrelated]));
    }

    /// <summary>
    /// Prompt and target of 28 tokens together (T5: of 28 and 6, the end of each included): a token for each letter, and the blank before a
    /// target.
    /// </summary>
    public static (string Prompt, string Target) Texts(string directory, int seed, int more = 0) =>
        ModelFamily.FromDirectory(directory).IsEncoderDecoder ? (Letters(27 + more, seed), Letters(5, seed + 1))
        : (Letters(18 + more, seed), Letters(9, seed + 1));

    public static string EditorOf(string directory) => Path.Combine(directory, EditorCheckpoint.FileName);

    public static double Median(IEnumerable<double> values)
    {
        List<double> sorted = [.. values.Order()];
        return sorted[sorted.Count / 2];
    }

    /// <summary>Until the device has done what it was told.</summary>
    public static void Wait(Device device)
    {
        if (device.type == TorchSharp.DeviceType.CUDA)
            cuda.synchronize();
    }

    /// <summary>The most of this process that was resident so far, GB.</summary>
    public static double PeakResidentGB() => StatusBytes("VmHWM") / 1e9;

    /// <summary>A line of /proc/PROCESS/status, in bytes.</summary>
    public static long StatusBytes(string key, string process = "self") =>
        1024 * long.Parse(File.ReadLines($"/proc/{process}/status").First(line => line.StartsWith(key + ":", StringComparison.Ordinal))
            .Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);

    private static string Letters(int count, int seed) =>
        string.Concat(Enumerable.Range(0, count).Select(i => (char)('a' + (seed * 7 + i * 11) % 26)));

    /// <summary>Seconds of each round after the warm-up, until the device is done.</summary>
    private static IEnumerable<double> Times(Device device, int warmUp, int rounds, Action action)
    {
        for (var round = 0; round < warmUp + rounds; round++)
        {
            using var scope = NewDisposeScope();
            var start = Stopwatch.GetTimestamp();
            action();
            Wait(device);
            if (round >= warmUp)
                yield return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
    }
}
