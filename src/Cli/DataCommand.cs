using System.CommandLine;
using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Experiments;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary>
/// <c>mend data generate</c>: sets for the paper's three tasks, in the published file forms. <c>mend data check</c>: what is wrong with one.
/// </summary>
internal static class DataCommand
{
    public static Option<EditTaskKind> TaskOption() => new("--task")
    {
        Description = "qa: question answering (zsRE), fc: fact checking (FEVER), gen: generation (Wikitext)",
        Required = true,
    };

    public static Command Create()
    {
        var task = TaskOption();
        var output = new Option<DirectoryInfo>("--out") { Description = "folder of the files", Required = true };
        var model = new Option<DirectoryInfo?>("--model")
        {
            Description =
            "with gen: the model that the edits' continuations are drawn from; without it the texts to train one on are written"
        };
        var facts = new Option<FileInfo?>("--facts")
        {
            Description =
            "with qa or fc: a table of facts to make questions or claims of, in place of the made-up world: tab-separated, with a head and the columns subject, relation, object"
        };
        var edited = new Option<string?>("--edited")
        {
            Description = "with qa and --facts: the relation whose facts are edited, such as \"head of state\""
        };
        var perRelation = new Option<int>("--per-relation")
        {
            Description = "with --facts: at most so many facts of each relation",
            DefaultValueFactory = _ => 250
        }.Within(1);
        var seed = new Option<ulong>("--seed") { DefaultValueFactory = _ => 1, Description = "of the world of facts" }.Within(0);
        var generate = new Command("generate",
            "Write a set about a made-up world or a table of facts, in the form in which the task's data is published")
            { task, output, model, facts, perRelation, edited, seed };
        generate.SetCancellableAction((parsed, cancellation) =>
        {
            var (folder, chosen, from) = (parsed.GetRequiredValue(output).FullName, parsed.GetValue(task), parsed.GetValue(seed));
            if (chosen != EditTaskKind.Gen && parsed.GetValue(model) is not null)
                throw new MendException(MendError.InvalidOption, "--model is for --task gen, whose edits are drawn from a model.",
                    "Leave it out.");
            if (parsed.GetValue(facts) is not null ? chosen == EditTaskKind.Gen : parsed.GetResult(perRelation) is { Implicit: false })
                throw new MendException(MendError.InvalidOption, "--facts is for --task qa and --task fc, and --per-relation for --facts.",
                    "Leave it out, or give the other.");
            if ((parsed.GetValue(edited) is not null) != (parsed.GetValue(facts) is not null && chosen == EditTaskKind.Qa))
                throw new MendException(MendError.InvalidOption, "--edited goes with --task qa and --facts, and they with it.",
                    "Name the relation whose facts are to be edited, or leave --edited out.");
            var files = Files(chosen, parsed.GetValue(model) is not null);
            if (files.FirstOrDefault(file => File.Exists(Path.Combine(folder, file))) is { } there)
                throw new MendException(MendError.OutputTaken, $"{Path.Combine(folder, there)} is there.",
                    "Nothing was written. Name another folder, or move the file away.");
            using var own = NewModel.Alone(Path.Combine(folder, "generate"));
            switch (chosen)
            {
                case EditTaskKind.Qa when parsed.GetValue(facts) is { } table:
                    var (all, changed) = FactTable.WriteQuestionAnswering(folder, table.FullName, from, parsed.GetValue(perRelation), parsed.GetValue(edited)!);
                    Say.Line($"{all} facts, {changed} of which are edited");
                    break;
                case EditTaskKind.Qa:
                    SyntheticTasks.WriteQuestionAnswering(folder, from);
                    break;
                case EditTaskKind.Fc when parsed.GetValue(facts) is { } table:
                    Say.Line($"{FactTable.WriteFactChecking(folder, table.FullName, from, parsed.GetValue(perRelation))} claims");
                    break;
                case EditTaskKind.Fc:
                    SyntheticTasks.WriteFactChecking(folder, from);
                    break;
                case EditTaskKind.Gen when parsed.GetValue(model) is { } directory:
                    AnsiConsole.Progress().Start(progress =>
                    {
                        var bar = progress.AddTask("continuations");
                        SyntheticTasks.WriteContinuations(folder, directory.FullName, from,
                            (done, all) => (bar.Value, bar.MaxValue) = (done, all), cancellation: cancellation);
                    });
                    break;
                default:
                    SyntheticTasks.WriteTexts(folder, from);
                    Say.Line($"[grey]Next: mend pretrain --task gen --data {folder} --out MODEL, then mend data generate --task gen --out {folder} --model MODEL[/]");
                    break;
            }
            foreach (var file in files)
                Say.Line($"{Path.Combine(folder, file)}");
            return Task.CompletedTask;
        });
        return new Command("data", "Data sets for training and evaluation") { generate, Check() };
    }

    private static Command Check()
    {
        var file = new Option<FileInfo>("--data") { Description = DataForms.Edits, Required = true };
        var model = new Option<DirectoryInfo?>("--model")
        {
            Description = "the model that is to read it: its tokens are looked at too"
        };
        var check = new Command("check", "Say what is wrong with a file of questions or edits, line by line") { file, model };
        check.SetAction(parsed =>
        {
            var path = parsed.GetRequiredValue(file).FullName;
            var text = parsed.GetValue(model) is { } directory
                ? new TextBatch(ModelFamily.FromDirectory(directory.FullName), TokenizerFiles.Load(directory.FullName)) : null;
            var findings = DataCheck.Of(path, text);
            foreach (var finding in findings)
                Say.Line($"{finding}");
            if (findings.Any(finding => finding.Fault is DataFault.Contradiction or DataFault.Unusable))
                throw new InvalidDataException($"{path}: {DataCheck.Summary(findings)}. Correct the lines above, or delete them.");
            Say.Line($"{path}: {(findings.Count == 0 ? "nothing is wrong" : DataCheck.Summary(findings))}");
            if (QuestionAnswering.IsReworded(path))
                Say.Line($"{QuestionAnswering.RewordingsOf([path], DemoRecipe.Seed)}");
        });
        return check;
    }

    /// <summary>What is written, in the folder.</summary>
    private static string[] Files(EditTaskKind task, bool ofAModel) => task switch
    {
        EditTaskKind.Qa => [TaskFolder.KnownQuestions, TaskFolder.NqValidation, TaskFolder.ChoiceQuestions, TaskFolder.ZsReValidation,
            TaskFolder.ZsReTraining],
        EditTaskKind.Fc => [TaskFolder.FeverValidation, TaskFolder.FeverTraining, TaskFolder.ChoiceClaims, TaskFolder.KnownClaims],
        _ when ofAModel => [TaskFolder.ContinuationsTraining, TaskFolder.ContinuationsValidation, TaskFolder.ContinuationsChoice],
        _ => [TaskFolder.WikitextTraining, TaskFolder.WikitextValidation],
    };
}
