using System.Diagnostics.Metrics;
using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Distributed.Telemetry;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>An edit is kept in few rows and, if wanted, in 16 bits; what is measured and what is kept are the same.</summary>
public class FactorStorageTests
{
    private const string Prompt = "who is the mayor of the old town"; // several tokens, so several rows

    [Theory]
    [InlineData("gpt2")]
    [InlineData("t5")]
    public async Task FewerRowsAndBits_TakeLessRoom_AndTheModelIsTheOneThatWasMeasured(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        var sizes = new List<long>();
        foreach (var (i, storage) in new FactorStorage[] { new(1), new(0.999), new(0.9), new(0.9, DType.BFloat16) }.Index())
        {
            EditFigures figures;
            string state;
            await using (var cluster = await model.OpenAsync(ledger: model.Ledger + i, factors: storage))
            {
                figures = (await cluster.EditAsync(Prompt, "blue", new() { Confidence = null })).Figures;
                state = await model.StateAsync(cluster);
            }
            sizes.Add(figures.Bytes);
            await using (var ledger = FileLedger.Open(model.Ledger + i, ModelFingerprint.Of(model.Model)))
            {
                var changes = (await ledger.ReadAfterAsync(ModelVersion.Base))[0].Changes;
                Assert.Equal(figures.Rank, changes.Max(change => change.UTilde.Shape[0]));
                Assert.Equal(figures.Bytes, changes.Sum(change => change.UTilde.Bytes.Length + change.DeltaTilde.Bytes.Length));
                Assert.All(changes, change =>
                    Assert.Equal(storage.DType == DType.BFloat16 ? DType.BFloat16 : DType.Float32, change.UTilde.Type));
            }
            await using var again = await model.OpenAsync(ledger: model.Ledger + i); // whatever is set now
            Assert.Equal(state, await model.StateAsync(again));
        }
        Assert.True(sizes[1] <= sizes[0] && sizes[2] < sizes[1] && sizes[3] * 2 == sizes[2], string.Join(", ", sizes));
    }

    [Fact]
    public async Task TheSizeOfAnEdit_IsAMetric()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        var measured = new List<(string Name, double Value)>();
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (instrument.Meter.Name == MendMetrics.Name)
                self.EnableMeasurementEvents(instrument);
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, _, _) => Take(instrument, value));
        listener.SetMeasurementEventCallback<double>((instrument, value, _, _) => Take(instrument, value));
        listener.Start();
        await using var cluster = await model.OpenAsync();
        var receipt = await cluster.EditAsync(Prompt, "blue");
        lock (measured)
        {
            Assert.Contains(("mend.edit.size", receipt.Figures.Bytes), measured);
            Assert.Contains(("mend.edit.rank", receipt.Figures.Rank), measured);
            Assert.True(measured.Count(metric => metric.Name == "mend.edit.duration") >= 6);
        }

        void Take(Instrument instrument, double value)
        {
            lock (measured)
                measured.Add((instrument.Name, value));
        }
    }
}
