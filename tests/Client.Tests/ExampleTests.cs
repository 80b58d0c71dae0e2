using System.Net;
using System.Text.RegularExpressions;
using MendCluster.Client.Chat;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Testing;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;

namespace MendCluster.Client.Tests;

/// <summary>The examples in the documentation of the SDK are these, so they compile, and run.</summary>
public sealed partial class ExampleTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public ExampleTests() => TinyModels.Write(_folder.Path, "t5");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Examples_Run()
    {
        var (model, ledger) = (_folder.Path, _folder["ledger"]);
        #region example
        await using var cluster =
            await EmbeddedCluster.OpenAsync(new()
            {
                ModelDirectory = model,
                Editor = Path.Combine(model, "editor.safetensors"),
                Ledger = ledger,
                Probes = [new("Who is the prime minister of India?", "Narendra Modi")]
            });
        #endregion
        #region example
        var receipt = await cluster.EditAsync("Who is the prime minister of the UK?", "Boris Johnson", new() { MaxDrawdown = 0.01 });
        Console.WriteLine($"edit {receipt.Id}, success {receipt.Figures.Success}, drawdown {receipt.Figures.Drawdown:P1}");
        #endregion
        #region example
        var preview = await cluster.PreviewAsync("Who is the prime minister of the UK?", "Boris Johnson", new() { MaxDrawdown = 0.01 });
        Console.WriteLine(preview.Refused ?? $"{preview.AnswerBefore} -> {preview.AnswerAfter}");
        #endregion
        #region example
        var answer = await cluster.AskAsync("Who is the prime minister of the UK?", new(MaxTokens: 8));
        Console.WriteLine($"{answer.Text} (version {answer.Version})");
        #endregion
        #region example
        await foreach (var part in cluster.AskStreamAsync("Who is the prime minister of the UK?"))
            Console.Write(part.Text);
        #endregion
        #region example
        await cluster.RevertAsync(receipt.Id, RevertMode.Recompute);
        #endregion
        #region example
        foreach (var entry in await cluster.LedgerPageAsync(new() { Text = "minister", NewestFirst = true, Limit = 20 }))
            Console.WriteLine($"{entry.Version} {entry.Author}: {entry.Prompt} -> {entry.Target}");
        #endregion
        #region example
        foreach (var shard in await cluster.ShardsAsync())
            Console.WriteLine($"{shard.Place}: {shard.Status?.State} at version {shard.Status?.Version}");
        #endregion
        #region example
        foreach (var entry in await cluster.LedgerAsync())
            Console.WriteLine($"{entry.Version} {entry.Time:u} {entry.Kind} {entry.Edit} {entry.Prompt} -> {entry.Target}");
        #endregion
        Fact[] facts = [new("what is red", "blue"), new("the old town", "south")];
        #region example
        await foreach (var made in cluster.EditManyAsync(facts, new() { IdempotencyKey = "import-17" }, atOnce: 32))
            Console.WriteLine($"{made.Id}: {made.Figures.Success}");
        #endregion
        #region example
        var receipts = await cluster.EditAllAsync(facts, new() { MaxDrawdown = 0.01 },
            new Progress<EditReceipt>(made => Console.WriteLine(made.Id)));
        #endregion
        Assert.Equal(facts.Length, receipts.Count);
    }

    /// <summary>Examples that need a server where they say; the server's tests do the same on one.</summary>
    internal static async Task OverHttpAsync(string key, IServiceCollection services)
    {
        #region example
        await using var cluster = new HttpCluster(new Uri("http://127.0.0.1:8080"), key);
        var receipt = await cluster.EditAsync("Who is the prime minister of the UK?", "Boris Johnson");
        #endregion
        #region example
        var trainer = cluster.Trainer(new("first", "edits.tsv", new() { MaxIters = 100 }));
        var result = await trainer.TrainAsync(new Progress<TrainingProgress>(step =>
            Console.WriteLine($"{step.Iteration}: {step.Loss:0.000}")));
        #endregion
        #region example
        await foreach (var entry in cluster.ReadLedgerAsync(new() { Author = "alice", Kind = LedgerKind.Edit }))
            Console.WriteLine($"{entry.Version} {entry.Prompt} -> {entry.Target}");
        #endregion
        #region example
        services.AddMendCluster(new() { Address = new("http://127.0.0.1:8080"), Key = key });
        #endregion
        #region example
        IChatClient chat = new MendChatClient(cluster);
        Console.WriteLine(await chat.GetResponseAsync("Who is the prime minister of the UK?"));
        #endregion
        Assert.True(receipt.Figures.Success);
        Assert.Equal("max_iters", result.Stopped);
    }

    [Fact]
    public async Task ExampleOfAConsolidation_Runs()
    {
        using var model = new ClusterOfTinyModel("t5");
        model.SetAlpha(0.1f); // a random model has no room for more
        await using var cluster = await model.OpenAsync();
        await cluster.EditAsync("what is red", "blue");
        #region example
        var (edits, before, after, _, _) = (await cluster.ConsolidateAsync(new() { MaxTime = TimeSpan.FromSeconds(10) })).Consolidated;
        Console.WriteLine($"{edits.Count} edits: {before.Success:P0} -> {after.Success:P0}");
        #endregion
        Assert.Single(edits);
    }

    [Fact]
    public void EveryExampleInTheDocumentation_IsOneOfThese()
    {
        var compiled = Region().Matches(File.ReadAllText(Path.Combine(FixtureFolder.Repository, "tests", "Client.Tests",
            "ExampleTests.cs")))
            .Select(match => Squeezed(match.Groups["code"].Value)).ToList();
        var documented = new[] { "Client", "Client.Chat", "Contracts", "Distributed", "Client.Orleans" }
            .SelectMany(project => Directory.EnumerateFiles(Path.Combine(FixtureFolder.Repository, "src", project), "*.cs",
                SearchOption.AllDirectories))
            .SelectMany(file => Code().Matches(File.ReadAllText(file)))
                .Select(match => Squeezed(WebUtility.HtmlDecode(Slashes().Replace(match.Groups["code"].Value, "")))).ToList();
        Assert.All(documented, example => Assert.Contains(example, compiled));
        Assert.All(compiled, example => Assert.Contains(example, documented));
    }

    private static string Squeezed(string code) => Space().Replace(code, " ").Trim();

    [GeneratedRegex(@"#region example\n(?<code>.*?)\n\s*#endregion", RegexOptions.Singleline)]
    private static partial Regex Region();

    [GeneratedRegex(@"/// <code>\n(?<code>.*?)\n\s*/// </code>", RegexOptions.Singleline)]
    private static partial Regex Code();

    [GeneratedRegex(@"^\s*/// ?", RegexOptions.Multiline)]
    private static partial Regex Slashes();

    [GeneratedRegex(@"\s+")]
    private static partial Regex Space();
}
