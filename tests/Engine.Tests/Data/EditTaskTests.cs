using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Data;

/// <summary>The published sampling rules; a letter is a token.</summary>
public sealed class EditTaskTests : IDisposable
{
    private static readonly EditExample[] Claims = [.. Enumerable.Range(0, 6).Select(i => new EditExample(
        $"claim {i}", "REFUTES", [$"first {i}", $"second {i}"], [], Answer: i % 2 == 0 ? "SUPPORTS" : "REFUTES", Prediction: "SUPPORTS"))];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void OfFactChecking_HalfTheEditsAskForNoChange_AndTheRephraseForTheSame()
    {
        var task = new QuestionTask(Text("bert"), Claims, Claims, seed: 1, halfUnchanged: true);
        var edits = Enumerable.Range(0, 600).Select(i => task.Training(i)).ToList();
        Assert.InRange(edits.Count(rows => rows.Edit.Target == "REFUTES"), 250, 350);
        Assert.All(edits, rows => Assert.Equal(rows.Edit.Target, Assert.Single(rows.Rephrases).Target));
        Assert.All(edits, rows => Assert.Equal(rows.Edit.Labels, rows.Rephrases[0].Labels));
    }

    [Fact]
    public void OfQuestionAnswering_NoEditAsksForNoChange()
    {
        var task = new QuestionTask(Text("t5"), Claims, Claims, seed: 1);
        Assert.All(Enumerable.Range(0, 60), i => Assert.Equal("REFUTES", task.Training(i).Edit.Target));
    }

    [Fact]
    public void EveryRephrase_IsDrawnNowAndThen_AndEveryClaimIsVisitedInTurn()
    {
        var task = new QuestionTask(Text("t5"), Claims, Claims, seed: 1);
        var visits = Enumerable.Range(0, 48).Select(i => task.Training(i)).ToList();
        foreach (var round in visits.Chunk(Claims.Length))
            Assert.Equal(Claims.Select(claim => claim.Prompt), round.Select(rows => rows.Edit.Prompt).Order(StringComparer.Ordinal));
        Assert.Equal(12, visits.Select(rows => rows.Rephrases[0].Prompt).Distinct().Count());
    }

    [Fact]
    public void UnrelatedRows_AreOtherClaimsWithTheirTrueLabels_OneInTrainingAndFourInValidation()
    {
        var task = new QuestionTask(Text("bert"), Claims, Claims, seed: 1, halfUnchanged: true);
        for (var i = 0; i < 60; i++)
        {
            var (training, validation) = (task.Training(i), task.Validation(i % task.ValidationCount));
            Assert.Equal((1, 4), (training.Locality.Count, validation.Locality.Count));
            foreach (var (rows, unrelated) in training.Locality.Select(row => (training, row))
                .Concat(validation.Locality.Select(row => (validation, row))))
            {
                Assert.NotEqual(rows.Edit.Prompt, unrelated.Prompt);
                Assert.Equal(Claims.Single(claim => claim.Prompt == unrelated.Prompt).Answer, unrelated.Target);
            }
        }
    }

    [Fact]
    public void UnrelatedRows_NeverAskForTheEditedFactInAnotherWording()
    {
        // two facts, in three rows of three wordings each, as published
        EditExample[] rows = [.. Enumerable.Range(0, 6).Select(i => new EditExample($"wording {i % 3} of {i / 3}", $"target {i}",
            [.. Enumerable.Range(0, 3).Where(other => other != i % 3).Select(other => $"wording {other} of {i / 3}")], [], Answer: "A"))];
        var task = new QuestionTask(Text("t5"), rows, rows, seed: 1, new(Training: 4));
        Assert.All(Enumerable.Range(0, 60).Select(i => task.Training(i)).Concat(Enumerable.Range(0, 6).Select(task.Validation)), edit =>
        {
            Assert.Equal(3, edit.Wordings.Count);
            Assert.DoesNotContain(edit.Locality, row => edit.Wordings.Contains(row.Prompt));
        });
        Assert.Contains("at least 2 facts", Assert.Throws<InvalidDataException>(() => new QuestionTask(Text("t5"), rows[..3], rows, 1)).Message,
            StringComparison.Ordinal);
        Assert.Contains("at least 2 facts", Assert.Throws<InvalidDataException>(() =>
            new QuestionTask(Text("t5"), rows, rows, 1, otherQuestions: [new("wording 2 of 1", "A")])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TheEditorThatATrainingKeeps_IsChosenOnOtherEditsThanThoseMeasured()
    {
        var task = new QuestionTask(Text("t5"), Claims[..2], Claims[2..4], seed: 1, cases: Claims[4..]);
        Assert.Equal(["claim 2", "claim 3"], Enumerable.Range(0, task.ValidationCount).Select(i => task.Validation(i).Edit.Prompt));
        Assert.Equal(["claim 4", "claim 5"], Enumerable.Range(0, task.CaseCount).Select(i => task.Case(i).Edit.Prompt));
    }

    [Fact]
    public void NaturalQuestions_AreAskedAtValidationAlone()
    {
        var task = new QuestionTask(Text("t5"), Claims, Claims, seed: 1, otherQuestions: [new("Who?", "He")]);
        Assert.All(task.Validation(0).Locality, row => Assert.Equal(("Who?", "He"), (row.Prompt, row.Target)));
        Assert.StartsWith("claim", task.Training(0).Locality[0].Prompt, StringComparison.Ordinal);
    }

    [Fact]
    public void AnEditsOwnUnrelatedQuestions_AreAllAsked()
    {
        EditExample[] edits = [new("Q?", "A", ["R?"], [new("one?", "1"), new("two?", "2")])];
        Assert.Equal(["one?", "two?"], new QuestionTask(Text("t5"), edits, edits, seed: 1).Training(0).Locality.Select(row => row.Prompt));
    }

    [Fact]
    public void WhatTheKnowledgeEditorReads_IsOldAnswerNewAnswerAndPrompt()
    {
        var row = Text("bert").EditRow(Claims[0]);
        Assert.Equal("SUPPORTS >> REFUTES || claim 0", string.Concat(row.Condition!.Select(id => (char)id)));
    }

    [Fact]
    public void Draws_AreAFunctionOfSeedAndNumber()
    {
        var (first, same, other) = (Task(1), Task(1), Task(2));
        string[] Drawn(QuestionTask task) =>
            [.. Enumerable.Range(30, 30).Select(i => task.Training(i))
            .Select(rows => $"{rows.Edit.Prompt} {rows.Edit.Target} {rows.Rephrases[0].Prompt} {rows.Locality[0].Prompt}")];
        first.Training(500);
        Assert.Equal(Drawn(same), Drawn(first));
        Assert.NotEqual(Drawn(same), Drawn(other));

        static QuestionTask Task(ulong seed) => new(Text("bert"), Claims, Claims, seed, halfUnchanged: true);
    }

    [Fact]
    public void TooFewRowsToDrawUnrelatedOnesFrom_AreRefused()
    {
        Assert.Contains("training set has 1",
            Assert.Throws<InvalidDataException>(() => new QuestionTask(Text("t5"), Claims[..1], Claims, 1)).Message,
            StringComparison.Ordinal);
        Assert.Contains("validation set has 0",
            Assert.Throws<InvalidDataException>(() => new QuestionTask(Text("t5"), Claims, [], 1)).Message, StringComparison.Ordinal);
        EditExample[] unanswered = [Claims[0], Claims[1] with { Answer = null }];
        Assert.Contains("claim 1", Assert.Throws<InvalidDataException>(() => new QuestionTask(Text("t5"), unanswered, Claims, 1)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void APassage_IsScoredOnItsLastTokens_AndItsRephraseLosesUpToHalfOfTheOthersFromTheFront()
    {
        var data = (new Continuations(3, ["abcdefghijk"]), (IReadOnlyList<string>)["xyz"]);
        var task = new PassageTask(Text("gpt2"), data, data, seed: 1);
        var dropped = new HashSet<int>();
        for (var i = 0; i < 100; i++)
        {
            var rows = task.Training(i);
            Assert.Equal(("abcdefgh", "ijk"), (rows.Edit.Prompt, rows.Edit.Target));
            Assert.Equal([.. Enumerable.Repeat(ScoredPositions.Ignored, 8), 'i', 'j', 'k'], rows.Edit.Labels);
            Assert.Equal(rows.Edit.Ids, rows.Edit.Condition);
            var rephrase = Assert.Single(rows.Rephrases);
            dropped.Add(rows.Edit.Ids.Length - rephrase.Ids.Length);
            Assert.Equal(rows.Edit.Ids[^rephrase.Ids.Length..], rephrase.Ids);
            Assert.Equal(rows.Edit.Labels[^rephrase.Ids.Length..], rephrase.Labels);
        }
        Assert.Equal([0, 1, 2, 3, 4], dropped.Order());
    }

    [Fact]
    public void UnrelatedTexts_AreScoredOnEveryToken_AndCutToTheLimitOrTheModels()
    {
        var data = (new Continuations(3, ["abcdefghijk"]), (IReadOnlyList<string>)[new string('x', 90)]);
        var whole = new PassageTask(Text("gpt2"), data, data, seed: 1).Validation(0);
        Assert.Equal(4, whole.Locality.Count);
        Assert.All(whole.Locality, row => Assert.Equal(64, row.Ids.Length)); // all positions that the model has
        var cut = new PassageTask(Text("gpt2"), data, data, seed: 1, mostTokens: 20).Training(0).Locality[0];
        Assert.Equal(20, cut.Ids.Length);
        Assert.Equal(cut.Ids.Select(id => (long)id), cut.Labels);
    }

    [Fact]
    public void APassageThatIsTooLongForTheModel_LosesItsBeginning()
    {
        var data = (new Continuations(3, [new string('a', 90) + "xyz"]), (IReadOnlyList<string>)["xyz"]);
        var row = new PassageTask(Text("gpt2"), data, data, seed: 1).Training(0).Edit;
        Assert.Equal((64, "xyz"), (row.Ids.Length, row.Target));
    }

    [Fact]
    public void APassageOfNothingButItsContinuation_IsRefusedByIndex()
    {
        var data = (new Continuations(3, ["abcd", "abc"]), (IReadOnlyList<string>)["xyz"]);
        var error = Assert.Throws<InvalidDataException>(() => new PassageTask(Text("gpt2"), data, data, seed: 1).Validation(1));
        Assert.Contains("completion 1 has 3 tokens", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("t5")]
    [InlineData("bert")]
    public void PassagesForAModelThatWritesNone_AreRefused(string family)
    {
        var data = (new Continuations(3, ["abcdef"]), (IReadOnlyList<string>)["xyz"]);
        Assert.Contains("decoder-only",
            Refusal.Of(MendError.ModelUnusable, () => new PassageTask(Text(family), data, data, seed: 1).Training(0)).What,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Batches_OfPassages_ArePaddedWithWhatIsNotScored()
    {
        using var scope = NewDisposeScope();
        var text = Text("gpt2");
        var (input, labels) = text.Of([text.Passage(text.Tokens("abcd"), 2), text.Passage(text.Tokens("abcdef"), 6)]);
        Assert.Equal([1L, 1, 1, 1, 0, 0], input.AttentionMask.select(0, 0).data<long>().ToArray());
        Assert.Equal([-100L, -100, 'c', 'd', -100, -100], labels.select(0, 0).data<long>().ToArray());
        Assert.Equal(5, ScoredPositions.Of(labels, shifts: true).Sequences.Eq(1).sum().item<long>()); // nothing predicts the first token
    }

    [Theory]
    [InlineData(EditTaskKind.Qa, "structured_zeroshot-train-new_annotated_final.jsonl")]
    [InlineData(EditTaskKind.Fc, "fever-train-kilt.jsonl")]
    [InlineData(EditTaskKind.Gen, "self_sample/train.json")]
    public void AFolderWithoutTheFile_IsRefusedByItsName_WithTheCommandThatMakesOne(EditTaskKind kind, string file)
    {
        var message = Assert.Throws<InvalidDataException>(() => TaskFolder.Open(_folder.Path, kind, Text("gpt2"), 1)).Message;
        Assert.Contains(file, message, StringComparison.Ordinal);
        Assert.Contains($"mend data generate --task {kind.ToString().ToLowerInvariant()}", message, StringComparison.Ordinal);
    }

    [Fact]
    public void OpenWebText_WhereItIs_IsTheUnrelatedText_CutTo200Tokens()
    {
        Directory.CreateDirectory(_folder["self_sample"]);
        foreach (var part in new[] { "train", "valid" })
            _folder.Write($"self_sample/{part}.json", """{"n_tokens": 2, "original": ["x"], "completions": ["abcdef"]}""");
        _folder.Write("openwebtext-10k.jsonl",
            string.Join('\n', Enumerable.Repeat(JsonSerializer.Serialize(new { text = new string('w', 300) }), 10)));
        var gptJ = new TextBatch(TinyModel.Family("gpt2", positions: 512), TinyModel.Letter());
        var rows = TaskFolder.Open(_folder.Path, EditTaskKind.Gen, gptJ, 1).Training(0);
        Assert.Equal(200, rows.Locality[0].Ids.Length);
    }

    private static TextBatch Text(string family) => new(TinyModel.Family(family), TinyModel.Letter());
}
