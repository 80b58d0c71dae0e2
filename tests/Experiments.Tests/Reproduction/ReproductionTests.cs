using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

public sealed class ReproductionTests(ReproductionTests.Whole whole) : IClassFixture<ReproductionTests.Whole>, IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>A reproduction from beginning to end.</summary>
    public sealed class Whole : IDisposable
    {
        private readonly TemporaryFolder _folder = new();

        public Whole() => Steps = Made(Plan(), _folder.Path);

        internal List<string> Steps { get; }

        internal string Path => _folder.Path;

        /// <summary>Puts the products of these steps into another folder.</summary>
        internal void CopyTo(TemporaryFolder folder, params string[] steps)
        {
            foreach (var file in steps.SelectMany(step => Directory.EnumerateFiles(_folder[step], "*", SearchOption.AllDirectories)))
            {
                var copy = folder[System.IO.Path.GetRelativePath(Path, file)];
                Directory.CreateDirectory(System.IO.Path.GetDirectoryName(copy)!);
                File.Copy(file, copy);
            }
        }

        public void Dispose() => _folder.Dispose();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void EveryEditorOfThePaper_IsInThePlan_AfterWhatItNeeds(bool reduced)
    {
        var plan = ReproductionPlan.Of(reduced);
        string[] compared = ["mend", "ke", "enn"],
            ablations = ["mend-not-shared", "mend-no-norm", "mend-no-identity", "mend-only-u", "mend-only-delta", "mend-only-smaller"];
        Assert.Equal([.. compared, .. ablations, "enn-25", "mend-25"], Editors(EditTaskKind.Qa));
        Assert.Equal(compared, Editors(EditTaskKind.Fc));
        Assert.Equal([.. compared, .. ablations], Editors(EditTaskKind.Gen));
        for (var i = 0; i < plan.Steps.Count; i++)
            Assert.Subset(plan.Steps.Take(i).Select(step => step.Name).ToHashSet(), plan.Steps[i].Inputs.ToHashSet());
        Assert.Equal(plan.Steps.Count, plan.Steps.DistinctBy(step => step.Name).Count());
        Assert.All(plan.Steps, step => Assert.True(step.Minutes > 0, step.Name));

        IEnumerable<string> Editors(EditTaskKind task) =>
            plan.Steps.Where(step => step.Work is EditorWork work && work.Task == task).Select(step => step.Name.Split('/')[^1]);
    }

    [Fact]
    public void EachAblation_DiffersFromMendInOneSetting()
    {
        var options = ReproductionPlan.Of(reduced: false, ReproductionPart.Gen).Steps.Select(step => step.Work).OfType<EditorWork>()
            .Select(work => work.Options).Where(given => given.Algorithm == EditorAlgorithm.Mend).ToList();
        Assert.Equal(options.Count, options.Select(given => given.Mend).Distinct().Count());
        Assert.All(options.Skip(1), ablation =>
        {
            var (mend, other) = (options[0].Mend, ablation.Mend);
            Assert.Equal(1, new[] { mend.Shared != other.Shared, mend.Norm != other.Norm, mend.Init != other.Init,
                mend.Sides != other.Sides }.Count(differs => differs));
            Assert.Equal(options[0] with { Mend = other }, ablation);
        });
    }

    [Fact]
    public void ManyEdits_AreMadeByEditorsThatWereTrainedWithAsMany_AsInThePaper()
    {
        var plan = ReproductionPlan.Of(reduced: false, ReproductionPart.Qa);
        var measured = plan.Steps.Select(step => step.Work).OfType<MeasurementWork>().Single(work => work.Kind == ComparisonKind.AtOnce);
        var edits = Assert.Single(measured.Counts);
        Assert.Equal(2, measured.Trained.Count);
        Assert.All(measured.Trained, trained =>
            Assert.Equal(edits, ((EditorWork)plan.Steps.Single(step => step.Name == trained).Work).Options.Edits));
    }

    [Fact]
    public void ChosenParts_AreTheOnlyOnes()
    {
        Assert.All(ReproductionPlan.Of(reduced: true, ReproductionPart.Fc).Steps, step => Assert.Equal(EditTaskKind.Fc, step.Work.Task));
        Assert.All(ReproductionPlan.Of(reduced: true, ReproductionPart.Facts).Steps,
            step => Assert.Contains("facts-", step.Name, StringComparison.Ordinal));
    }

    [Fact]
    public void AThousandFacts_AreEditedInThreeWorlds_EachWithItsOwnModelAndEditors()
    {
        var steps = ReproductionPlan.Of(reduced: false, ReproductionPart.Facts).Steps;
        var worlds = steps.Select(step => step.Work).OfType<FactsModelWork>().Select(work => work.World).ToList();
        Assert.Equal(3, worlds.Distinct().Count());
        Assert.All(steps, step => Assert.All(step.Inputs, input => Assert.Contains(step.Name.Split('/')[1].Split('-')[1], input, StringComparison.Ordinal)));
        foreach (var measured in steps.Select(step => step.Work).OfType<FactsMeasurementWork>())
            Assert.All(measured.Editors, editor => Assert.Single(new object?[] { editor.Trained, editor.BreadthFirst, editor.UltraEdit }, one => one is not null));
    }

    [Fact]
    public void AStep_IsMadeOnce()
    {
        Assert.Equal(AllSteps, whole.Steps);
        whole.CopyTo(_folder, AllSteps);
        Assert.Empty(Made(Plan()));
    }

    [Theory]
    [InlineData("data")]
    [InlineData("model")]
    [InlineData("editor")]
    public void StoppedInAnyStep_ItGoesOnWithThatStep_ToTheSameEditor(string stopped)
    {
        whole.CopyTo(_folder, AllSteps[..Array.IndexOf(AllSteps, stopped)]);
        using var stop = new CancellationTokenSource();
        var interrupted = new Reproduction(_folder.Path, Plan(), TimeProvider.System);
        Assert.ThrowsAny<OperationCanceledException>(() => interrupted.Run(at =>
        {
            if (at.Step.Name == stopped && (at.Done > 0 || stopped == "data"))
                stop.Cancel();
        }, stop.Token));
        // Writing data does not stop half-way: it is the next step that does not begin.
        var left = stopped == "data" ? AllSteps[1..] : AllSteps[Array.IndexOf(AllSteps, stopped)..];
        Assert.Equal(left, Plan().Steps.Where(step => !interrupted.IsDone(step)).Select(step => step.Name));
        Assert.Equal(left, Made(Plan()));
        Assert.Equal(File.ReadAllBytes(Path.Combine(whole.Path, "editor", "editor.safetensors")),
            File.ReadAllBytes(Path.Combine(_folder["editor"], "editor.safetensors")));
    }

    [Fact]
    public void AStoppedTraining_IsNotBegunAgain()
    {
        whole.CopyTo(_folder, "data", "model");
        using var stop = new CancellationTokenSource();
        var reached = 0.0;
        Assert.ThrowsAny<OperationCanceledException>(() => new Reproduction(_folder.Path, Plan(), TimeProvider.System).Run(at =>
        {
            if (at.Step.Name != "editor" || at.Done == 0)
                return;
            reached = at.Done;
            stop.Cancel();
        }, stop.Token));
        var shares = new List<double>();
        new Reproduction(_folder.Path, Plan(), TimeProvider.System).Run(at => shares.Add(at.Done));
        Assert.Equal((0, 1), (shares[0], shares[^1]));
        Assert.All(shares[1..], share => Assert.True(share > reached, $"{share} again, after {reached}"));
    }

    [Fact]
    public void OtherSettings_MakeTheStepAgain_AndWhatCameOfIt()
    {
        whole.CopyTo(_folder, AllSteps);
        Assert.Equal(["editor"], Made(Plan(rank: 3)));
        Assert.Equal(["model", "editor"], Made(Plan(rank: 3, steps: 3)));
        Assert.Equal(["data", "model", "editor"], Made(Plan(rank: 3, steps: 3, seed: 2)));
    }

    [Fact]
    public void WhatAKilledProcessLeft_IsNoProduct()
    {
        whole.CopyTo(_folder, AllSteps);
        File.Delete(_folder["model/step.json"]);
        File.WriteAllText(_folder["model/rest"], "half a model");
        Assert.Equal(["model"], Made(Plan()));
        Assert.False(File.Exists(_folder["model/rest"]));
    }

    [Fact]
    public void OfTheRecordAlone_NothingIsMadeAgain_ButWhatANewStepNeeds()
    {
        whole.CopyTo(_folder, AllSteps);
        foreach (var file in Directory.EnumerateFiles(_folder.Path, "*", SearchOption.AllDirectories).Where(file => Path.GetFileName(file) != "step.json"))
            File.Delete(file);
        var record = new Reproduction(_folder.Path, Plan(), TimeProvider.System);
        Assert.Equal(new Reproduction(whole.Path, Plan(), TimeProvider.System).Product(Plan().Steps[^1]), record.Product(Plan().Steps[^1]));
        Assert.Empty(Made(Plan()));

        Assert.Equal(AllSteps, Made(Plan(rank: 3))); // another editor needs data and model
        Assert.Empty(Made(Plan(rank: 3)));
    }

    private static string[] AllSteps => ["data", "model", "editor"];

    private List<string> Made(ReproductionPlan plan) => Made(plan, _folder.Path);

    private static List<string> Made(ReproductionPlan plan, string folder)
    {
        var made = new List<string>();
        var count = new Reproduction(folder, plan, TimeProvider.System).Run(at =>
        {
            if (made.LastOrDefault() != at.Step.Name)
                made.Add(at.Step.Name);
        });
        Assert.Equal(count, made.Count);
        return made;
    }

    /// <summary>Data, a model of some steps and an editor of 100 iterations, which tells of itself after 50.</summary>
    private static ReproductionPlan Plan(int rank = 2, long steps = 100, ulong seed = 1) => new(true,
    [
        new("data", [], 1, new DataWork(EditTaskKind.Fc, seed)),
        new("model", ["data"], 1, new ModelWork(EditTaskKind.Fc, new SmallBertOptions
        {
            Vocabulary = 256, BatchSize = 2, HiddenSize = 8, IntermediateSize = 8, NumHiddenLayers = 1, NumAttentionHeads = 1,
                RecognitionSteps = 50, Training = new() { Steps = steps },
        })),
        new("editor", ["data", "model"], 1, new EditorWork(EditTaskKind.Fc, new()
        {
            Mend = new() { Rank = rank }, AccumulateBs = 2, ValInterval = 50, ValSteps = 2, MaxIters = 100, Seed = 1,
        })),
    ]);
}
