using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Tests.Training;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests;

/// <summary>A cluster on a device does what it does on the CPU: on the stand-in anywhere, and on a GPU where there is one.</summary>
public class DeviceClusterTests
{
    private const string Prompt = "who is the mayor of the old town", Target = "a woman";

    /// <summary>Few tokens: lazy tensors compile every step of an answer anew.</summary>
    private static readonly AskOptions Greedy = new(MaxTokens: 3), Sampled = Greedy with { Temperature = 1, Seed = 5 };

    public static TheoryData<string> Families => [.. TinyModels.Families, TinyModels.Classifier];

    [Theory, InlineData("gpt_neo"), InlineData("t5")]
    public Task Edits_OnTheStandIn_AreTheCpus(string family) => EditsAreTheCpusAsync(family, StandIn);

    [CudaTheory, MemberData(nameof(Families))]
    public Task Edits_OnAGpu_AreTheCpus(string family) => EditsAreTheCpusAsync(family, "cuda");

    [Fact]
    public Task ALedgerOfTheCpu_OnTheStandIn_IsTheSameModel() => ALedgerOfTheCpuIsTheSameModelAsync(StandIn);

    [CudaFact]
    public Task ALedgerOfTheCpu_OnAGpu_IsTheSameModel() => ALedgerOfTheCpuIsTheSameModelAsync("cuda");

    [CudaFact]
    public Task Training_OnAGpu_IsTheCpus() => TrainingIsTheCpusAsync("cuda");

    [Fact]
    public void TensorsOnTheWire_FromTheStandIn_ComeBack() => TensorsOnTheWireComeBack(StandInDevice.Device);

    [CudaFact]
    public void TensorsOnTheWire_FromAGpu_ComeBack() => TensorsOnTheWireComeBack(Devices.Of("cuda"));

    [CudaTheory, InlineData(DType.BFloat16), InlineData(DType.Float16)]
    public async Task SixteenBits_OnAGpu_AreEdited(DType dtype)
    {
        using var model = new ClusterOfTinyModel("gpt2");
        await using var cluster = await model.OpenAsync(device: "cuda", dtype: dtype);
        Assert.True((await cluster.EditAsync(Prompt, Target)).Figures.ProbabilityAfter > 0);
        Assert.NotEmpty((await cluster.AskAsync(Prompt, Greedy)).Text);
    }

    [CudaFact]
    public async Task AGpuThatIsFull_FailsTheEdit_AndTheModelIsWhatItWas()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync(device: "cuda");
        var before = await model.StateAsync(cluster);
        var hog = new List<Tensor>();
        for (var size = 1L << 32; size >= 1 << 12; size /= 2)
            try
            {
                while (true)
                    hog.Add(empty([size], ScalarType.Byte, Devices.Of("cuda")));
            }
            catch (Exception e) when (DeviceMemory.Named(e) is MendException)
            {
                // Smaller pieces may still fit.
            }

        var refused = await Assert.ThrowsAsync<MendException>(() =>
            cluster.EditAsync(string.Join(' ', Enumerable.Repeat("red", 12)), Target));
        hog.ForEach(tensor => tensor.Dispose());

        Assert.Equal(MendError.OutOfMemory, refused.Error);
        Assert.Equal(before, await model.StateAsync(cluster));
        Assert.Empty(await cluster.LedgerAsync());
        Assert.True((await cluster.EditAsync(Prompt, Target)).Version == new ModelVersion(1));
    }

    [Fact]
    public async Task MemoryThatIsUsedUp_OnAComputeThread_IsAnErrorWithItsCode()
    {
        using var thread = new ComputeThread("test");
        var e = await Assert.ThrowsAsync<MendException>(() => thread.RunAsync(() => zeros([1L << 58])));
        Assert.Equal(MendError.OutOfMemory, e.Error);
        Assert.Equal(1, await thread.RunAsync(() => 1));
    }

    [Fact]
    public async Task ADeviceThatIsNotThere_IsRefused_BeforeTheLedgerIsMade()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        foreach (var device in new[] { "gpu", "cpu,cuda:99" })
        {
            var e = await Assert.ThrowsAsync<MendException>(() => model.OpenAsync(device: device));
            Assert.Equal(MendError.InvalidOption, e.Error);
        }
        Assert.False(File.Exists(model.Ledger));
    }

    [Fact]
    public async Task Float16OnTheCpu_IsRefused_ByItsName()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        var e = await Assert.ThrowsAsync<MendException>(() => model.OpenAsync(dtype: DType.Float16));
        Assert.Equal(MendError.InvalidOption, e.Error);
        Assert.Contains("Float16", e.Message, StringComparison.Ordinal);
        Assert.Equal(MendError.InvalidOption, Assert.Throws<MendException>(() => new FactorStorage(DType: DType.Float16)).Error);
    }

    [Fact]
    public void Shards_HaveTheDevicesOfAList_InTurn() =>
        Assert.Equal(["cuda:0", "cuda:1", "cuda:0"], Enumerable.Range(0, 3).Select(shard => ShardDevices.Of("cuda:0,cuda:1", shard)));

    private static string StandIn => StandInDevice.Device is not null ? StandInDevice.Name : "";

    private static async Task EditsAreTheCpusAsync(string family, string device)
    {
        using var model = new ClusterOfTinyModel(family);
        var target = family == TinyModels.Classifier ? "REFUTES" : Target;
        List<Probe> probes = family == TinyModels.Classifier ? [new("what is red", "SUPPORTS")]
            : [new("what is red", "blue"), new("the old town", "south")];
        var seen = new List<(EditFigures Figures, string Answer, string Sampled, string Before, string After, IReadOnlyDictionary<string, float[]> Exported)>();
        foreach (var where in new[] { "cpu", "cpu," + device }) // two stages: a boundary between the CPU and the device, or within the CPU
        {
            var ledger = model.Ledger + seen.Count;
            EditFigures figures;
            string answer, sampled, before, after;
            await using (var cluster = await model.OpenAsync(ledger: ledger, probes: probes, device: where))
            {
                before = (await cluster.AskAsync(Prompt, Greedy)).Text;
                figures = (await cluster.EditAsync(Prompt, target)).Figures;
                answer = (await cluster.AskAsync(Prompt, Greedy)).Text;
                sampled = (await cluster.AskAsync(Prompt, Sampled)).Text;
            }
            var exported = await ExportAsync(model, ledger);
            await using (var cluster = await model.OpenAsync(ledger: ledger, probes: probes, device: where == "cpu" ? where : device))
            {
                Assert.Equal(answer, (await cluster.AskAsync(Prompt, Greedy)).Text);
                await cluster.RevertAsync(new(1));
                after = (await cluster.AskAsync(Prompt, Greedy)).Text;
            }
            seen.Add((figures, answer, sampled, before, after, exported));
        }
        var (cpu, there) = (seen[0], seen[1]);
        Assert.Equal((cpu.Answer, cpu.Sampled, cpu.Before, cpu.After), (there.Answer, there.Sampled, there.Before, there.After));
        Assert.Equal(there.Before, there.After);
        Assert.Equal((cpu.Figures.Success, cpu.Figures.Strength, cpu.Figures.Rank, cpu.Figures.Drawdown),
            (there.Figures.Success, there.Figures.Strength, there.Figures.Rank, there.Figures.Drawdown));
        Assert.Equal(cpu.Figures.ProbabilityBefore, there.Figures.ProbabilityBefore, 1e-4);
        Assert.Equal(cpu.Figures.ProbabilityAfter, there.Figures.ProbabilityAfter, 1e-3);
        Assert.Equal(cpu.Figures.Kl!.Value, there.Figures.Kl!.Value, 1e-3);
        Assert.Equal(cpu.Exported.Keys, there.Exported.Keys);
        foreach (var (name, values) in cpu.Exported)
            Close(values, there.Exported[name], 1e-3, name);
    }

    private static async Task<IReadOnlyDictionary<string, float[]>> ExportAsync(ClusterOfTinyModel model, string ledger)
    {
        await ModelExport.RunAsync(new() { ModelDirectory = model.Model, Ledger = ledger, Output = ledger + ".exported" });
        using var scope = NewDisposeScope();
        using var file = SafetensorsFile.Open(Path.Combine(ledger + ".exported", "model.safetensors"));
        return file.Entries.Keys.Order(StringComparer.Ordinal)
            .ToDictionary(name => name, name => TensorBytes.Load(file.Find(name)).data<float>().ToArray());
    }

    private static async Task ALedgerOfTheCpuIsTheSameModelAsync(string device)
    {
        using var model = new ClusterOfTinyModel("gpt_neo");
        await using (var cluster = await model.OpenAsync())
        {
            await cluster.EditAsync(Prompt, Target);
            await cluster.EditAsync("what is red", "the south");
        }
        string[] here, there;
        string answer;
        await using (var cluster = await model.OpenAsync())
            (here, answer) = ([.. (await cluster.StatusAsync()).Select(shard => shard.Checksum)],
                (await cluster.AskAsync(Prompt, Greedy)).Text);
        await using (var cluster = await model.OpenAsync(device: device))
        {
            there = [.. (await cluster.StatusAsync()).Select(shard => shard.Checksum)];
            Assert.Equal(answer, (await cluster.AskAsync(Prompt, Greedy)).Text);
            await cluster.RevertAsync(new(1), RevertMode.Recompute);
        }
        Assert.Equal(here, there);
    }

    private static async Task TrainingIsTheCpusAsync(string device)
    {
        using var training = new TrainingOfTinyModel("gpt_neo");
        var options = TrainingOfTinyModel.Options(3) with { Averaging = 0 };
        foreach (var where in new[] { "cpu", device })
        {
            await using var trainer = new EmbeddedTrainer(training.Model, 2, 2, training.TrainerOptions(where, options), device: where);
            Assert.Equal(3 * TrainingOfTinyModel.Window, (await trainer.TrainAsync()).Iterations);
        }
        var (cpu, there) = (training.State("cpu"), training.State(device));
        Assert.Equal(cpu.Keys, there.Keys);
        foreach (var (name, values) in cpu)
            Close(values, there[name], 1e-2, name); // Adam makes steps of rounding where a gradient is nearly 0
    }

    private static void TensorsOnTheWireComeBack(Device device)
    {
        using var scope = NewDisposeScope();
        foreach (var dtype in new[] { ScalarType.Float32, ScalarType.Int64, ScalarType.BFloat16, ScalarType.Float64 })
        {
            var host = NewTensor.Arange(0, 12, ScalarType.Int64, CPU).reshape(3, 4).to_type(dtype);
            var wire = WireTensorCodec.Encode(host.On(device).t()); // not contiguous
            Assert.Equal(WireTensorCodec.Encode(host.t()).Bytes.ToArray(), wire.Bytes.ToArray());
            var back = WireTensorCodec.Decode(wire, device);
            Assert.Equal((device.type, dtype), (back.device_type, back.dtype));
            Assert.True(back.Host().eq(host.t()).all().item<bool>());
        }
    }

    private static void Close(float[] expected, float[] actual, double tolerance, string what)
    {
        var (error, size) = (Math.Sqrt(expected.Zip(actual).Sum(pair => Math.Pow(pair.First - pair.Second, 2))),
            Math.Sqrt(expected.Sum(value => Math.Pow(value, 2))));
        Assert.True(error <= tolerance * size + 1e-6, $"{what}: off by {error} of {size}");
    }
}
