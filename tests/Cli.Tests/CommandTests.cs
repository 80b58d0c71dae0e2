using MendCluster.Testing;

namespace MendCluster.Cli.Tests;

/// <summary>The real program in a process of its own.</summary>
public sealed class CommandTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void TheDemo_EditsTheFactAndItsParaphrasesAndTakesThemBack()
    {
        var (code, output) = Mend("demo");
        Assert.True(code == 0, output);
        Assert.Contains("success yes", output, StringComparison.Ordinal);
        Assert.Contains("paraphrase", output, StringComparison.Ordinal);
        Assert.DoesNotContain("NOT ALL", output, StringComparison.Ordinal);
    }

    [Fact]
    public void AnEdit_LastsUntilItIsTakenBack()
    {
        var (prompt, target) = ("What club does Lionel Messi play for?", "PSG");
        var before = Mend("ask", prompt).Output.Trim();
        Assert.NotEqual(target, before);
        Assert.Contains("Edit 1: success yes", Mend("edit", prompt, target).Output, StringComparison.Ordinal);
        Assert.Equal(target, Mend("ask", prompt).Output.Trim());
        Assert.Contains(target, Mend("ledger").Output, StringComparison.Ordinal);
        Assert.Contains("taken back", Mend("revert", "1").Output, StringComparison.Ordinal);
        Assert.Equal(before, Mend("ask", prompt).Output.Trim());
    }

    [Fact]
    public void AnExportedModel_HasTheEdit_AndAnImportedOneToo()
    {
        var (prompt, target) = ("What club does Lionel Messi play for?", "PSG");
        Mend("edit", prompt, target);
        var (code, output) = Mend("export", "--out", _folder["edited"]);
        Assert.True(code == 0, output);
        Assert.Contains("1 edit(s)", output, StringComparison.Ordinal);
        Assert.Equal(target, Mend("ask", prompt, "--model", _folder["edited"], "--ledger", _folder["new"]).Output.Trim());
        Assert.Contains("model-00002-of-00002.safetensors", Mend("import", "--model", _folder["edited"], "--out", _folder["staged"]).Output, StringComparison.Ordinal);
        Assert.Equal(target, Mend("ask", prompt, "--model", _folder["staged"], "--ledger", _folder["new"]).Output.Trim()); // the same model: the same ledger fits
        var again = Mend("export", "--out", _folder["edited"]);
        Assert.Equal(1, again.Code);
        Assert.Contains("not empty", again.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void WhatCannotBeDone_IsSaidInALineWithTheErrorsName()
    {
        var (code, output) = Mend("revert", "7");
        Assert.Equal(1, code);
        Assert.Contains("UnknownEdit", output, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", output, StringComparison.Ordinal);
        var missing = Mend("ask", "red", "--model", _folder["nowhere"]);
        Assert.Equal(1, missing.Code);
        Assert.Contains("ModelUnusable", missing.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ALedgerInPostgres_IsMadeByACommand_AndUsedByTheOthers()
    {
        await using var server = await PostgresInstance.StartNewAsync();
        var (prompt, target, ledger) = ("What club does Lionel Messi play for?", "PSG", "postgres:" + server.Connection());
        var (code, output) = Mend("edit", prompt, target, "--ledger", ledger);
        Assert.Equal(1, code);
        Assert.Contains("mend ledger migrate --postgres", string.Join(' ', output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)), StringComparison.Ordinal);
        Assert.Contains("from version 0 to", Mend("ledger", "migrate", "--postgres", server.Connection()).Output, StringComparison.Ordinal);
        Assert.Contains("already", Mend("ledger", "migrate", "--postgres", server.Connection()).Output, StringComparison.Ordinal);
        Assert.Contains("Edit 1: success yes", Mend("edit", prompt, target, "--ledger", ledger).Output, StringComparison.Ordinal);
        Assert.Equal(target, Mend("ask", prompt, "--ledger", ledger).Output.Trim());
        Assert.Contains(target, Mend("ledger", "--ledger", ledger).Output, StringComparison.Ordinal);
    }

    [Fact]
    public void APlan_FailsWhenAStageDoesNotFit()
    {
        var demo = Path.Combine(FixtureFolder.Repository, "src", "Cli", "Demo");
        var (code, output) = Mend("plan", "--model", demo, "--stages", "2", "--gpu-memory", "1GiB");
        Assert.True(code == 0, output);
        Assert.Contains("encoder.embed_tokens", output, StringComparison.Ordinal);
        var tight = Mend("plan", "--model", demo, "--stages", "2", "--gpu-memory", "1MiB");
        Assert.Equal(1, tight.Code);
        Assert.Contains("Stage 1 does not fit", tight.Output, StringComparison.Ordinal);
        Assert.Contains("24GiB", Mend("plan", "--model", demo, "--gpu-memory", "much").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void AMalmenEditor_IsTrainedAndMeasuredBesideTheOthers()
    {
        var demo = Path.Combine(FixtureFolder.Repository, "src", "Cli", "Demo");
        File.WriteAllLines(_folder["data.tsv"], Enumerable.Range(0, 30).Select(i => $"who leads place {i}?\tperson {i}"));
        File.WriteAllText(_folder["settings.json"], """{"algorithm": "malmen", "malmen": {"edit_lr": 1e-3}, "edits": 4, "accumulate_bs": 1, "val_interval": 2, "max_iters": 2}""");
        var (code, output) = Mend("train", "--config", _folder["settings.json"], "--rank", "8", "--model", demo, "--data", _folder["data.tsv"], "--out", _folder["run"]);
        Assert.True(code == 0, output);
        var divided = Mend("train", "--algorithm", "ke", "--replicas", "2", "--model", demo, "--data", _folder["data.tsv"], "--out", _folder["divided"]);
        Assert.Equal(1, divided.Code);
        Assert.Contains("Ke is trained on one machine", divided.Output, StringComparison.Ordinal);
        divided = Mend("train", "--edits", "4", "--replicas", "2", "--model", demo, "--data", _folder["data.tsv"], "--out", _folder["divided"]);
        Assert.Equal(1, divided.Code);
        Assert.Contains("4 edits an iteration are trained on one machine", divided.Output, StringComparison.Ordinal);
        (code, output) = Mend("eval", "--demo", "--limit", "6", "--edits", "1,3", "--editors", "ultraedit,ft-bf", "--out", _folder["results"],
            "--editor", Path.Combine(demo, "editor.safetensors"), _folder["run/editor.safetensors"]);
        Assert.True(code == 0, output);
        var reports = System.Text.Json.JsonDocument.Parse(File.ReadAllText(_folder["results/results.json"])).RootElement.EnumerateArray();
        Assert.Equal(["MEND 1", "MEND 3", "MALMEN 1", "MALMEN 3", "FT, breadth-first 1", "FT, breadth-first 3", "UltraEdit 1", "UltraEdit 3"],
            reports.Select(report => $"{report.GetProperty("editor").GetString()} {report.GetProperty("edits").GetInt32()}"));
        Assert.Contains("no number", Mend("eval", "--demo", "--edits", "some").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void AnEvaluation_GoesOnInItsFolder_WithWhatIsNotMeasuredYet()
    {
        string[] Evaluate(string editors)
        {
            var (code, output) = Mend("eval", "--demo", "--limit", "2", "--editors", editors, "--out", _folder["results"]);
            Assert.True(code == 0, output);
            return [.. Directory.GetFiles(_folder["results/measured"]).Order(StringComparer.Ordinal)];
        }
        var first = Evaluate("ft");
        var kept = first.Select(File.ReadAllText).ToList(); // with the times that the edits took, which no second run repeats
        var second = Evaluate("ft,ultraedit");
        Assert.Equal(["ft-1.json", "mend-1.json", "ultraedit-1.json"], second.Select(Path.GetFileName));
        Assert.Equal(kept, first.Select(File.ReadAllText));
        Assert.Contains("| UltraEdit |", File.ReadAllText(_folder["results/results.md"]), StringComparison.Ordinal);
        var unknown = Mend("eval", "--demo", "--editors", "rome");
        Assert.Equal(1, unknown.Code);
        Assert.Contains("'rome' is not known", unknown.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void ASequenceOfEdits_GoesOnInItsFolder_AndIsTakenBackToTheUneditedModel()
    {
        var (code, output) = Mend("sequence", "--demo", "--edits", "1,2", "--out", "sequence");
        Assert.True(code == 0, output);
        (code, output) = Mend("sequence", "--demo", "--edits", "3", "--revert-all", "--out", "sequence");
        Assert.True(code == 0, output);
        var results = System.Text.Json.JsonDocument.Parse(File.ReadAllText(_folder["sequence/results.json"])).RootElement;
        var points = results.GetProperty("Progress").GetProperty("Points").EnumerateArray().ToList();
        Assert.Equal([1, 2, 3], points.Select(point => point.GetProperty("Edits").GetInt32()));
        Assert.Equal(1, points[0].GetProperty("Prompts").GetProperty("Value").GetDouble());
        Assert.Equal((3, true), (results.GetProperty("Reverted").GetProperty("Edits").GetInt32(), results.GetProperty("Reverted").GetProperty("IsRestored").GetBoolean()));
        Assert.Contains("| 3 | 0 |", File.ReadAllText(_folder["sequence/results.md"]), StringComparison.Ordinal);
        Assert.Contains("</svg>", File.ReadAllText(_folder["sequence/curve.svg"]), StringComparison.Ordinal);
        Assert.Contains("taken back", Mend("sequence", "--demo", "--edits", "4", "--out", "sequence").Output, StringComparison.Ordinal);
        Assert.Contains("use another folder", string.Join(' ', Mend("sequence", "--demo", "--own-step", "--out", "sequence").Output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)), StringComparison.Ordinal);
    }

    [Fact]
    [Trait("Category", "Slow")]
    public void AGeneratedSet_IsReadByTraining_OfEveryAlgorithm_AndByEvaluation()
    {
        var demo = Path.Combine(FixtureFolder.Repository, "src", "Cli", "Demo");
        Assert.Contains("structured_zeroshot-train", Mend("data", "generate", "--task", "qa", "--out", _folder["qa"]).Output, StringComparison.Ordinal);
        foreach (var algorithm in new[] { "mend", "ke", "enn", "malmen" })
        {
            var (code, output) = Mend("train", "--model", demo, "--task", "qa", "--data", _folder["qa"], "--algorithm", algorithm, "--rank", "8", "--max-iters", "5", "--out", _folder[algorithm]);
            Assert.True(code == 0, output);
            Assert.Contains("max_iters after 5 iterations", output, StringComparison.Ordinal);
        }
        var (measured, table) = Mend("eval", "--model", demo, "--task", "qa", "--data", _folder["qa"], "--editor", _folder["ke/editor.safetensors"], "--limit", "2");
        Assert.True(measured == 0, table);
        Assert.Contains("KE", table, StringComparison.Ordinal);
        Assert.Matches(@"time and memory[\s\S]*KE +1 +5 +0\.\d", table); // one edit an iteration, 5 iterations, less than a minute
        var missing = Mend("train", "--model", demo, "--task", "fc", "--data", _folder["qa"], "--out", _folder["none"]);
        Assert.Equal(1, missing.Code);
        Assert.Contains("fever-train-kilt.jsonl", missing.Output, StringComparison.Ordinal);
    }

    [Fact]
    [Trait("Category", "Slow")]
    public void OnHeldOutFacts_EditsSucceedAndUnrelatedAnswersStay()
    {
        var (code, output) = Mend("eval", "--demo", "--editors", "searched", "--out", _folder["results"]);
        Assert.True(code == 0, output);
        var mend = System.Text.Json.JsonDocument.Parse(File.ReadAllText(_folder["results/results.json"])).RootElement[0].GetProperty("summary");
        Assert.Equal(300, mend.GetProperty("edit_success").GetProperty("cases").GetInt32());
        Assert.True(mend.GetProperty("rephrase_success").GetProperty("value").GetDouble() >= 0.95, output);
        Assert.True(mend.GetProperty("drawdown").GetProperty("value").GetDouble() <= 0.01, output);
    }

    /// <summary>The ledger lies in the current folder.</summary>
    private (int Code, string Output) Mend(params string[] arguments) => MendProgram.RunAsync(_folder.Path, arguments).GetAwaiter().GetResult();
}
