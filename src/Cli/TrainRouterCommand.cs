using System.CommandLine;
using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine.Data;
using MendCluster.Engine.Routing;

namespace MendCluster.Cli;

/// <summary><c>mend train-router</c>: makes a model's edits seen by the questions that match them alone.</summary>
internal static class TrainRouterCommand
{
    public static Command Create()
    {
        var defaults = new RouterOptions();
        var model = new Option<DirectoryInfo>("--model") { Description = "Hugging Face directory", Required = true };
        var data = new Option<FileInfo>("--data") { Description = $"facts in several wordings: {DataForms.Edits}", Required = true };
        var output = new Option<FileInfo?>("--out")
        {
            Description =
                $"file to write; without it {EditRouter.FileName} in the model's directory, by which its edits are routed from then on"
        };
        var edits = new Option<int>("--edits")
        {
            Description = "edits in force that the threshold is set for, as far as there are facts",
            DefaultValueFactory = _ => defaults.Edits
        }.Within(1);
        var falseMatches = new Option<double>("--false-matches")
        {
            Description = "fraction of questions about something else that may see one of those edits",
            DefaultValueFactory = _ => defaults.FalseMatches
        }.MoreThan(0, 0.5);
        var seed = new Option<long>("--seed")
        {
            Description = "of the router's numbers and the order of the facts",
            DefaultValueFactory = _ => defaults.Seed
        }.Within(0);
        var device = DeviceOption.One();
        var command = new Command("train-router",
            "Train what tells which questions an edit is for: any number of edits then behave as each does alone")
            { model, data, output, edits, falseMatches, seed, device };
        command.SetCancellableAction(async (parsed, cancellation) =>
        {
            var directory = parsed.GetRequiredValue(model).FullName;
            var target = parsed.GetValue(output)?.FullName ?? Path.Combine(directory, EditRouter.FileName);
            if (File.Exists(target))
                throw new MendException(MendError.OutputTaken, $"{target} is there.",
                    "Nothing was written. Name another file, or move it away: ledgers of edits that it routes are read with it alone.");
            using (File.Open(target, FileMode.CreateNew)) // before the work, what cannot be written is refused
                File.Delete(target);
            var options = new RouterOptions
            {
                Edits = parsed.GetValue(edits),
                FalseMatches = parsed.GetValue(falseMatches),
                Seed = parsed.GetValue(seed),
            };
            var source = parsed.GetRequiredValue(data).FullName;
            var facts = QuestionAnswering.IsReworded(source)
                ? RoutedFacts.OfCorpus(QuestionAnswering.ReadQuestions([source], withRewordings: false, (ulong)options.Seed))
                : RoutedFacts.Of(QuestionAnswering.ReadEdits(source, (ulong)options.Seed));
            EditRouter? trained = null;
            await Bar.ShowAsync("questions", bar =>
            {
                trained = RouterTraining.Run(directory, facts, options, parsed.GetRequiredValue(device),
                    (done, all) => bar(done, all, ""), cancellation);
                return Task.CompletedTask;
            });
            using var router = trained!;
            router.Save(target, ModelFingerprint.Of(directory));
            var figures = router.Figures;
            Say.Line(
                $"The router {target} learned {figures.Facts} facts. On {figures.ValidationFacts} others, with {figures.Edits} edits in force: {figures.Recall:P1} of a fact's other wordings match it by one wording, {figures.FalseMatches:P2} of other questions match an edit.");
        });
        return command;
    }
}
