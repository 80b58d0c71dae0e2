using System.CommandLine;
using System.Globalization;
using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Checkpoints;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend export</c> and <c>mend import</c>: checkpoints for other tools, and from them.</summary>
internal static class ModelCommands
{
    public static Command Export()
    {
        var model = new Option<DirectoryInfo?>("--model") { Description = "Hugging Face directory; without it the demo's model" };
        var ledger = new Option<FileInfo?>("--ledger") { Description = $"ledger file; {DefaultLedger.Rule}" };
        var output = Output();
        var dtype = new Option<DType?>("--dtype")
        {
            HelpName = string.Join('|', WeightTypes.All),
            Description = "type of the weights; without it as the model has them"
        };
        var most = new Option<double>("--max-file-gb")
        {
            Description = "largest file of weights, in 10^9 bytes",
            DefaultValueFactory = _ => HuggingFaceWriter.DefaultFileLength / 1e9
        }.MoreThan(0);
        var scope = new Option<string?>("--scope") { Description = "with the edits of this scope beside those for everybody" };
        var command = new Command("export", "Write the edited model as a Hugging Face directory") { model, ledger, output, scope, dtype, most };
        command.SetCancellableAction(async (parsed, cancellation) =>
        {
            var (gigabytes, directory) = (parsed.GetValue(most), parsed.GetValue(model)?.FullName ?? DemoFiles.Shipped);
            using var alone = NewModel.Alone(parsed.GetRequiredValue(output).FullName);
            var report = await ModelExport.RunAsync(new()
            {
                ModelDirectory = directory,
                Ledger = parsed.GetValue(ledger)?.FullName ?? Path.GetFullPath(DefaultLedger.Of(directory)),
                Output = parsed.GetRequiredValue(output).FullName,
                Scope = parsed.GetValue(scope),
                DType = parsed.GetValue(dtype),
                MaxFileBytes = (long)Math.Min(gigabytes * 1e9, long.MaxValue),
            }, cancellation);
            var table = new Table().Border(TableBorder.Simple)
                .AddColumns("weight", "rank of its edits", "norm of the change", "lost to rounding");
            foreach (var weight in report.Weights)
                table.AddRow(Say.Cell(weight.Name), weight.Rank.ToString(CultureInfo.InvariantCulture),
                    weight.Norm.ToString("0.####", CultureInfo.InvariantCulture),
                    weight.Rounded.ToString("0.000%", CultureInfo.InvariantCulture));
            if (report.Weights.Count > 0)
                AnsiConsole.Write(table);
            Say.Line($"Version {report.Version} with {report.Edits.Count} edit(s) in {report.Files.Count} file(s): {parsed.GetRequiredValue(output).FullName}");
        });
        return command;
    }

    public static Command Import()
    {
        var model = new Option<DirectoryInfo?>("--model")
        {
            Description =
            "Hugging Face directory, or one with config.json, tokenizer and a .ckpt"
        };
        var onnx = new Option<FileInfo?>("--onnx")
        {
            Description =
            "instead: a BERT encoder as an ONNX file with vocab.txt beside it, or a .NET assembly that has both embedded; then train its classifier: mend pretrain --from"
        };
        var stages = new Option<int>("--stages") { Description = "pipeline stages, one file each", DefaultValueFactory = _ => 2 }.Within(1);
        var output = Output();
        var command = new Command("import", "Write a model as safetensors, one file a stage") { model, onnx, stages, output };
        command.SetCancellableAction((parsed, cancellation) =>
        {
            var directory = parsed.GetRequiredValue(output).FullName;
            if (parsed.GetValue(model) is null == parsed.GetValue(onnx) is null)
                throw new MendException(MendError.InvalidOption, "--model and --onnx were given both or not at all.",
                    "Give the one that the model is in.");
            if (parsed.GetValue(onnx) is { } encoder)
            {
                if (parsed.GetResult(stages) is { Implicit: false })
                    throw new MendException(MendError.InvalidOption, "--stages was given with --onnx, whose encoder is written as one file.",
                        "Leave it out, and import the model again when it has a classifier.");
                var weights = 0L;
                NewModel.Make(directory, making => weights = OnnxImport.Run(encoder.FullName, making));
                Say.Line($"An encoder of {weights:N0} weights: {directory}");
                Say.Line($"[grey]Next: mend pretrain --task fc --from {directory} --data FOLDER --out MODEL[/]");
                return Task.CompletedTask;
            }
            using var alone = NewModel.Alone(directory);
            var files = ModelImport.Run(parsed.GetValue(model)!.FullName, parsed.GetValue(stages), directory, cancellation);
            var table = new Table().Border(TableBorder.Simple).AddColumns("file", "layers", "MB");
            foreach (var file in files)
                table.AddRow(Say.Cell(file.File), $"{file.Range.First}-{file.Range.End - 1}",
                    (file.Bytes / 1e6).ToString("0.0", CultureInfo.InvariantCulture));
            AnsiConsole.Write(table);
            return Task.CompletedTask;
        });
        return command;
    }

    private static Option<DirectoryInfo> Output() => new("--out") { Description = "directory to make", Required = true };
}
