using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

public sealed class MeasurementStoreTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private int _measured;

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void WhatWasMeasured_IsNotMeasuredAgain_AndComesBackWhole()
    {
        var first = Get("FT+KL 1", Reports.Of("FT+KL"));
        var again = Get("FT+KL 1", Reports.Of("FT+KL"));
        Assert.Equal(1, _measured);
        Assert.Equal((first.Editor, first.Edits, first.Batches, first.Summary, first.PerBatch, first.PeakBytes, first.Protocol),
            (again.Editor, again.Edits, again.Batches, again.Summary, again.PerBatch, again.PeakBytes, again.Protocol));
        Assert.Equal(first.Cases.SelectMany(result => result.Rephrases), again.Cases.SelectMany(result => result.Rephrases));
        Assert.Equal(["ft-kl-1.json"], Directory.GetFiles(_folder["measured"]).Select(Path.GetFileName)); // nothing half-written beside it
    }

    [Fact]
    public void AnotherProtocol_IsMeasuredAgain()
    {
        var report = Reports.Of("MEND");
        Get("MEND 1", report);
        Get("MEND 1", report with { Protocol = report.Protocol with { Editor = "another file" } });
        Assert.Equal(2, _measured);
        Get("MEND 1", report with { Protocol = report.Protocol with { Editor = "another file" } });
        Assert.Equal(2, _measured);
    }

    [Fact]
    public void AFileThatIsNoMeasurement_IsMeasuredAgain()
    {
        Get("MEND 1", Reports.Of("MEND"));
        File.WriteAllText(_folder["measured/mend-1.json"], "{\"editor\": ");
        Get("MEND 1", Reports.Of("MEND"));
        File.WriteAllText(_folder["measured/mend-1.json"], "{}");
        Get("MEND 1", Reports.Of("MEND"));
        Assert.Equal(3, _measured);
    }

    [Fact]
    public void ARuinedModelsFigures_AreKept()
    {
        var report = Reports.Of("FT");
        var ruined = report with { Summary = report.Summary with { PerplexityDrawdown = new(double.PositiveInfinity, 1, double.NaN, 2) } };
        Get("FT 1", ruined);
        Assert.Equal(ruined.Summary, Get("FT 1", ruined).Summary);
        Assert.Equal(1, _measured);
    }

    private EditorReport Get(string name, EditorReport report) =>
        new MeasurementStore(_folder["measured"]).GetOrMeasure(name, report.Protocol, () =>
    {
        _measured++;
        return report;
    });
}
