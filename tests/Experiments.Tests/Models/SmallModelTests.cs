using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Experiments.Tests;

/// <summary>From a folder of a task's files to a model that knows it, to an editor, to its measured figures: small and short.</summary>
public sealed class SmallModelTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    [Trait("Category", "Slow")]
    public void FactChecking_GoesFromClaimsToAnEditorAndItsFigures()
    {
        foreach (var file in new[] { TaskFolder.FeverTraining, TaskFolder.FeverValidation })
            _folder.Write(file, string.Join('\n',
                Enumerable.Range(0, 12).Select(i => Row(i, i % 3 == 0 ? Fever.Supports : Fever.Refutes))));
        var claims = TaskTraining.ReadClaims(_folder.Path);
        Assert.Equal(24, claims.Sum(claim => claim.Wordings.Count));
        var known = SmallBert.Train(_folder["model"], claims, new()
        {
            HiddenSize = 32,
            IntermediateSize = 64,
            NumHiddenLayers = 2,
            NumAttentionHeads = 2,
            Vocabulary = 200,
            BatchSize = 24,
            RecognitionSteps = 100,
            Training = new() { Steps = 250, Lr = 3e-3, Warmup = 10 },
        });
        Assert.Equal(1, known);
        TrainAndMeasure(EditTaskKind.Fc);

        static string Row(int i, string label) => JsonSerializer.Serialize(new
        {
            input = $"The town of {(char)('A' + i)}ville is number {i}.",
            prediction = label,
            alternatives = new[] { Fever.Other(label) },
            filtered_rephrases = new[] { $"Number {i} is {(char)('A' + i)}ville." },
            output = new[] { new { answer = label } },
        });
    }

    [Fact]
    public void ATrainingThatWasStopped_GoesOn_ToTheSameWeights()
    {
        List<QaPair> pairs = [.. World.Generate(1).Questions().Take(80)];
        SmallT5Options options = new()
        {
            Vocabulary = 300,
            DModel = 32,
            DFf = 32,
            NumHeads = 1,
            NumLayers = 1,
            NumDecoderLayers = 1,
            BatchSize = 4,
            StepsByLength = 4,
            BeginRows = 40,
            BeginSteps = 100,
            Training = new() { Steps = 400, Warmup = 5 },
        };
        SmallT5.Train(_folder["whole"], pairs, options, resumes: true);
        using var stop = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => SmallT5.Train(_folder["stopped"], pairs, options, at =>
        {
            if (at.Step == 300)
                stop.Cancel();
        }, resumes: true, stop.Token));
        var begun = new List<long>();
        SmallT5.Train(_folder["stopped"], pairs, options, at => begun.Add(at.Step), resumes: true);
        Assert.Equal(300, begun[0]); // from the checkpoint of step 250
        Assert.Equal(File.ReadAllBytes(_folder["whole/model.safetensors"]), File.ReadAllBytes(_folder["stopped/model.safetensors"]));
        Assert.False(File.Exists(_folder["stopped/pretraining.safetensors"]));

        // what another training left is not gone on with
        using var again = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => SmallT5.Train(_folder["other"], pairs, options, at =>
        {
            if (at.Step == 300)
                again.Cancel();
        }, resumes: true, again.Token));
        begun.Clear();
        SmallT5.Train(_folder["other"], pairs, options with { Seed = 5 }, at => begun.Add(at.Step), resumes: true);
        Assert.Equal(50, begun[0]);
    }

    [Theory]
    [InlineData("bert", false)]
    [InlineData("bert", true)]
    [InlineData("gpt2", false)]
    [InlineData("t5", false)]
    public void AModelThatBeginsWithAnother_BeginsWithItsWeights(string family, bool isEncoder)
    {
        TinyModels.Write(Directory.CreateDirectory(_folder["from"]).FullName, family);
        if (family == "bert") // as encoders and classifiers are published
        {
            var weights = Path.Combine(_folder["from"], "model.safetensors");
            using (var files = HuggingFaceDirectory.Open(_folder["from"]))
                SafetensorsWriter.Write(weights + ".renamed", files.Names.Where(name => !isEncoder || !IsClassifier(name)).Select(name =>
                    new TensorToWrite(name.Replace("model.", isEncoder ? "" : "bert.", StringComparison.Ordinal), files.Find(name))));
            File.Move(weights + ".renamed", weights, overwrite: true);
        }
        var still = new PretrainingOptions { Steps = 1, Lr = 0 };
        if (family == "bert")
            SmallBert.Train(_folder["to"], [new(Fever.Supports, ["the mayor is a woman"]), new(Fever.Refutes, ["the mayor is red"])],
                new() { From = _folder["from"], RecognitionSteps = 1, Training = still });
        else if (family == "t5")
            SmallT5.Train(_folder["to"], [new("who is the mayor", "blue")], new() { From = _folder["from"], Training = still });
        else
            SmallGpt.Train(_folder["to"], ["the mayor is a woman"], ["red is blue"], new() { From = _folder["from"], Training = still });
        using var was = HuggingFaceDirectory.Open(_folder["from"]);
        using var made = HuggingFaceDirectory.Open(_folder["to"]);
        foreach (var name in was.Names)
        {
            using var scope = NewDisposeScope();
            if (!IsClassifier(name)) // which had other classes in between
                Assert.Equal(TensorBytes.Load(was.Find(name)).bytes.ToArray(),
                    TensorBytes.Load(made.Find((isEncoder ? "bert." : "") + name)).bytes.ToArray());
        }
        Assert.Equal(family == "bert", made.Contains("classifier.weight"));

        static bool IsClassifier(string name) => name.StartsWith("classifier", StringComparison.Ordinal);
    }

    [Fact]
    public void AModelOfAnotherKind_IsNotBegunWith()
    {
        TinyModels.Write(Directory.CreateDirectory(_folder["bert"]).FullName, "bert");
        TinyModels.Write(Directory.CreateDirectory(_folder["gpt2"]).FullName, "gpt2");
        Action[] begun =
        [
            () => SmallBert.Train(_folder["to"], [new(Fever.Supports, ["red"])], new() { From = _folder["gpt2"] }),
            () => SmallT5.Train(_folder["to"], [new("red", "blue")], new() { From = _folder["bert"] }),
            () => SmallGpt.Train(_folder["to"], ["red"], ["red"], new() { From = _folder["bert"] }),
        ];
        Assert.All(begun, begin => Assert.Equal(MendError.InvalidOption, Assert.Throws<MendException>(begin).Error));
    }

    [Fact]
    [Trait("Category", "Slow")]
    public void Generation_GoesFromTextsToContinuationsThatAreScoredOnWhatWasDrawn_ToAnEditorAndItsFigures()
    {
        foreach (var file in new[] { TaskFolder.WikitextTraining, TaskFolder.WikitextValidation })
            _folder.Write(file, string.Concat(Enumerable.Range(0, 20)
                .Select(i => string.Join(' ',
                Enumerable.Range(i, 60).Select(j => $"{"one two three four five six seven".Split(' ')[j % 7]}")) + "\n")));
        var texts = TaskFolder.Texts(_folder.Path, training: true);
        var perplexity = SmallGpt.Train(_folder["model"], texts, texts, new()
        {
            NEmbd = 32,
            NHead = 2,
            NLayer = 2,
            NPositions = 128,
            Vocabulary = 300,
            BatchSize = 8,
            Training = new() { Steps = 150, Lr = 1e-2, Warmup = 10 },
        });
        Assert.InRange(perplexity, 1, 1.5); // each word follows from the one before
        SyntheticTasks.WriteContinuations(_folder.Path, _folder["model"], 1);
        var edits = Wikitext.ReadContinuations(_folder[TaskFolder.ContinuationsTraining]);
        Assert.Equal(10, edits.Tokens);
        var text = new TextBatch(ModelFamily.FromDirectory(_folder["model"]), TokenizerFiles.Load(_folder["model"]));
        Assert.All(edits.Completions.Take(50),
            completion => Assert.StartsWith(text.Passage(text.Tokens(completion), edits.Tokens).Prompt, completion,
            StringComparison.Ordinal));
        TrainAndMeasure(EditTaskKind.Gen);
    }

    [Fact]
    [Trait("Category", "Slow")]
    public async Task ADecoderAnswersQuestions_AndStopsAfterTheAnswer_WithATokenizerThatItIsGiven()
    {
        QaPair[] pairs = [.. Enumerable.Range(0, 12).Select(i => new QaPair($"Who rules {(char)('A' + i)}land?", i % 2 == 0 ? "Queen Ann" : "Otto"))];
        BytePairTrainer.Train(pairs.Select(pair => pair.Question + " Queen Ann Otto"), 300, ["<|endoftext|>"]).Save(_folder["tokenizer"], null);
        var known = SmallGpt.Train(_folder["model"], pairs, new()
        {
            NEmbd = 32,
            NHead = 2,
            NLayer = 2,
            Tokenizer = _folder["tokenizer"],
            BatchSize = 12,
            Training = new() { Steps = 300, Lr = 1e-2, Warmup = 10 },
        });
        Assert.Equal(1, known);
        Assert.Equal(File.ReadAllBytes(_folder["tokenizer/tokenizer.json"]), File.ReadAllBytes(_folder["model/tokenizer.json"]));
        await using var cluster = await EmbeddedCluster.OpenAsync(new() { ModelDirectory = _folder["model"], Ledger = _folder["ledger"] });
        foreach (var pair in pairs)
            Assert.Equal(pair.Answer, (await cluster.AskAsync(pair.Question)).Text);
    }

    [Fact]
    public void ATokenizerOfAnotherKind_IsRefused()
    {
        BytePairTrainer.Train(["Who rules?"], 300, ["<pad>"]).Save(_folder["tokenizer"], null);
        Assert.Equal(MendError.InvalidOption, Assert.Throws<MendException>(() => SmallGpt.Train(_folder["model"], [new QaPair("Who rules?", "Otto")],
            new() { Tokenizer = _folder["tokenizer"] })).Error);
    }

    [Fact]
    public void LabelsAreLearned_ByAModelThatTellsClaimsApartAlready()
    {
        KnownClaim[] claims = [.. Enumerable.Range(0, 4)
            .Select(i => new KnownClaim(i % 2 == 0 ? Fever.Supports : Fever.Refutes,
            [$"The town is number {i}.", $"Number {i} is the town."]))];
        var (plain, read) = (Weight(0), Weight(50));
        Assert.True((plain - read).abs().mean().item<float>() > 0.001); // one step on labels moves it by much less
        Assert.Equal([Fever.Refutes, Fever.Supports], ModelFamily.FromDirectory(_folder["50"]).Labels);

        Tensor Weight(long recognition)
        {
            SmallBert.Train(_folder[$"{recognition}"], claims, new()
            {
                HiddenSize = 8,
                IntermediateSize = 8,
                NumHiddenLayers = 1,
                NumAttentionHeads = 1,
                Vocabulary = 100,
                BatchSize = 8,
                RecognitionSteps = recognition,
                Training = new() { Steps = 1, Lr = 1e-2, Warmup = 100 },
            });
            using var files = HuggingFaceDirectory.Open(_folder[$"{recognition}"]);
            return TensorBytes.Load(files.Find("bert.encoder.layer.0.output.dense.weight"));
        }
    }

    /// <summary>A few dozen iterations of each algorithm; what is saved is read back and measured.</summary>
    private void TrainAndMeasure(EditTaskKind kind)
    {
        foreach (var algorithm in new[] { EditorAlgorithm.Mend, EditorAlgorithm.Ke, EditorAlgorithm.Enn, EditorAlgorithm.Malmen })
        {
            var options = TaskTraining.Defaults(kind, algorithm) with
            {
                Mend = new() { Rank = 8 },
                Ke = new() { HiddenDim = 8, ConditionDim = 8 },
                Malmen = new() { Rank = 8, EditLr = 1e-3 },
                Edits = algorithm == EditorAlgorithm.Malmen ? 2 : 1,
                ValInterval = 20,
                ValSteps = 4,
                MaxIters = 20
            };
            var result = LocalTraining.Run(_folder["model"], text => TaskFolder.Open(_folder.Path, kind, text, 1), options,
                _folder[$"{algorithm}"]);
            Assert.Equal(20, result.BestIteration);
            using var comparison = new EditorComparison(_folder["model"], TimeProvider.System);
            var task = TaskFolder.Open(_folder.Path, kind,
                new TextBatch(ModelFamily.FromDirectory(_folder["model"]), TokenizerFiles.Load(_folder["model"])), 1);
            List<EditRows> cases = [.. Enumerable.Range(0, 4).Select(task.Validation)];
            var report = comparison.Measure(new TrainedEditor(_folder[$"{algorithm}/editor.safetensors"]), 1, cases);
            Assert.Equal(algorithm.ToString(), report.Editor, ignoreCase: true);
            Assert.Equal(4, report.Summary.PerplexityDrawdown!.Cases);
            Assert.Equal(16, report.Cases.Sum(@case => @case.Locality.Count));
        }
    }
}
