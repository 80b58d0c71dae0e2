using System.Reflection;
using System.Text;
using MendCluster.Contracts;
using MendCluster.Grains.Interfaces;
using MendCluster.Testing;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Serialization;

namespace MendCluster.Orleans.Tests;

public sealed class ContractSerializationTests : IDisposable
{
    /// <summary>Records instead of comparing.</summary>
    private const string Update = "MEND_UPDATE";

    private static readonly WireTensor Tensor = new(DType.Float32, [2, 3], Enumerable.Range(0, 24).Select(i => (byte)i).ToArray());
    private static readonly WireTensor Empty = new(DType.Int64, [0, 4], default);
    private static readonly EditFigures Figures = new(true, 0.1, 1 / 3.0, 2, -0.5, double.NaN, 1.25, 3, 4)
    { TotalDrawdown = 0.25, TotalKl = 0.5, BudgetLeft = -1 };

    private static readonly TokenBatch Batch = new(Tensor, Empty, Tensor, Tensor, Tensor);
    private static readonly Boundary Edge = new(Tensor, Empty);
    private static readonly EditorTrainingOptions Options = new()
    {
        Algorithm = EditorAlgorithm.Malmen,
        Mend = new()
        {
            Rank = 2,
            NHidden = 3,
            Init = EditorInit.Xavier,
            Sides = EditorSides.Smaller,
            Norm = false,
            Shared = false,
            EditLr = 0.1,
            Reference = true
        },
        Ke = new() { HiddenDim = 2, ConditionDim = 3, MaxScale = 0.5 },
        Enn = new() { EditSteps = 2, EditLr = 0.1, FirstOrder = true },
        Malmen = new() { Rank = 2, NBlocks = 3, EditLr = 0.1, Lambda = 2, EditorBatch = 4, ModelBatch = 5, Rounds = 6, Beta = 7 },
        Edits = 2,
        UnrelatedRows = 3,
        Editable = ["a.*", "b"],
        Loss = new(0.2, 0.3),
        Lr = 0.1,
        LrLr = 0.2,
        AccumulateBs = 3,
        GradClip = 4,
        FinalRate = 0.5,
        Averaging = 0.6,
        MaxIters = 7,
        ValInterval = 8,
        ValSteps = 9,
        EarlyStopPatience = 10,
        Seed = 11,
    };
    private static readonly StageTrip Trip = new(-1, new(2), new(Tensor, Empty, null, null, null), Edge, "s", 4, 5, new(6));
    private static readonly StepFigures Steps = new(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    private static readonly RowStatistics Rows = new("w", 1, Tensor, Tensor, Tensor, Empty);

    private static readonly Consolidated Together = new([new(1), new(2)], new(0.5, 0.25, null, null), new(1, 0.75, 0.1, 0.2), 3, 4);

    private static readonly EditRoute Route = new(1) { Vectors = "AACAPw==" };

    private readonly ServiceProvider _services = new ServiceCollection().AddSerializer().BuildServiceProvider();

    /// <summary>One of each kind of record, with every property set.</summary>
    private static readonly object[] Records =
    [
        new EditId(3), new AnswerPart("r", new(3), 2, true),
            new LedgerQuery { After = new(1), Limit = 2, Text = "t", Scope = "s", VisibleScopes = ["s"], Author = "a",
            Kind = LedgerKind.Edit, Edit = new(1), NewestFirst = true },
        new ShardReport(new(1, 2), new(ShardState.Ready, new(1), 2, 3, ["a"], 5, null, "ab12", 9)), new ParaphrasePreview("p", "a", "b"),
            new ModelVersion(long.MaxValue),
            new EditOptions { MaxDrawdown = 0.1, RequireSuccess = true, IdempotencyKey = "k\"\u00e9\U0001F600", Author = "", Scope = "s",
            Paraphrases = ["p"], MaxTotalDrawdown = 0.2, MaxTotalKl = 0.3 },
        Figures, new EditTimes(new(1), new(2), new(3), new(4), new(5), new(6)), new EditReceipt(new(1), new(2), Figures, EditTimes.Zero),
            new RevertReceipt(new(1), new(2), 3),
        new AskOptions(1, 0.7, 3, 0.9, 5, "s"), new Answer("red", new(4)),
        new LedgerEntry(new(1), new DateTimeOffset(2026, 1, 2, 3, 4, 5, 6, 7, TimeSpan.Zero), LedgerKind.Revert, new(1), "p", "t", "a", "k",
            Figures, "s", 0.9, RevertMode.Recompute, 2, Together, Route),
        Route,
        Together, Together.After, new ConsolidateOptions { Scope = "s", MaxTime = new(7), Share = 0.25, MaxRank = 3, Author = "a", Without = [new(1)] },
            new ConsolidationReceipt(new(1), new(2), Together, 3, new(4)), new BeginFitRequest(1, new(2), [new(3)], 4, true),
            new StepFitRequest(1, 2, 0.5, 0.25), new FitReply([new("w", Tensor, Tensor, 1)]),
        new WeightChange("w", Tensor, Empty, 0.1f, new(7), Tensor),
            new LedgerRecord(new(new(1), default, LedgerKind.Edit, new(1)), [new("w", Tensor, Empty, float.NegativeInfinity)]),
        new ShardStatus(ShardState.Faulted, new(1), 2, 3, ["a", "b"], 5, "why", "ab12", 9, 0.5), Tensor,
            new TokenBatch(Tensor, Empty, Tensor, Tensor, Tensor),
        Trip, new StageResult(Edge, 8), new ExampleScore(true, double.NegativeInfinity), new GenerateRequest(Trip, 3, new(Seed: 4), 0.5, true),
            new GenerateReply(new(Edge, 8), 3, Tensor),
        new ForwardRequest(Trip, true, true, 5, [3]), new ForwardReply(new(Edge, 8), [new(false, -1)]), new TrialRequest(Trip, 0.5, new(1, 2, 3), true, [0.5, null], true, [3]),
            new ProbePass(1, 2, 3), new TrialReply(new(Edge, 8), [new(false, -1)], 0.5, 0.75),
        new BackwardRequest(1, Edge), new BackwardReply(Edge, [[new("w", Tensor, Tensor, 1)], []], new(7), 3),
        new BranchRequest(1, new(2), true, [new(3)], [new(new(new(1), default, LedgerKind.Edit, new(1)), [])]),
            new ProbeChange("q", "a", true, false, 0.5, 0.25), new WeightPreview("w", 3, 0.5),
        new EditPreview(new(1), Figures, "why", "a", "b", [new("q", "a", true, false, 0.5, 0.25)], [new("w", 3, 0.5)],
            EditTimes.Zero) { Paraphrases = [new("p", "a", "b")] },
        new TrainingJobRequest(Options, "d", "r", true), new TrainingProgress(1, 2, double.NaN, 0.5, 3),
            new TrainingResult(1, "max_iters", 1e9, 2),
        new TrainingStatus("r", TrainingState.Failed, new(1, 2, double.NaN, 0.5, 3), new(1, "max_iters", 1e9, 2), "why"), Steps,
            new ShardPlace(1, 2), new TrainingSetup(Options, 2, true),
        Options, Options.Mend, Options.Ke, Options.Enn, Options.Malmen, Options.Loss,
        new TrainingShardStatus(["w"], ["(1, 2)"]), new StateSlice("s", 1L << 40, 3), Rows, new OptimizerProgress(1, 2, 3, [Rows]),
            new TrainingRound(1, RoundKind.Validation, 2),
        new TrainingExample(Batch, Batch, Batch), Edge, new RecordRequest(1, 2, Batch, Edge, true), new PassBackward(1, 2, [Edge, Edge]),
            new RecordedReply(Edge, [Rows], true),
        new ProposeRequest(1, [2], [Rows]), new EvaluateRequest(1, 2, Batch, Batch, Edge, Edge, Edge, true),
            new EvaluateReply(Edge, Edge, Edge, Steps), new EvaluatedReply([Edge], true),
        new GradientRequest(1, [2, 3], 0.1), new Ring("g", [new(0, 1), new(1, 0)]), new ReduceRequest(1, [new("g", [new(0, 1)])]),
            new GradientNorm("g", double.PositiveInfinity),
        new ReduceReply([new("g", 0.1)], new(1, 2), "why"), new RingChunk(1, "g", 2, 3, Tensor), new CommitRequest(1, 0.1, 0.2),
            new GroupDigest("g", "0a"),
    ];

    public void Dispose() => _services.Dispose();

    [Fact]
    public void EveryRecord_ArrivesAsItWas()
    {
        foreach (var record in Records)
        {
            var arrived = RoundTrip(record);
            Assert.IsType(record.GetType(), arrived);
            Assert.Equivalent(record, arrived, strict: true);
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(1_000_003)]
    public void ATensorsBytes_ArriveAsTheyWere(int length)
    {
        var bytes = Enumerable.Range(0, length).Select(i => (byte)(i * 7)).ToArray();
        var arrived = (WireTensor)RoundTrip(new WireTensor(DType.Float32, [-1, length], bytes));
        Assert.Equal(DType.Float32, arrived.Type);
        Assert.Equal([-1, length], arrived.Shape);
        Assert.True(arrived.Bytes.Span.SequenceEqual(bytes));
    }

    [Fact]
    public void ANullWhereTheDefaultIsAnother_StaysNull() =>
        Assert.Null(((EditOptions)RoundTrip(new EditOptions { Confidence = null })).Confidence);

    [Fact]
    public void EveryKindOfRecord_IsTried()
    {
        var kinds = typeof(IModelShard).Assembly.GetExportedTypes().Where(type =>
            type.IsDefined(typeof(GenerateSerializerAttribute), inherit: false) && !type.IsEnum && type != typeof(MendException))
            .Append(typeof(WireTensor)); // which has a codec of its own
        Assert.Equal(kinds.OrderBy(type => type.Name), Records.Select(record => record.GetType()).OrderBy(type => type.Name));
    }

    [Fact]
    public void Numbers_KeepTheirBits()
    {
        var score = (ExampleScore)RoundTrip(new ExampleScore(true, -0.1 - 1e-17));
        Assert.Equal(BitConverter.DoubleToInt64Bits(-0.1 - 1e-17), BitConverter.DoubleToInt64Bits(score.LogProbability));
        var change = (WeightChange)RoundTrip(new WeightChange("w", Tensor, Tensor, 1e-38f));
        Assert.Equal(BitConverter.SingleToInt32Bits(1e-38f), BitConverter.SingleToInt32Bits(change.Alpha));
    }

    [Fact]
    public void WithinASilo_ATensorIsHandedOverAndNotCopied() =>
        Assert.Same(Tensor, _services.GetRequiredService<DeepCopier>().Copy<object>(Tensor));

    [Fact]
    public void AFailure_KeepsCodeMessageAndHint()
    {
        var e = new MendException(MendError.TooLong, "It has 9.", "Shorten it.");
        var arrived = Assert.IsType<MendException>(RoundTrip(e));
        Assert.Equal((e.Error, e.Message, e.Hint, e.IsTransient), (arrived.Error, arrived.Message, arrived.Hint, arrived.IsTransient));
    }

    [Fact]
    public void AMessageCutAnywhere_IsRefused()
    {
        var whole = Write(new TrialReply(new(Edge, 3), [new(false, -1)], 0.5));
        for (var length = 0; length < whole.Length; length++)
            Assert.ThrowsAny<Exception>(() => Read(whole.AsSpan(0, length)));
    }

    [Fact]
    public void ALengthThatLies_AllocatesNothing()
    {
        var bytes = Write(Tensor);
        var at = bytes.AsSpan().IndexOf(Tensor.Bytes.Span) - 1; // the one byte of its length
        byte[] lying = [.. bytes.AsSpan(0, at), 0xF0, 0xFF, 0xFF, 0xFF, 0xFF, .. bytes.AsSpan(at + 1)];
        var before = GC.GetAllocatedBytesForCurrentThread();
        Assert.ThrowsAny<Exception>(() => Read(lying));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 20);
    }

    [Fact]
    public void AMessageThatIsTooLong_IsRefused_AndNamesItsTensor()
    {
        var large = new WireTensor(DType.Float32, [1 << 28], new byte[WireTensorFieldCodec.MaxMessageBytes]);
        var refused = Assert.Throws<MendException>(() => Write(new StageResult(new(Tensor, large), 1)));
        Assert.Equal(MendError.TooLong, refused.Error);
        Assert.Contains("[268435456]", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>
    /// Programs of one protocol stand beside each other in an update: what the first of them wrote is read, and what they read is written.
    /// A record that changes so that they do not understand it asks for another <see cref="WireProtocol.Version"/>; one that only has more
    /// is recorded anew.
    /// </summary>
    [Fact]
    public void EveryRecord_IsOnTheWireAsItWasRecorded()
    {
        var file = Path.Combine(FixtureFolder.Repository, "tests", "Orleans.Tests", "Recorded", $"protocol-{WireProtocol.Version}.tsv");
        var written = Records.Select(record =>
            $"{record.GetType().GetCustomAttribute<AliasAttribute>()!.Alias}\t{Convert.ToBase64String(Write(record))}").ToList();
        if (Environment.GetEnvironmentVariable(Update) == "1")
            File.WriteAllLines(file, written);
        var recorded = File.ReadAllLines(file).Select(line => line.Split('\t')).ToDictionary(line => line[0], line => line[1]);
        foreach (var (record, line) in Records.Zip(written))
        {
            var (name, bytes) = (line.Split('\t')[0], line.Split('\t')[1]);
            Assert.True(recorded.ContainsKey(name), $"{name} is not recorded; {Update}=1 does it");
            Assert.Equivalent(record, Read(Convert.FromBase64String(recorded[name])), strict: true);
            Assert.True(bytes == recorded[name], $"{name} is another on the wire than in {file}. Do programs of this version that are in use "
                + $"understand it? Then {Update}=1 records it, else WireProtocol.Version goes up.");
        }
    }

    [Fact]
    public void EveryRecord_HasAWireNameOfItsOwn_ThatARenameLeaves()
    {
        var names = Records.Select(record => record.GetType().GetCustomAttribute<AliasAttribute>()?.Alias).ToList();
        Assert.All(names, name => Assert.StartsWith("mend.", name, StringComparison.Ordinal));
        Assert.Equal(names.Count, names.Distinct().Count());
        foreach (var (record, name) in Records.Zip(names))
            Assert.Contains(name!, Encoding.UTF8.GetString(Write(record)), StringComparison.Ordinal);
    }

    private object RoundTrip(object value) => Read(Write(value));

    private byte[] Write(object value) => _services.GetRequiredService<Serializer>().SerializeToArray(value);

    private object Read(ReadOnlySpan<byte> bytes) => _services.GetRequiredService<Serializer>().Deserialize<object>(bytes.ToArray())!;
}
