using System.Diagnostics.Metrics;
using MendCluster.Distributed.Telemetry;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

[Collection(nameof(MemoryTests))] // no other cluster counts meanwhile
public sealed class PipelineMetricsTests
{
    /// <summary>Of requests one after another no two stages compute at once, so their times have room in the replica's.</summary>
    [Fact]
    public async Task StagesAreBusy_WhileTheirReplicaIsCalled()
    {
        var (busy, active) = (new Dictionary<int, double>(), 0d);
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, self) =>
            {
                if (instrument.Meter.Name == MendMetrics.Name && instrument.Name is "mend.shard.busy" or "mend.pipeline.active")
                    self.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) =>
        {
            lock (busy)
                if (instrument.Name == "mend.pipeline.active")
                    active += value;
                else
                    busy[(int)tags[1].Value!] = busy.GetValueOrDefault((int)tags[1].Value!) + value;
        });
        listener.Start();
        using var model = new ClusterOfTinyModel("gpt2");
        await using (var cluster = await model.OpenAsync(stages: 2))
        {
            await cluster.EditAsync("who is the mayor of the old town", "blue");
            await cluster.AskAsync("what is red");
        }
        Assert.Equal([0, 1], busy.Keys.Order());
        Assert.All(busy.Values, time => Assert.True(time > 0));
        Assert.InRange(active, busy.Values.Sum(), double.MaxValue);
    }
}
