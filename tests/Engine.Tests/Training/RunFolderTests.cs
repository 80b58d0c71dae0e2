using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Files;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Training;

/// <summary>A run's folder is of one run: of one model, one set of data, one configuration, and one process at a time.</summary>
public sealed class RunFolderTests : IDisposable
{
    private static readonly string[] Words = ["red", "blue", "the", "old", "town"];

    private readonly TemporaryFolder _folder = new();

    private EditorTrainingOptions Options { get; } =
        new() { Mend = new() { Rank = 4 }, AccumulateBs = 2, MaxIters = 4, ValInterval = 2, ValSteps = 2, Lr = 1e-4 };

    public RunFolderTests() => TinyModels.Write(Directory.CreateDirectory(_folder["model"]).FullName, "t5");

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string> Settings =>
        ["lr", "mend.rank", "mend.edit_lr", "loss.c_edit", "edits", "averaging", "seed", "accumulate_bs", "editable"];

    [Theory]
    [MemberData(nameof(Settings))]
    public void OtherSettings_AreRefusedByName_AndChangeNothing(string setting)
    {
        Train(Options);
        var before = Files();
        var refusal = Assert.Throws<MendException>(() => Train(setting switch
        {
            "lr" => Options with { Lr = 2e-4 },
            "mend.rank" => Options with { Mend = Options.Mend with { Rank = 5 } },
            "mend.edit_lr" => Options with { Mend = Options.Mend with { EditLr = 0.5 } },
            "loss.c_edit" => Options with { Loss = Options.Loss with { CEdit = 0.7 } },
            "edits" => Options with { Edits = 2 },
            "averaging" => Options with { Averaging = 0.5 },
            "seed" => Options with { Seed = 9 },
            "accumulate_bs" => Options with { AccumulateBs = 1 },
            _ => Options with { Editable = ["encoder.block.0.*"] },
        }));
        Assert.Equal(MendError.RunDiffers, refusal.Error);
        Assert.Contains($"{setting} was ", refusal.Message, StringComparison.Ordinal);
        Assert.Equal(before, Files());
    }

    [Fact]
    public void OtherData_IsRefused_ThoughItLiesInTheSameFile()
    {
        Train(Options);
        Assert.Contains("data was", Assert.Throws<MendException>(() => Train(Options, "another answer")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnotherModel_IsRefused_ThoughItLiesInTheSameFolder()
    {
        Train(Options);
        TinyModels.Write(_folder["model"], "t5", seed: 8);
        Assert.Contains("model was", Assert.Throws<MendException>(() => Train(Options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void HowLongToTrain_MayDiffer()
    {
        Assert.Equal(4, Train(Options).Iterations);
        Assert.Equal(4, Train(Options).Iterations);
        Assert.Equal(8, Train(Options with { MaxIters = 8, EarlyStopPatience = 9 }).Iterations);
    }

    [Fact]
    public void TwoTrainingsInOneFolder_AreNotPossible()
    {
        using (new RunFolder(_folder["run"]).Take())
            Assert.Equal(MendError.TrainerBusy, Assert.Throws<MendException>(() => Train(Options)).Error);
        Assert.Equal(4, Train(Options).Iterations);
    }

    [Fact]
    public void AFolderWithAModel_IsNoRunFolder()
    {
        var before = Directory.GetFiles(_folder["model"]).Order().Select(file => (file, Convert.ToHexString(File.ReadAllBytes(file))))
            .ToList();
        var refusal = Assert.Throws<MendException>(() => Train(Options, run: "model"));
        Assert.Equal(MendError.OutputTaken, refusal.Error);
        Assert.Contains("config.json", refusal.Message, StringComparison.Ordinal);
        Assert.Equal(before, Directory.GetFiles(_folder["model"]).Order()
            .Select(file => (file, Convert.ToHexString(File.ReadAllBytes(file)))));
    }

    [Fact]
    public void AFolderOfAnotherCommand_IsRefused_AndAnEmptyOneOrOneWithOtherFilesIsNot()
    {
        using (OwnFolder.Take(_folder["own"], "mend eval"))
        {
        }
        Assert.Contains("mend eval", Assert.Throws<MendException>(() => new RunFolder(_folder["own"]).Take()).Message,
            StringComparison.Ordinal);
        Directory.CreateDirectory(_folder["notes"]);
        File.WriteAllText(_folder["notes/notes.txt"], "mine");
        using (new RunFolder(_folder["notes"]).Take())
            Assert.Equal("mine", File.ReadAllText(_folder["notes/notes.txt"]));
        Assert.Throws<MendException>(() => OwnFolder.Take(_folder["notes"], "mend eval"));
        Assert.Throws<MendException>(() => OwnFolder.Take(_folder["model"], "mend eval"));
    }

    /// <summary>Between two validations, and in the middle of an optimiser step's edits.</summary>
    [Fact]
    public void ACancelledRun_KeepsACheckpoint_AndGoesOnAsIfItHadNotStopped()
    {
        var options = Options with { MaxIters = 60, ValInterval = 30, AccumulateBs = 3 };
        var straight = Train(options, run: "straight");
        using var stop = new CancellationTokenSource();
        var first = Train(options, run: "parts", onBatch: iteration =>
        {
            if (iteration == 52)
                stop.Cancel();
        }, cancellation: stop.Token);
        Assert.Equal((54L, "cancelled"), (first.Iterations, first.Stopped));
        Assert.Equal(straight, Train(options, run: "parts"));
        Assert.Equal(Tensors("straight"), Tensors("parts"));
        var means = new[] { "straight",
            "parts" }.Select(run => File.ReadLines(_folder[run + "/metrics.jsonl"]).Select(line => JsonDocument.Parse(line).RootElement)
            .Count(entry => entry.GetProperty("kind").GetString() == "training")).ToList();
        Assert.Equal(means[0], means[1]);
    }

    [Fact]
    public void ARunThatIsStoppedBeforeItsFirstNumber_NamesNone()
    {
        using var stop = new CancellationTokenSource();
        Train(Options with { MaxIters = 60, ValInterval = 60, AccumulateBs = 3 }, onBatch: iteration =>
        {
            if (iteration == 5)
                stop.Cancel();
        }, cancellation: stop.Token);
        using var end = JsonDocument.Parse(File.ReadLines(_folder["run/metrics.jsonl"]).Last());
        Assert.Equal("cancelled", end.RootElement.GetProperty("stopped").GetString());
        Assert.Equal(JsonValueKind.Null, end.RootElement.GetProperty("best_loss").ValueKind);
    }

    [Fact]
    public void ARunThatEndsBeforeItsInterval_IsValidatedAtItsEnd()
    {
        var result = Train(Options with { MaxIters = 6, ValInterval = 400 });
        Assert.Equal((6L, 6L), (result.Iterations, result.BestIteration));
        Assert.True(File.Exists(_folder["run/editor.safetensors"]));
        var validations = File.ReadLines(_folder["run/metrics.jsonl"])
            .Count(line => line.Contains("\"validation\"", StringComparison.Ordinal));
        Train(Options with { MaxIters = 6, ValInterval = 400 });
        Assert.Equal(validations,
            File.ReadLines(_folder["run/metrics.jsonl"]).Count(line => line.Contains("\"validation\"", StringComparison.Ordinal)));
    }

    [Fact]
    public void SettingsThatTrainNothing_AreRefused()
    {
        foreach (var options in new[]
        {
            Options with { MaxIters = 1 }, Options with { Lr = double.NaN }, Options with { Lr = -1 }, Options with { Lr = 0 },
                Options with { LrLr = double.PositiveInfinity },
            Options with { EarlyStopPatience = 0 }, Options with { Averaging = 1 }, Options with { GradClip = double.NaN },
                Options with { FinalRate = 2 }, Options with { Loss = new(CEdit: double.NaN) },
        })
            Refusal.Of(MendError.InvalidOption, () => Train(options));
        Assert.False(Directory.Exists(_folder["run"]));
    }

    private TrainingResult Train(EditorTrainingOptions options, string answer = "blue", string run = "run", Action<long>? onBatch = null,
        CancellationToken cancellation = default)
    {
        var edits = Enumerable.Range(0, 12)
            .Select(i => new EditExample(Words[i % 5], Words[(i + 1) % 5], [Words[i % 5]], [new(Words[(i + 2) % 5], answer)])).ToList();
        return LocalTraining.Run(_folder["model"], text => new Watched(QuestionAnswering.Task(text, edits, 0), onBatch), options,
            _folder[run], cancellation: cancellation);
    }

    private List<(string, string)> Files() =>
        [.. Directory.GetFiles(_folder["run"]).Order(StringComparer.Ordinal)
        .Select(file => (file, Convert.ToHexString(File.ReadAllBytes(file))))];

    private List<string> Tensors(string run)
    {
        using var file = SafetensorsFile.Open(_folder[run + "/checkpoint.safetensors"]);
        using var scope = NewDisposeScope();
        return [.. file.Entries.Keys.Order(StringComparer.Ordinal).Select(name =>
            $"{name} {string.Join(' ', TensorBytes.Load(file.Find(name)).to_type(ScalarType.Float64).reshape(-1).data<double>().ToArray())}")];
    }

    /// <summary>Tells which iteration is read.</summary>
    private sealed class Watched(IEditTask task, Action<long>? onBatch) : IEditTask
    {
        public string Digest => task.Digest;

        public int ValidationCount => task.ValidationCount;

        public int CaseCount => task.CaseCount;

        public EditRows Training(long iteration)
        {
            onBatch?.Invoke(iteration);
            return task.Training(iteration);
        }

        public EditRows Validation(int i) => task.Validation(i);

        public EditRows Case(int i) => task.Case(i);
    }
}
