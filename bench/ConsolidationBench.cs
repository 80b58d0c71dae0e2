using System.Diagnostics;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Routing;
using MendCluster.Experiments;

namespace MendCluster.Bench;

/// <summary>
/// What a consolidation does: held-out facts of the demo, edited one after another and consolidated. Free-running answers to the
/// prompts, to wordings that the search does not see, and to unrelated questions beside those of the base model; and what an answer takes.
/// Without replay, then with what the model's directory has for it; then the same edits routed, by a router that is trained here.
/// </summary>
internal static class ConsolidationBench
{
    private const int MaxTokens = 12;

    /// <param name="every">Edits after which they are consolidated, and at the end.</param>
    public static async Task RunAsync(string model, int edits, int every, TimeSpan maxTime)
    {
        var replay = ReplaySet.Beside(model);
        await RunAsync(model, edits, every, maxTime, []);
        if (replay.Count > 0)
            await RunAsync(model, edits, every, maxTime, replay);
        await RunAsync(model, edits, every, maxTime, replay, isRouted: true);
    }

    private static async Task RunAsync(string model, int edits, int every, TimeSpan maxTime, IReadOnlyList<Probe> replay, bool isRouted = false)
    {
        var folder = Directory.CreateTempSubdirectory("mend-bench-").FullName;
        try
        {
            var router = isRouted ? TrainRouter(model, Path.Combine(folder, EditRouter.FileName)) : null;
            Console.WriteLine(isRouted ? "routed:" : $"{replay.Count} questions replayed:");
            await using var cluster = await EmbeddedCluster.OpenAsync(new()
            {
                ModelDirectory = model,
                Editor = Path.Combine(model, "editor.safetensors"),
                Ledger = Path.Combine(folder, "ledger"),
                Probes = ProbeSet.Beside(model),
                Replay = replay,
                Router = router,
            });
            List<EditExample> facts = [.. DemoRecipe.HeldOutEdits().DistinctBy(fact => fact.Prompt).Take(edits)];
            List<string> unrelated = [.. facts.SelectMany(fact => fact.Locality).Select(row => row.Question).Distinct()
                .Except(facts.SelectMany(fact => fact.Rephrases.Prepend(fact.Prompt)))];
            var unedited = await AnswersAsync(cluster, unrelated);
            foreach (var (i, fact) in facts.Index())
            {
                await cluster.EditAsync(fact.Prompt, fact.Target);
                if (!isRouted && (i + 1) % every == 0 && i + 1 < facts.Count)
                    await ConsolidateAsync($"after {i + 1}");
            }
            await ReportAsync($"{facts.Count} edits");
            if (isRouted)
                return;
            await ConsolidateAsync("then");
            await ReportAsync("consolidated");

            async Task ConsolidateAsync(string when)
            {
                ConsolidationReceipt receipt;
                try
                {
                    receipt = await cluster.ConsolidateAsync(new() { MaxTime = maxTime, Share = 1 });
                }
                catch (MendException e) when (e.Error == MendError.ConsolidationRefused)
                {
                    Console.WriteLine($"  {when}: {e.What}");
                    return;
                }
                var (_, before, after, rank, bytes) = receipt.Consolidated;
                Console.WriteLine(FormattableString.Invariant(
                    $"  {when}: {receipt.Steps} steps in {receipt.Time.TotalSeconds:0.0} s; rank {rank}, {bytes / 1e6:0.00} MB; by its own measure prompts {before.Success:P1} -> {after.Success:P1}, rewordings {before.Rewordings:P1} -> {after.Rewordings:P1}, total drawdown {before.TotalDrawdown:P1} -> {after.TotalDrawdown:P1}, KL {before.TotalKl:0.0000} -> {after.TotalKl:0.0000}"));
            }
            async Task ReportAsync(string what)
            {
                var prompts = await AnswersAsync(cluster, [.. facts.Select(fact => fact.Prompt)]);
                var rephrases = await AnswersAsync(cluster, [.. facts.Select(fact => fact.Rephrases[0])]);
                var start = Stopwatch.GetTimestamp();
                var others = await AnswersAsync(cluster, unrelated);
                var took = Stopwatch.GetElapsedTime(start).TotalMilliseconds / unrelated.Count;
                Console.WriteLine(FormattableString.Invariant(
                    $"{what}: prompts {Right(prompts):P1}, unseen rephrases {Right(rephrases):P1}, {unrelated.Count} unrelated answers as before the edits {others.Zip(unedited).Count(pair => pair.First == pair.Second) / (double)unrelated.Count:P1}; {took:0.0} ms an answer"));
            }
            double Right(IReadOnlyList<string> answers) => answers.Zip(facts).Count(pair => pair.First == pair.Second.Target) / (double)facts.Count;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string TrainRouter(string model, string file)
    {
        var (start, world) = (Stopwatch.GetTimestamp(), World.Generate(DemoRecipe.Seed));
        using var router = RouterTraining.Run(model,
            RoutedFacts.Of(world.EditExamples(world.Split.Training, Prng.At(DemoRecipe.Seed, 500))), new());
        router.Save(file, CheckpointFingerprint.Of(model));
        var (edits, falseMatches, recall, facts, _) = router.Figures;
        Console.WriteLine(FormattableString.Invariant(
            $"router: {facts} facts in {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s; threshold {router.Threshold:0.000} for {edits} edits, false matches {falseMatches:P1}, recall {recall:P1} by one key"));
        return file;
    }

    private static async Task<IReadOnlyList<string>> AnswersAsync(IMendCluster cluster, IReadOnlyList<string> questions) =>
        [.. (await Task.WhenAll(questions.Select(question => cluster.AskAsync(question, new(MaxTokens: MaxTokens))))).Select(answer => answer.Text)];
}
