using MendCluster.Contracts;
using MendCluster.Engine.Training;
using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

public sealed class TrainingReportsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void CurvesAreDrawn_OfTheFiguresThatThereAre_AndARunWithoutAnyHasNone()
    {
        var run = new RunFolder(_folder["run"]);
        TrainingReports.DrawCurves(run);
        Assert.False(Directory.Exists(run.Directory));
        run.Start(new EditorTrainingOptions(), 0);
        run.Log(new { kind = "training", iteration = 100, total = 2.5 });
        run.Log(new { kind = "validation", iteration = 100, total = double.NaN, seconds = 60.0 });
        run.Log(new { kind = "validation", iteration = 200, total = 1.5, seconds = 60.0 });
        File.AppendAllText(run.Metrics, "{\"kind\": \"train"); // a crash
        TrainingReports.DrawCurves(run);
        Assert.StartsWith("<svg", File.ReadAllText(run.Curves), StringComparison.Ordinal);
    }

    [Fact]
    public void TheCostOfATraining_IsTheTimeOfItsValidations_AndTheMostMemory()
    {
        var run = new RunFolder(_folder["run"]);
        Assert.False(TrainingReports.IsMeasured(run));
        run.Start(new EditorTrainingOptions { Edits = 3 }, 0);
        run.Log(new { kind = "validation", iteration = 100, total = 2.0, seconds = 60.0 });
        run.Log(new { kind = "validation", iteration = 200, total = 1.5, seconds = 30.0 });
        run.LogMemory(200, 7_000_000);
        Assert.True(TrainingReports.IsMeasured(run));
        Assert.Equal(["MEND", "3", "200", "1.5", "7"], TrainingReports.Costs([("MEND", TrainingReports.Cost(run))]).Rows[0]);
    }
}
