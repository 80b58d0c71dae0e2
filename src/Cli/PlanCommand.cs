using System.CommandLine;
using System.Globalization;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Training;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend plan</c>: how a model divides into stages, and whether they fit.</summary>
internal static class PlanCommand
{
    public static Command Create()
    {
        var model = new Option<DirectoryInfo>("--model")
        {
            Description =
            "Hugging Face directory; config.json and the headers of the weights are read",
            Required = true
        };
        var editor = new Option<FileInfo?>("--editor")
        {
            Description =
            "editor file; without it editor.safetensors in the model's directory; without that, or with --editable or --rank, an editor to come"
        };
        var defaults = new StagePlanOptions();
        var stages = new Option<int>("--stages") { Description = "pipeline stages", DefaultValueFactory = _ => 2 }.Within(1);
        var memory = new Option<string?>("--gpu-memory")
        {
            Description =
            "what each stage has, such as 24GiB or 80GB; the command fails when a stage needs more"
        };
        var dtype = new Option<DType>("--dtype")
        {
            HelpName = string.Join('|', WeightTypes.All),
            Description = "type of the weights in memory",
            DefaultValueFactory = _ => DType.BFloat16
        };
        var device = new Option<string?>("--device")
        {
            Description =
            "of the stages, in turn: a list such as cuda:0,cuda:1; stages of one device share its memory"
        };
        var editable = new Option<string[]>("--editable")
        {
            Description =
            "weights to edit: a model of the paper such as gptj, names of weights, or patterns",
            AllowMultipleArgumentsPerToken = true
        };
        var rank = new Option<int>("--rank")
        {
            Description = "of the editor's blocks, without an editor file",
            DefaultValueFactory = _ => defaults.Mend.Rank
        }.Within(1);
        var tflops = new Option<double>("--tflops")
        {
            Description = "10^12 operations a second that a GPU's products reach in the type of the weights",
            DefaultValueFactory = _ => defaults.Flops / 1e12
        }.MoreThan(0);
        var editorTflops = new Option<double>("--editor-tflops")
        {
            Description = "the same in float32, which the editor's products are in",
            DefaultValueFactory = _ => defaults.EditorFlops / 1e12
        }.MoreThan(0);
        var bandwidth = new Option<double>("--bandwidth")
        {
            Description = "10^9 bytes a second at which a GPU reads its memory",
            DefaultValueFactory = _ => defaults.Bandwidth / 1e9
        }.MoreThan(0);
        var command = new Command("plan", "Show how a model divides into stages, what each holds, and whether it fits")
            { model, editor, stages, memory, dtype, device, editable, rank, tflops, editorTflops, bandwidth };
        command.SetAction(parsed =>
        {
            var directory = parsed.GetRequiredValue(model).FullName;
            var beside = EditorCheckpoint.Beside(directory);
            var ofAnEditorToCome = new Option[] { editable,
                rank }.FirstOrDefault(option => parsed.GetResult(option) is { Implicit: false });
            if (parsed.GetValue(editor) is not null && ofAnEditorToCome is not null)
                throw new MendException(MendError.InvalidOption, $"--editor and {ofAnEditorToCome.Name} were both given.",
                    "An editor's file has its weights and its rank; leave one of the two out.");
            var options = defaults with
            {
                Stages = parsed.GetValue(stages),
                BytesPerWeight = parsed.GetValue(dtype) == DType.Float32 ? 4 : 2,
                Memory = parsed.GetValue(memory) is { } text ? Bytes(text) : null,
                Editable = parsed.GetValue(editable) ?? [],
                Mend = defaults.Mend with { Rank = parsed.GetValue(rank) },
                Flops = parsed.GetValue(tflops) * 1e12,
                EditorFlops = parsed.GetValue(editorTflops) * 1e12,
                Bandwidth = parsed.GetValue(bandwidth) * 1e9,
            };
            var plan = StagePlan.Read(directory, parsed.GetValue(editor)?.FullName
                ?? (ofAnEditorToCome is null && File.Exists(beside) ? beside : null), options);
            var devices = parsed.GetValue(device) is { } list ? plan.Stages.Select((_, stage) => ShardDevices.Of(list, stage)).ToList()
                : null;
            Show(plan, options, devices);
            return plan.TooLarge.Any() | ShowTooFull(plan, options, devices) ? 1 : 0;
        });
        return command;
    }

    /// <param name="devices">Of the stages; null: none were named.</param>
    private static void Show(StagePlan plan, StagePlanOptions options, List<string>? devices)
    {
        var table = new Table().Border(TableBorder.Simple);
        foreach (var column in new[] { "stage", "layers", "weights", "editor", "activations", "together", "edit" })
            table.AddColumn(column);
        if (devices is not null)
            table.AddColumn("device");
        foreach (var (i, stage) in plan.Stages.Index())
            table.AddRow([$"{i}", $"{stage.Range.Count}: {stage.FirstLayer} to {stage.LastLayer}", Gib(stage.WeightBytes),
                Gib(stage.EditorBytes),
                Gib(stage.ActivationBytes), Gib(stage.Bytes), Ms(stage.EditTime), .. devices is null ? Array.Empty<string>()
                    : [devices[i]]]);
        AnsiConsole.Write(table);
        string Together(Func<PlannedStage, TimeSpan> of) => Ms(TimeSpan.FromTicks(plan.Stages.Sum(stage => of(stage).Ticks)));
        Say.Line($"""
            An edit of {options.Tokens} tokens takes about {Together(stage => stage.EditTime)} (forward {Together(stage => stage.Forward)}, backward {Together(stage => stage.Backward)}, editor {Together(stage => stage.Editor)}) on GPUs that reach {options.Flops / 1e12:0.##} TFLOP/s, {options.EditorFlops / 1e12:0.##} in float32, and read {options.Bandwidth / 1e9:0} GB/s, the network aside.
            """);
        foreach (var stage in plan.TooLarge)
            Say.Line(
                $"[red]Stage {plan.Stages.ToList().IndexOf(stage)} does not fit:[/] it needs {Gib(stage.Bytes)} and has {Gib(options.Memory!.Value)}. {Remedy(stage, options)}");
    }

    /// <returns>Whether a device holds several stages that fit each by itself and not together.</returns>
    private static bool ShowTooFull(StagePlan plan, StagePlanOptions options, List<string>? devices)
    {
        var full = plan.Stages.Zip(devices ?? []).Where(stage => !(stage.First.Bytes > options.Memory))
            .GroupBy(stage => stage.Second, stage => stage.First)
            .Where(stages => stages.Sum(stage => stage.Bytes) > options.Memory).ToList();
        foreach (var stages in full)
            AnsiConsole.MarkupLineInterpolated(
                $"[red]{stages.Key} is too full:[/] its {stages.Count()} stages need {Gib(stages.Sum(stage => stage.Bytes))} and it has {Gib(options.Memory!.Value)}. Use more devices.");
        return full.Count > 0;
    }

    private static string Remedy(PlannedStage stage, StagePlanOptions options) =>
        stage.Range.Count > 1 ? "Use more stages."
        : options.BytesPerWeight > 2 ? "It is a single layer; try --dtype BFloat16."
        : "It is a single layer; use GPUs with more memory.";

    private static string Gib(long bytes) => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1L << 30):0.00} GiB");

    private static string Ms(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalMilliseconds:0.0} ms");

    /// <summary>A number with a unit: GiB, MiB, GB or MB.</summary>
    private static long Bytes(string text)
    {
        foreach (var (unit, size) in new[] { ("GiB", 1L << 30), ("MiB", 1L << 20), ("GB", 1_000_000_000L), ("MB", 1_000_000L) })
            if (text.EndsWith(unit, StringComparison.OrdinalIgnoreCase)
                && double.TryParse(text[..^unit.Length].Trim(), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture,
                    out var number) && number > 0)
                return (long)(number * size);
        throw new MendException(MendError.InvalidOption, $"--gpu-memory is '{text}'.", "Give a number with a unit, such as 24GiB or 80GB.");
    }
}
