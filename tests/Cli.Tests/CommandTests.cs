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
    public void EditsAreConsolidated_AndThatIsTakenBack()
    {
        var (prompt, target) = ("What club does Lionel Messi play for?", "PSG");
        Assert.Contains("NothingToConsolidate", Mend("consolidate").Output, StringComparison.Ordinal);
        Mend("edit", prompt, target);
        Mend("edit", "What club does Hanna Quinlund play for?", "Navedo Rovers");
        var (code, output) = Mend("consolidate", "--share", "1");
        Assert.True(code == 0, output);
        Assert.Contains("Consolidation 3 stands in the place of 2 edit(s)", output, StringComparison.Ordinal);
        Assert.Equal(target, Mend("ask", prompt).Output.Trim());
        Assert.Contains("consolidation of 2 edits", Mend("ledger").Output, StringComparison.Ordinal);
        Assert.Equal(0, Mend("revert", "3").Code);
        Assert.Equal(target, Mend("ask", prompt).Output.Trim());
        (code, output) = Mend("consolidate", "--share", "1", "--without", "2");
        Assert.True(code == 0, output);
        Assert.Contains("in the place of 1 edit(s)", output, StringComparison.Ordinal);
        Assert.Equal(target, Mend("ask", prompt).Output.Trim());
        Assert.NotEqual("Navedo Rovers", Mend("ask", "What club does Hanna Quinlund play for?").Output.Trim());
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
        Assert.Contains("model-00002-of-00002.safetensors", Mend("import", "--model", _folder["edited"], "--out", _folder["staged"]).Output,
            StringComparison.Ordinal);
        // the same model: the same ledger fits
        Assert.Equal(target, Mend("ask", prompt, "--model", _folder["staged"], "--ledger", _folder["new"]).Output.Trim());
        var again = Mend("export", "--out", _folder["edited"]);
        Assert.Equal(1, again.Code);
        Assert.Contains("not empty", again.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void WhatIsWrongWithData_IsSaidLineByLine()
    {
        var path = _folder["questions.tsv"];
        File.WriteAllText(path, "What is A?\tB\nWhat is A?\tB\nWhat is C?\tD\n");
        var (code, output) = Mend("data", "check", "--data", path);
        Assert.True(code == 0, output);
        Assert.Contains($"{path}, line 2: is the same as {path}, line 1.", output, StringComparison.Ordinal);
        Assert.Contains("1 duplicate", output, StringComparison.Ordinal);
        Assert.Contains("rewordings of 2 questions: no template could be learned from them; 6 by rules", output, StringComparison.Ordinal);
        File.AppendAllText(path, "What is C?\tE\n");
        (code, output) = Mend("data", "check", "--data", path);
        Assert.Equal(1, code);
        Assert.Contains("line 4: \"What is C?\" has two answers", output, StringComparison.Ordinal);
        Assert.Contains("1 contradiction, 1 duplicate", output, StringComparison.Ordinal);
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
        Assert.Contains("mend ledger migrate --postgres",
            string.Join(' ', output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)), StringComparison.Ordinal);
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
        File.WriteAllText(_folder["settings.json"],
            """{"algorithm": "malmen", "malmen": {"edit_lr": 1e-3}, "edits": 4, "accumulate_bs": 1, "val_interval": 2, "max_iters": 2}""");
        var (code, output) = Mend("train", "--config", _folder["settings.json"], "--rank", "8", "--model", demo, "--data",
            _folder["data.tsv"], "--out", _folder["run"]);
        Assert.True(code == 0, output);
        var divided = Mend("train", "--algorithm", "ke", "--replicas", "2", "--model", demo, "--data", _folder["data.tsv"], "--out",
            _folder["divided"]);
        Assert.Equal(1, divided.Code);
        Assert.Contains("Ke is trained on one machine", divided.Output, StringComparison.Ordinal);
        divided = Mend("train", "--edits", "4", "--replicas", "2", "--model", demo, "--data", _folder["data.tsv"], "--out",
            _folder["divided"]);
        Assert.Equal(1, divided.Code);
        Assert.Contains("4 edits an iteration are trained on one machine", divided.Output, StringComparison.Ordinal);
        (code, output) = Mend("eval", "--demo", "--limit", "6", "--edits", "1,3", "--editors", "ultraedit,ft-bf", "--out",
            _folder["results"],
            "--editor", Path.Combine(demo, "editor.safetensors"), _folder["run/editor.safetensors"]);
        Assert.True(code == 0, output);
        var reports = System.Text.Json.JsonDocument.Parse(File.ReadAllText(_folder["results/results.json"])).RootElement.EnumerateArray();
        Assert.Equal(["MEND 1", "MEND 3", "MALMEN 1", "MALMEN 3", "FT, breadth-first 1", "FT, breadth-first 3", "UltraEdit 1",
            "UltraEdit 3"],
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
        Assert.Equal((3, true), (results.GetProperty("Reverted").GetProperty("Edits").GetInt32(),
            results.GetProperty("Reverted").GetProperty("IsRestored").GetBoolean()));
        Assert.Contains("| 3 | 0 |", File.ReadAllText(_folder["sequence/results.md"]), StringComparison.Ordinal);
        Assert.Contains("</svg>", File.ReadAllText(_folder["sequence/curve.svg"]), StringComparison.Ordinal);
        Assert.Contains("taken back", Mend("sequence", "--demo", "--edits", "4", "--out", "sequence").Output, StringComparison.Ordinal);
        Assert.Contains("use another folder",
            string.Join(' ', Mend("sequence", "--demo", "--own-step", "--out", "sequence").Output.Split((char[]?)null,
            StringSplitOptions.RemoveEmptyEntries)), StringComparison.Ordinal);
        File.Delete(_folder["sequence/sequence.ledger"]); // it has the edits that the results tell of
        Assert.Matches("(?s)RunDiffers: .* is missing", Mend("sequence", "--demo", "--edits", "4", "--out", "sequence").Output);
    }

    [Fact]
    [Trait("Category", "Slow")]
    public void AGeneratedSet_IsReadByTraining_OfEveryAlgorithm_AndByEvaluation()
    {
        var demo = Path.Combine(FixtureFolder.Repository, "src", "Cli", "Demo");
        Assert.Contains("structured_zeroshot-train", Mend("data", "generate", "--task", "qa", "--out", _folder["qa"]).Output,
            StringComparison.Ordinal);
        foreach (var algorithm in new[] { "mend", "ke", "enn", "malmen" })
        {
            var (code, output) = Mend("train", "--model", demo, "--task", "qa", "--data", _folder["qa"], "--algorithm", algorithm, "--rank",
                "8", "--max-iters", "5", "--out", _folder[algorithm]);
            Assert.True(code == 0, output);
            Assert.Contains("max_iters after 5 iterations", output, StringComparison.Ordinal);
        }
        var (measured, table) = Mend("eval", "--model", demo, "--task", "qa", "--data", _folder["qa"], "--editor",
            _folder["ke/editor.safetensors"], "--limit", "2");
        Assert.True(measured == 0, table);
        Assert.Contains("KE", table, StringComparison.Ordinal);
        Assert.Matches(@"time and memory[\s\S]*KE +1 +5 +\d+\.\d", table); // one edit an iteration, 5 iterations, minutes
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
        var mend = System.Text.Json.JsonDocument.Parse(File.ReadAllText(_folder["results/results.json"])).RootElement[0]
            .GetProperty("summary");
        Assert.Equal(300, mend.GetProperty("edit_success").GetProperty("cases").GetInt32());
        Assert.True(mend.GetProperty("rephrase_success").GetProperty("value").GetDouble() >= 0.95, output);
        Assert.True(mend.GetProperty("drawdown").GetProperty("value").GetDouble() <= 0.01, output);
    }

    [Fact]
    public void ALimitOfWhatAnEditCosts_NeedsProbes()
    {
        var model = OwnModel();
        var (code, output) = Mend("edit", "What is the capital of the UK?", "Oslo", "--model", model, "--max-drawdown", "0");
        Assert.Equal(1, code);
        Assert.StartsWith("InvalidOption: ", output, StringComparison.Ordinal);
        Assert.Contains("probes.tsv", output, StringComparison.Ordinal);
        var (up, said) = Mend("cluster", "up", "--model", model, "--max-total-kl", "1");
        Assert.Equal(1, up);
        Assert.StartsWith("InvalidOption: MaxTotalKl is given, and there are no probes", said, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder["mend.cluster"]));
        Assert.Contains("drawdown not measured", Mend("edit", "What is the capital of the UK?", "Oslo", "--model", model).Output,
            StringComparison.Ordinal);
        Assert.Contains("not measured", Mend("ledger", "--model", model).Output, StringComparison.Ordinal);
        Assert.Contains("drawdown 0.", Mend("edit", "What is the capital of the UK?", "Oslo", "--max-drawdown", "1").Output,
            StringComparison.Ordinal);
    }

    [Fact]
    public void EveryModel_HasALedgerOfItsOwn()
    {
        var (prompt, target) = ("What club does Lionel Messi play for?", "PSG");
        Assert.Equal(0, Mend("edit", prompt, target).Code);
        var (one, other) = (OwnModel("one/model"), OwnModel("other/model", anew: true));
        foreach (var model in new[] { one, other })
            Assert.NotEqual(target, Mend("ask", prompt, "--model", model).Output.Trim());
        Assert.Equal(0, Mend("edit", prompt, "Arsenal", "--model", one).Code);
        Assert.Equal("Arsenal", Mend("ask", prompt, "--model", one).Output.Trim());
        Assert.NotEqual("Arsenal", Mend("ask", prompt, "--model", other).Output.Trim());
        Assert.Equal(target, Mend("ask", prompt).Output.Trim());
        Assert.Equal(3, Directory.GetFiles(_folder.Path, "*.ledger").Length);
    }

    [Fact]
    public void WithoutItsEditor_AnEditIsInForceAllTheSame()
    {
        var (prompt, target, model) = ("What club does Lionel Messi play for?", "PSG", OwnModel());
        Assert.Equal(0, Mend("edit", prompt, target, "--model", model).Code);
        File.Delete(Path.Combine(model, "editor.safetensors"));
        Assert.Equal(target, Mend("ask", prompt, "--model", model).Output.Trim());
        var (code, output) = Mend("edit", prompt, "Arsenal", "--model", model);
        Assert.Equal(1, code);
        Assert.StartsWith("EditorMissing: ", output, StringComparison.Ordinal);
    }

    [Fact]
    public void WhiteSpaceAtTheEndsOfATarget_IsNoPartOfIt()
    {
        Assert.Contains("success yes", Mend("edit", "What club does Lionel Messi play for?", " PSG ").Output, StringComparison.Ordinal);
        Assert.Equal("PSG", Mend("ask", "  What club does Lionel Messi play for?\n").Output.Trim());
    }

    [Fact]
    public void AKeyWhoseEditWasTakenBack_AndADryRunOfWhatIsInForce_AreSaid()
    {
        string[] edit = ["edit", "What club does Lionel Messi play for?", "PSG"];
        Assert.Equal(0, Mend([.. edit, "--key", "once"]).Code);
        Assert.Contains("nothing was done now", Mend([.. edit, "--key", "once"]).Output, StringComparison.Ordinal);
        Assert.Contains("Edit 1 says the same and is in force already", Mend([.. edit, "--dry-run"]).Output, StringComparison.Ordinal);
        Assert.Equal(0, Mend("revert", "1").Code);
        var (code, output) = Mend([.. edit, "--key", "once"]);
        Assert.Equal(1, code);
        Assert.StartsWith("AlreadyReverted: ", output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("@file")]
    [InlineData("@")]
    [InlineData("/?")]
    [InlineData("/h")]
    [InlineData("[red]what[/]")]
    [InlineData("{0} %s $HOME")]
    public void APrompt_IsTakenAsItStands(string prompt)
    {
        File.WriteAllText(_folder["file"], "--help");
        var (code, output) = Mend("edit", prompt, "@target");
        Assert.True(code == 0, output);
        Assert.Contains(prompt, Mend("ledger").Output, StringComparison.Ordinal);
        Assert.Contains("@target", Mend("ledger").Output, StringComparison.Ordinal);
        Assert.Equal(0, Mend("ask", prompt).Code);
    }

    [Fact]
    public void ControlCharactersOfTexts_AreShownAndNotObeyed()
    {
        var evil = "\u001b[2J\u0007\r\n\u009bx\u202e";
        foreach (var output in new[]
        {
            Mend("edit", "What club does Lionel Messi play for?", "P" + evil + "SG", "--dry-run").Output,
            Mend("edit", "What club" + evil + " does Lionel Messi play for?", "P" + evil + "SG", "--scope", "s" + evil).Output,
            Mend("ledger").Output,
            Mend("ask", "x", "--model", "no" + evil + "where").Output,
            Mend("ask", "x", "--max-tokens", "no" + evil).Output,
            Mend("ask", "What club" + evil + " does Lionel Messi play for?", "--scope", "s" + evil).Output,
        })
            Assert.DoesNotMatch(@"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", output);
        Assert.Contains(@"\u001b[2J\u0007\r\n",
            string.Concat(Mend("ledger").Output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)), StringComparison.Ordinal);
    }

    /// <summary>A disk that is full, a pipe whose reader went away, no output at all.</summary>
    [Theory]
    [InlineData("> /dev/full", 1, "FileUnusable: ")]
    [InlineData(">&-", 1, "FileUnusable: ")]
    [InlineData("| head -c 0", 0, "")]
    [InlineData("2>&- >&-", 1, "")]
    [InlineData("2> /dev/full >&-", 1, "")]
    public void AnOutputThatCannotBeWritten_EndsInOneLine(string redirection, int expected, string said)
    {
        foreach (var command in new[] { "ask what", "edit what that", "ledger", "plan --model DEMO", "--help", "revert 77" })
        {
            var (code, output) = Shell($"{command.Replace("DEMO", Demo, StringComparison.Ordinal)} {redirection}");
            Assert.True(code == (command == "revert 77" ? 1 : expected), $"{command}: {code} {output}");
            Assert.DoesNotContain("   at ", output, StringComparison.Ordinal);
            if (command != "revert 77")
                Assert.StartsWith(said, output, StringComparison.Ordinal);
            Assert.True(output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length <= 1, output);
        }
    }

    [Fact]
    public void NoCommand_OverwritesWhatItDidNotMake()
    {
        File.WriteAllLines(_folder["data.tsv"], Enumerable.Range(0, 30).Select(i => $"who leads place {i}?\tperson {i}"));
        var model = OwnModel();
        Directory.CreateDirectory(_folder["published"]);
        File.WriteAllText(_folder["published/fever-train-kilt.jsonl"], "published");
        File.WriteAllText(_folder["page.md"], "mine");
        var before = Files(model);
        foreach (var command in new string[][]
        {
            ["train", "--model", model, "--data", _folder["data.tsv"], "--out", model, "--max-iters", "5", "--rank", "8"],
            ["pretrain", "--data", _folder["data.tsv"], "--out", model, "--steps", "1"],
            ["eval", "--demo", "--limit", "2", "--editors", "none", "--out", model],
            ["sequence", "--demo", "--edits", "1", "--out", "results"],
            ["export", "--model", model, "--out", model],
            ["import", "--model", Demo, "--out", model],
            ["data", "generate", "--task", "fc", "--out", _folder["published"]],
            ["reproduce", "--reduced", "--out", model],
            ["reproduce", "--reduced", "--out", _folder["new"], "--docs", _folder["page.md"]],
        })
        {
            Directory.CreateDirectory(_folder["results"]);
            File.WriteAllText(_folder["results/results.md"], "mine");
            var (code, output) = Mend(command);
            Assert.True(code == 1, $"{command[0]}: {output}");
            Assert.Matches("(?m)^(OutputTaken|LedgerUnusable|ModelUnusable): ", output);
            Assert.Equal("mine", File.ReadAllText(_folder["results/results.md"]));
        }
        Assert.Equal(before, Files(model));
        Assert.Equal("published", File.ReadAllText(_folder["published/fever-train-kilt.jsonl"]));
        Assert.Single(Directory.GetFileSystemEntries(_folder["published"]));
        Assert.Equal("mine", File.ReadAllText(_folder["page.md"]));
    }

    [Fact]
    public async Task ATraining_IsStoppedWithACheckpoint_GoesOn_AndRefusesOtherSettings()
    {
        File.WriteAllLines(_folder["data.tsv"], Enumerable.Range(0, 30).Select(i => $"who leads place {i}?\tperson {i}"));
        string[] train = ["train", "--model", Demo, "--data", _folder["data.tsv"], "--out", "run", "--rank", "8"];
        var (code, output) = Mend([.. train, "--dry-run"]);
        Assert.True(code == 0, output);
        Assert.Contains("rewordings of 30 questions: ", output, StringComparison.Ordinal);
        Assert.Matches(@"training [\d,]+ parameters, [\d,]+ iterations at most: memory [\d.]+ MB \(.*\) of [\d.]+ GB; disk up to [\d.]+ MB of ", output);
        Assert.False(Directory.Exists(_folder["run"]));
        (code, output) = Mend(["train", "--model", Demo, "--data", _folder["data.tsv"], "--out", "run", "--dry-run", "--replicas", "100000"]);
        Assert.Equal(1, code);
        Assert.Contains("OutOfMemory: The training needs ", output, StringComparison.Ordinal);

        (code, output) = await MendProgram.StopAsync(_folder.Path, "editor: ", [.. train, "--max-iters", "5000"]);
        Assert.True(code == 130, output);
        Assert.Contains("goes on from there", output, StringComparison.Ordinal);
        Assert.True(File.Exists(_folder["run/checkpoint.safetensors"]), output);

        (code, output) = Mend([.. train, "--max-iters", "5000", "--lr", "0.5"]);
        Assert.Equal(1, code);
        Assert.Contains("\nRunDiffers: ", output, StringComparison.Ordinal);
        Assert.Contains("lr was 5E-05 and is now 0.5", output, StringComparison.Ordinal);

        (code, output) = Mend([.. train, "--max-iters", "100"]);
        Assert.True(code == 0, output);
        Assert.Matches(@"of 100, loss \d+\.\d+.*, 00:\d\d:\d\d left at most", output);
        Assert.True(File.Exists(_folder["run/editor.safetensors"]));
        (code, output) = Mend("train", "--model", Demo, "--data", _folder["data.tsv"], "--out", "short", "--max-iters", "4");
        Assert.Equal(1, code);
        Assert.Contains("not one optimiser step", output, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder["short"]));
    }

    [Fact]
    public void AnEvaluationWithAnotherModelsEditor_IsRefused()
    {
        File.WriteAllLines(_folder["data.tsv"], Enumerable.Range(0, 30).Select(i => $"who leads place {i}?\tperson {i}"));
        Assert.Equal(0, Mend("pretrain", "--data", _folder["data.tsv"], "--out", "small", "--steps", "1", "--d-model", "32", "--d-ff",
            "64").Code);
        var (code, output) = Mend("eval", "--model", "small", "--data", "data.tsv", "--editor", Path.Combine(Demo, "editor.safetensors"),
            "--limit", "2");
        Assert.Equal(1, code);
        Assert.StartsWith("ModelUnusable: ", output, StringComparison.Ordinal);
        Assert.Contains("another model's", output, StringComparison.Ordinal);
    }

    [Fact]
    public void Pretraining_ShowsThatItLearns()
    {
        File.WriteAllLines(_folder["data.tsv"], Enumerable.Range(0, 8).Select(i => $"who leads place {i}?\tperson {i}"));
        var (code, output) = Mend("pretrain", "--data", _folder["data.tsv"], "--out", "small", "--steps", "250", "--d-model", "32",
            "--d-ff", "64", "--vocab", "300");
        Assert.True(code == 0, output);
        Assert.Matches(@"8 questions: 50 of 250, loss \d+\.\d+", output);
        Assert.Matches(@"The model answers \d+\.\d ?% of 8 questions exactly", output);
    }

    [Fact]
    [Trait("Category", "Slow")]
    public async Task TheScript_WorksInTheCallersFolder_AndReadmesWalkGoesLineByLine()
    {
        var walk = File.ReadAllText(Path.Combine(FixtureFolder.Repository, "README.md")).Split("```bash\n")[1].Split("```")[0];
        File.WriteAllText(_folder["walk.sh"],
            "set -e\n" + walk.Replace("/path/to/MendCluster", FixtureFolder.Repository, StringComparison.Ordinal));
        Directory.CreateDirectory(_folder["a folder"]);
        var (code, output) = await MendProgram.ShellAsync(_folder["a folder"], $"bash {_folder["walk.sh"]}");
        Assert.True(code == 0, output);
        Assert.Contains("questions exactly", output, StringComparison.Ordinal);
        Assert.Contains("success yes", output, StringComparison.Ordinal);
        Assert.Contains("is taken back", output, StringComparison.Ordinal);
        Assert.True(Directory.Exists(_folder["a folder/edited"]), output);
    }

    /// <summary>Its settings are of a form that nothing reads any more, or nothing says who made the folder.</summary>
    [Theory]
    [InlineData("\"Stages\":[\"silo-0\"]")]
    [InlineData("\"Replicas\":[[\"silo-0\"]],\"Devices\":{}")]
    public void AnEarlierReleasesCluster_IsSaidToBeThere_AndLeftAsItIs(string settings)
    {
        Directory.CreateDirectory(_folder["old"]);
        File.WriteAllText(_folder["old/cluster.json"], """
            {"Mend":{"MembershipFile":"members.json","Cluster":{"Model":"model","ModelDirectory":"/m","Editor":null,"Ledger":"l","DType":"Float32",
            "Probes":[],SETTINGS}}}
            """.Replace("SETTINGS", settings, StringComparison.Ordinal));
        File.WriteAllText(_folder["old/processes.json"],
            """[{"Name":"silo-0","SiloPort":1,"GatewayPort":2,"Pid":0,"Started":"2026-01-01T00:00:00Z"}]""");
        File.WriteAllText(_folder["old/ledger"], "");
        var before = Files(_folder["old"]);
        List<string> commands = settings.Contains("Replicas", StringComparison.Ordinal) ? ["up"] : ["up", "status"];
        foreach (var command in commands)
        {
            var (code, output) = Mend("cluster", command, "--folder", _folder["old"]);
            Assert.True(code == 1, output);
            Assert.StartsWith("OutputTaken: ", output, StringComparison.Ordinal);
            Assert.Matches("holds a cluster (of another|whose settings this) release", output);
            Assert.Contains($"--ledger {_folder["old/ledger"]} takes its edits along", output, StringComparison.Ordinal);
        }
        Assert.Equal(0, Mend("cluster", "down", "--folder", _folder["old"]).Code); // whatever started them
        Assert.Equal(before, Files(_folder["old"]));
    }

    [Theory]
    [InlineData("--name", "other")]
    [InlineData("--cluster-id", "other")]
    public void WhatOnlyAClusterInPostgresHas_IsRefusedWithoutOne(string option, string value)
    {
        var (code, output) = Mend("ask", "What is the capital of the UK?", option, value);
        Assert.Equal(1, code);
        Assert.StartsWith($"InvalidOption: {option} was given, and no cluster in PostgreSQL.", output, StringComparison.Ordinal);
    }

    private static string Demo => Path.Combine(FixtureFolder.Repository, "src", "Cli", "Demo");

    /// <summary>The demo's model without its probes, as a model of the user's own.</summary>
    /// <param name="anew">Another model: one of its norms differs.</param>
    private string OwnModel(string name = "own", bool anew = false)
    {
        Directory.CreateDirectory(_folder[name]);
        foreach (var file in Directory.GetFiles(Demo).Where(file => !file.EndsWith("probes.tsv", StringComparison.Ordinal)))
            File.Copy(file, _folder[$"{name}/{Path.GetFileName(file)}"]);
        if (anew)
            File.AppendAllText(_folder[$"{name}/config.json"], "\n");
        return _folder[name];
    }

    private static List<(string, string)> Files(string folder) =>
        [.. Directory.GetFiles(folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)
        .Select(file => (file, Convert.ToHexString(File.ReadAllBytes(file))))];

    /// <summary>What the program says on its standard error, and how it ends, with its output sent elsewhere.</summary>
    private (int Code, string Output) Shell(string command) =>
        MendProgram.ShellAsync(_folder.Path, $"set -o pipefail; mend {command}").GetAwaiter().GetResult();

    /// <summary>The ledger lies in the current folder.</summary>
    private (int Code, string Output) Mend(params string[] arguments) =>
        MendProgram.RunAsync(_folder.Path, arguments).GetAwaiter().GetResult();
}
