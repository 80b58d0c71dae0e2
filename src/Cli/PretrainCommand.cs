using System.CommandLine;
using System.Globalization;
using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Experiments;

namespace MendCluster.Cli;

/// <summary><c>mend pretrain</c>: a small model that knows what some files say.</summary>
internal static class PretrainCommand
{
    private const int HeadSize = 32;

    /// <summary>Peak: a model that has learned something already forgets it at the rates of a new one.</summary>
    private const double LrOfABegunModel = 2e-4;

    /// <summary>An encoder tells texts apart before it is taught to.</summary>
    private const int RecognitionStepsOfABegunModel = 500;

    public static Command Create()
    {
        var data = new Option<FileSystemInfo[]>("--data")
        {
            Description =
            $"what it is to know: {DataForms.Edits}; of the last two the locality questions and true answers. Or, with --task, a folder of the task's files",
            Required = true,
            AllowMultipleArgumentsPerToken = true
        };
        var task = new Option<EditTaskKind?>("--task")
        {
            Description =
            "what --data's folder is for: qa makes a T5 (or see --family), fc a BERT, gen a GPT-2"
        };
        var family = new Option<AnsweringFamily?>("--family")
        {
            Description = "of a model that answers questions: t5 (unless it is given) or gpt2, which writes the answer after the question"
        };
        var tokenizer = new Option<DirectoryInfo?>("--tokenizer")
        {
            Description = "of a GPT-2: a Hugging Face directory whose tokenizer it gets, such as GPT-2's own, in place of one that is learned from the data"
        };
        var from = new Option<DirectoryInfo?>("--from")
        {
            Description =
            "a model to begin with, in place of a new one: its configuration, tokenizer and weights; an encoder gets a classifier with --task fc"
        };
        var output = new Option<DirectoryInfo>("--out") { Description = "directory of the model", Required = true };
        var steps = new Option<long?>("--steps") { Description = "most training steps" }.Within(1);
        var lr = new Option<double?>("--lr") { Description = "peak learning rate" }.MoreThan(0);
        var width = new Option<int?>("--d-model") { Description = "hidden size, a multiple of 32" }.Within(HeadSize, 8192);
        var inner = new Option<int?>("--d-ff")
        {
            Description =
            "inner size of the feed-forward parts (not of a GPT-2, where it is four times the hidden size)"
        }.Within(1, 65536);
        var vocabulary = new Option<int?>("--vocab") { Description = "tokens" }.Within(1, 1_000_000);
        var goal = new Option<double?>("--goal")
        {
            Description =
            "stop when this fraction is answered exactly; without it at 0.99, with fc not before the last step"
        }.Within(0, 1);
        var rewordings = new Option<bool>("--rewordings")
        {
            Description =
            "without --task: teach every question in a second wording too, by templates that the questions teach and by rules"
        };
        var seed = new Option<ulong>("--seed") { DefaultValueFactory = _ => 1, Description = "of weights and order" }.Within(0);
        var command = new Command("pretrain", "Train a small model until it knows what some files say")
            { data, task, family, tokenizer, from, output, steps, lr, width, inner, vocabulary, goal, rewordings, seed };
        command.SetCancellableAction(async (parsed, cancellation) =>
        {
            string[] sources = [.. parsed.GetRequiredValue(data).Select(file => file.FullName)];
            var (kind, directory) = (parsed.GetValue(task), parsed.GetRequiredValue(output).FullName);
            if (kind is not null && sources.Length != 1)
                throw new MendException(MendError.InvalidOption, $"--task reads one folder, and --data names {sources.Length} files.",
                    "Name the folder of the task's files.");
            if (parsed.GetValue(family) is not null && kind is EditTaskKind.Fc or EditTaskKind.Gen)
                throw new MendException(MendError.InvalidOption, $"--family is for models that answer questions, and --task {kind.ToString()!.ToLowerInvariant()} "
                    + "has one of its own.", "Leave it out.");
            var writes = kind == EditTaskKind.Gen || parsed.GetValue(family) == AnsweringFamily.Gpt2;
            if (parsed.GetValue(tokenizer) is not null && (!writes || parsed.GetResult(vocabulary) is { Implicit: false }))
                throw new MendException(MendError.InvalidOption, "--tokenizer is for a GPT-2, and its vocabulary is as large as it is.",
                    "Leave it out, or give --family gpt2 and no --vocab.");
            if (parsed.GetValue(inner) is not null && writes)
                throw new MendException(MendError.InvalidOption, "--d-ff was given, and in a GPT-2 it is four times the hidden size.", "Leave it out.");
            if (parsed.GetValue(from) is { } begun && new Option[] { width, inner,
                vocabulary, tokenizer }.FirstOrDefault(option => parsed.GetResult(option) is { Implicit: false }) is { } shape)
                throw new MendException(MendError.InvalidOption, $"{shape.Name} was given, and {begun} has its shape.", "Leave it out.");
            if (parsed.GetValue(width) is { } asked && asked % HeadSize != 0)
                throw new MendException(MendError.InvalidOption, $"--d-model is {asked}.",
                    $"It is a multiple of {HeadSize}, the size of an attention head.");
            T Given<T>(T options) where T : SmallModelOptions => options with
            {
                From = parsed.GetValue(from)?.FullName,
                Vocabulary = parsed.GetValue(vocabulary) ?? options.Vocabulary,
                Goal = parsed.GetValue(goal) ?? options.Goal,
                Seed = parsed.GetValue(seed),
                Training = options.Training with
                {
                    Steps = parsed.GetValue(steps) ?? options.Training.Steps,
                    Lr = parsed.GetValue(lr) ?? (parsed.GetValue(from) is null ? options.Training.Lr : LrOfABegunModel)
                },
            };
            int Heads(int size) => size / HeadSize;
            var (size, widest) = (parsed.GetValue(width), parsed.GetValue(inner));
            switch (kind)
            {
                case EditTaskKind.Gen:
                    var (texts, heldOut) = (TaskFolder.Texts(sources[0], training: true), TaskFolder.Texts(sources[0], training: false));
                    var gpt = Decoder(TaskTraining.GenModel);
                    var perplexity = await RunAsync($"{texts.Count} texts", directory,
                        (making, report) => SmallGpt.Train(making, texts, heldOut, gpt, report, cancellation));
                    Say.Line($"The model's perplexity on {heldOut.Count} other texts is {perplexity:0.00}: {directory}");
                    break;
                case EditTaskKind.Fc:
                    var claims = TaskTraining.ReadClaims(sources[0]);
                    var bert = Given(TaskTraining.FcModel);
                    bert = bert with
                    {
                        RecognitionSteps = parsed.GetValue(from) is null ? bert.RecognitionSteps : RecognitionStepsOfABegunModel,
                        HiddenSize = size ?? bert.HiddenSize,
                        NumAttentionHeads = Heads(size ?? bert.HiddenSize),
                        IntermediateSize = widest ?? bert.IntermediateSize
                    };
                    var right = await RunAsync($"{claims.Count} claims", directory,
                        (making, report) => SmallBert.Train(making, claims, bert, report, cancellation));
                    Say.Line($"The model labels {right:P1} of {claims.Count} claims rightly: {directory}");
                    break;
                default:
                    var pairs = kind is null ? QuestionAnswering.ReadQuestions(sources, parsed.GetValue(rewordings), parsed.GetValue(seed))
                        : TaskTraining.ReadQuestions(sources[0]);
                    if (kind is null && parsed.GetValue(rewordings))
                        Say.Line($"{QuestionAnswering.RewordingsOf(sources, parsed.GetValue(seed))}");
                    if (writes)
                    {
                        var decoder = Decoder(TaskTraining.QaDecoder);
                        Known(pairs.Count, await RunAsync($"{pairs.Count} questions", directory,
                            (making, report) => SmallGpt.Train(making, pairs, decoder, report, cancellation)));
                        break;
                    }
                    var t5 = Given(kind is null ? RealQuestions : TaskTraining.QaModel);
                    t5 = t5 with { DModel = size ?? t5.DModel, NumHeads = Heads(size ?? t5.DModel), DFf = widest ?? t5.DFf };
                    Known(pairs.Count, await RunAsync($"{pairs.Count} questions", directory,
                        (making, report) => SmallT5.Train(making, pairs, t5, report, cancellation: cancellation)));
                    break;
            }

            SmallGptOptions Decoder(SmallGptOptions options) => Given(options) with
            {
                NEmbd = size ?? options.NEmbd,
                NHead = Heads(size ?? options.NEmbd),
                Tokenizer = parsed.GetValue(tokenizer)?.FullName,
            };

            void Known(int questions, double share) => Say.Line($"The model answers {share:P1} of {questions} questions exactly: {directory}");
        });
        return command;
    }

    private enum AnsweringFamily
    {
        T5,
        Gpt2,
    }

    private static SmallT5Options RealQuestions { get; } =
        new() { Vocabulary = 4096, DModel = 160, DFf = 640, Training = new() { Steps = 5000, Lr = 2e-3 }, Goal = 0.99 };

    /// <param name="train">Makes the model in a directory and tells how good it is.</param>
    private static async Task<double> RunAsync(string what, string directory, Func<string, Action<PretrainingProgress>, double> train)
    {
        var score = 0.0;
        await Bar.ShowAsync(what, report =>
        {
            NewModel.Make(directory, making => score = train(making, at => report(at.Step, at.Steps,
                string.Create(CultureInfo.InvariantCulture, $"loss {at.Loss:0.000}")
                + (at.ExactMatch > 0 ? string.Create(CultureInfo.InvariantCulture, $", knows {at.ExactMatch:P1}") : ""))));
            return Task.CompletedTask;
        });
        return score;
    }
}
