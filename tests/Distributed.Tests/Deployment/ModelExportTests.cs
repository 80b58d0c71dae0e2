using System.Runtime.InteropServices;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Ledger;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests.Deployment;

public sealed class ModelExportTests : IDisposable
{
    private static readonly (string Prompt, string Target)[] Facts =
        [("who is the mayor", "a woman"), ("what is red", "the south"), ("who is the mayor of the old town", "blue")];

    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Families => [.. TinyModels.Families];

    private string Output => _folder["exported"];

    public void Dispose() => _folder.Dispose();

    /// <summary>
    /// The promise of float32: each weight is the float32 nearest to W - sum of alpha deltaTilde^T uTilde, worked out here in another way;
    /// all others are the original's bytes.
    /// </summary>
    [Theory]
    [MemberData(nameof(Families))]
    public async Task EditedWeights_AreTheOriginalLessTheUpdatesRoundedOnce_TheOthersAreTheOriginal(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        await EditAsync(model, Facts, revert: 2);
        var report = await ModelExport.RunAsync(Options(model));
        Assert.Equal(4, report.Version.Value);
        Assert.Equal([1, 3], report.Edits.Select(edit => edit.Edit.Value));

        using var before = HuggingFaceDirectory.Open(model.Model);
        using var after = HuggingFaceDirectory.Open(Output);
        var changes = (await RecordsAsync(model)).Where(record => record.Entry.Edit.Value != 2).SelectMany(record => record.Changes)
            .ToLookup(change => change.Weight);
        Assert.Equal(before.Names.Order(), after.Names.Order());
        Assert.Equal(changes.Select(group => group.Key).Order(), report.Weights.Select(weight => weight.Name).Order());
        foreach (var name in before.Names)
        {
            Assert.Equal(before.Find(name).Shape, after.Find(name).Shape);
            var (original, exported) = (before.Find(name).ToArray(), after.Find(name).ToArray());
            if (!changes.Contains(name))
            {
                Assert.Equal(original, exported);
                continue;
            }
            var W = Floats(original);
            var (m, n) = (changes[name].First().UTilde.Shape[1], changes[name].First().DeltaTilde.Shape[1]);
            var isConv1D = family == "gpt2";
            Assert.Equal(isConv1D ? [m, n] : [n, m], before.Find(name).Shape);
            var exact = W.Select(w => (double)w).ToArray();
            foreach (var change in changes[name])
            {
                var (u, delta) = (Floats(change.UTilde.Bytes.Span), Floats(change.DeltaTilde.Bytes.Span));
                for (var row = 0; row < change.UTilde.Shape[0]; row++)
                    for (var i = 0; i < n; i++)
                        for (var j = 0; j < m; j++)
                            exact[isConv1D ? j * n + i : i * m + j] -= (double)change.Alpha * delta[row * n + i] * u[row * m + j];
            }
            Assert.Equal(exact.Select(x => (float)x), Floats(exported));
            Assert.NotEqual(W, Floats(exported));
        }
    }

    /// <summary>A scope's edits are nobody else's business; a revert's recomputed edits, and a consolidation, are what the cluster has.</summary>
    [Theory]
    [InlineData("recomputed")]
    [InlineData("scope")]
    [InlineData("consolidated")]
    public async Task WhatIsExported_IsWhatIsInForceForThoseWhoSeeIt(string what)
    {
        using var model = new ClusterOfTinyModel("gpt2");
        model.SetAlpha(0.1f);
        await using (var cluster = await model.OpenAsync(probes: []))
        {
            await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target);
            await cluster.EditAsync(Facts[1].Prompt, Facts[1].Target, new() { Scope = what == "scope" ? "own" : null });
            await cluster.EditAsync(Facts[2].Prompt, Facts[2].Target);
            if (what == "recomputed")
                await cluster.RevertAsync(new(1), RevertMode.Recompute);
            else if (what == "consolidated")
                await cluster.ConsolidateAsync(new() { MaxTime = TimeSpan.FromSeconds(0.5) });
        }
        var records = await RecordsAsync(model);
        List<WeightChange> expected = [.. what switch
        {
            "recomputed" => records[3].Changes,
            "scope" => [.. records[0].Changes, .. records[2].Changes],
            _ => records[3].Changes,
        }];
        await CheckAsync(Options(model), expected);
        if (what == "scope")
            await CheckAsync(Options(model) with { Scope = "own", Output = _folder["theirs"] }, [.. expected, .. records[1].Changes]);

        async Task CheckAsync(ExportOptions options, IReadOnlyList<WeightChange> changes)
        {
            var report = await ModelExport.RunAsync(options);
            Assert.Equal(what switch { "recomputed" => [2, 3], "scope" => options.Scope is null ? [1, 3] : [1, 3, 2], _ => [1L, 2, 3] },
                report.Edits.Select(edit => edit.Edit.Value));
            using var before = HuggingFaceDirectory.Open(model.Model);
            using var after = HuggingFaceDirectory.Open(options.Output);
            foreach (var weight in changes.GroupBy(change => change.Weight))
            {
                var exact = Floats(before.Find(weight.Key).ToArray()).Select(w => (double)w).ToArray(); // [m, n], as Conv1D has it
                var (m, n) = (weight.First().UTilde.Shape[1], weight.First().DeltaTilde.Shape[1]);
                foreach (var change in weight)
                {
                    var (u, delta) = (Floats(change.UTilde.Bytes.Span), Floats(change.DeltaTilde.Bytes.Span));
                    for (var row = 0; row < change.UTilde.Shape[0]; row++)
                        for (var i = 0; i < n; i++)
                            for (var j = 0; j < m; j++)
                                exact[j * n + i] -= (double)change.Alpha * delta[row * n + i] * u[row * m + j];
                }
                var exported = Floats(after.Find(weight.Key).ToArray());
                Assert.All(exact.Zip(exported), pair => Assert.Equal(pair.First, pair.Second, 1e-6 * Math.Max(1, Math.Abs(pair.First))));
            }
        }
    }

    /// <summary>
    /// The cluster adds an update beside a layer, the export has it in the weight: the same sum, added up in another order.
    /// </summary>
    [Theory]
    [MemberData(nameof(Families))]
    public async Task TheExportedModel_AnswersAsTheEditedOne(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        string edited, unedited;
        await using (var cluster = await model.OpenAsync())
        {
            unedited = await model.StateAsync(cluster);
            foreach (var (prompt, target) in Facts)
                await cluster.EditAsync(prompt, target);
            edited = await model.StateAsync(cluster);
        }
        await ModelExport.RunAsync(Options(model));
        using var exported = new ClusterOfTinyModel(Output);
        await using var again = await exported.OpenAsync(withEditor: false, ledger: _folder["new"]);
        var found = await exported.StateAsync(again);
        Assert.Equal(edited.Split('\n')[4..], found.Split('\n')[4..]); // the answers
        foreach (var ((expected, base_), actual) in Numbers(edited).Zip(Numbers(unedited)).Zip(Numbers(found)))
        {
            Assert.Equal(expected, actual, 1e-4);
            Assert.NotEqual(expected, base_, 1e-3);
        }

        static IEnumerable<double> Numbers(string state) =>
            state.Split('\n')[..4].Select(line => double.Parse(line, System.Globalization.CultureInfo.InvariantCulture));
    }

    [Theory]
    [MemberData(nameof(Families))]
    public async Task WithEveryEditTakenBack_TheExportIsTheOriginal(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        await EditAsync(model, Facts[..1], revert: 1);
        Assert.Empty((await ModelExport.RunAsync(Options(model))).Weights);
        Assert.Equal(ModelFingerprint.Of(model.Model), ModelFingerprint.Of(Output));
        Assert.Equal(await File.ReadAllBytesAsync(Path.Combine(model.Model, "config.json")),
            await File.ReadAllBytesAsync(Path.Combine(Output, "config.json")));
        using var before = HuggingFaceDirectory.Open(model.Model);
        using var after = HuggingFaceDirectory.Open(Output);
        Assert.All(before.Names, name => Assert.Equal(before.Find(name).ToArray(), after.Find(name).ToArray()));
    }

    /// <summary>bfloat16 has 8 bits: each weight is within one part in 256 of the exact one, and what was lost is reported.</summary>
    [Theory]
    [MemberData(nameof(Families))]
    public async Task InBfloat16_WeightsAreTheNearestOnes_AndTheLossIsReported(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        await EditAsync(model, Facts);
        await ModelExport.RunAsync(Options(model));
        var report = await ModelExport.RunAsync(Options(model) with { Output = _folder["bf16"], DType = DType.BFloat16 });
        using var exact = HuggingFaceDirectory.Open(Output);
        using var rounded = HuggingFaceDirectory.Open(_folder["bf16"]);
        foreach (var name in exact.Names)
        {
            using var scope = NewDisposeScope();
            var (x, y) = (TensorBytes.Load(exact.Find(name), ScalarType.Float64), TensorBytes.Load(rounded.Find(name)));
            Assert.Equal(ScalarType.BFloat16, y.dtype);
            Assert.True(((x - y.to_type(ScalarType.Float64)).abs() - x.abs().Over(256)).max().item<double>() <= 1e-12, name);
        }
        Assert.All(report.Weights, weight => Assert.InRange(weight.Rounded, 1e-6, 0.5));
        using var config = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(_folder["bf16"], "config.json")));
        Assert.Equal("bfloat16", config.RootElement.GetProperty("torch_dtype").GetString());

        // The answers of its own ledger's edits hold on a model that is stored in bfloat16, too.
        using var sixteen = new ClusterOfTinyModel(_folder["bf16"]);
        await using var cluster = await sixteen.OpenAsync(withEditor: false, ledger: _folder["16"]);
        Assert.NotNull((await cluster.AskAsync(Facts[0].Prompt, new(MaxTokens: 4))).Text);
    }

    [Fact]
    public async Task OfAModelStoredInBfloat16_OnlyEditedWeightsAreRounded()
    {
        using var model = new ClusterOfTinyModel("t5");
        await EditAsync(model, Facts[..1], revert: 1);
        await ModelExport.RunAsync(Options(model) with { Output = _folder["stored"], DType = DType.BFloat16 });
        File.Copy(model.Editor, Path.Combine(_folder["stored"], "editor.safetensors"));
        using var stored = new ClusterOfTinyModel(_folder["stored"]);
        await EditAsync(stored, Facts);

        var report = await ModelExport.RunAsync(Options(stored));

        using var before = HuggingFaceDirectory.Open(stored.Model);
        using var after = HuggingFaceDirectory.Open(Output);
        Assert.NotEmpty(report.Weights);
        foreach (var name in before.Names)
        {
            Assert.Equal(DType.BFloat16, after.Find(name).Type);
            Assert.Equal(report.Weights.All(weight => weight.Name != name),
                before.Find(name).ToArray().SequenceEqual(after.Find(name).ToArray()));
        }
    }

    [Fact]
    public async Task LargeModels_AreWrittenInNumberedFilesWithAnIndex()
    {
        using var model = new ClusterOfTinyModel("bart");
        await EditAsync(model, Facts);
        await ModelExport.RunAsync(Options(model));
        var report = await ModelExport.RunAsync(Options(model) with { Output = _folder["many"], MaxFileBytes = 20_000 });
        Assert.True(report.Files.Count > 2);
        Assert.Equal($"model-00001-of-{report.Files.Count:00000}.safetensors", report.Files[0]);
        using var index = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(_folder["many"], "model.safetensors.index.json")));
        using var one = HuggingFaceDirectory.Open(Output);
        using var many = HuggingFaceDirectory.Open(_folder["many"]);
        Assert.Equal(one.Names.Sum(name => one.Find(name).ByteLength),
            index.RootElement.GetProperty("metadata").GetProperty("total_size").GetInt64());
        Assert.Equal(one.Names.Order(), many.Names.Order());
        Assert.All(one.Names, name => Assert.Equal(one.Find(name).ToArray(), many.Find(name).ToArray()));
        foreach (var file in report.Files)
        {
            using var opened = SafetensorsFile.Open(Path.Combine(_folder["many"], file));
            Assert.Equal("pt", opened.Metadata["format"]);
            Assert.True(opened.Entries.Count == 1 || opened.Entries.Values.Sum(entry => entry.ByteLength) <= 20_000);
        }
    }

    /// <summary>The published gpt2 has no "transformer." before its names; a ledger names weights by their proper ones.</summary>
    [Fact]
    public async Task NamesOfTheOriginal_AreKept()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        var weights = Path.Combine(model.Model, "model.safetensors");
        using (var file = SafetensorsFile.Open(weights))
            SafetensorsWriter.Write(weights + ".new",
                file.Entries.Keys.Select(name =>
                new TensorToWrite(name.Replace("transformer.", "", StringComparison.Ordinal), file.Find(name))));
        File.Move(weights + ".new", weights, overwrite: true);
        await EditAsync(model, Facts);
        Assert.NotEmpty((await ModelExport.RunAsync(Options(model))).Weights);
        using var before = HuggingFaceDirectory.Open(model.Model);
        using var after = HuggingFaceDirectory.Open(Output);
        Assert.Equal(before.Names.Order(), after.Names.Order());
        Assert.Contains(before.Names, name => !before.Find(name).ToArray().SequenceEqual(after.Find(name).ToArray()));
    }

    [Fact]
    public async Task WhatLiesBesideTheWeights_GoesAlong_TheEditorDoesNot()
    {
        using var model = new ClusterOfTinyModel("bart");
        await EditAsync(model, Facts[..1]);
        await ModelExport.RunAsync(Options(model));
        Assert.Equal(["config.json", "mend_edits.json", "merges.txt", "model.safetensors", "vocab.json"],
            Directory.EnumerateFileSystemEntries(Output).Select(Path.GetFileName).Order());
        using var edits = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(Output, ModelExport.EditsFile)));
        Assert.Equal(Facts[0].Target, edits.RootElement.GetProperty("edits")[0].GetProperty("target").GetString());
    }

    [Fact]
    public async Task AnExportThatFailsOrIsStopped_LeavesNothing()
    {
        using var model = new ClusterOfTinyModel("t5");
        await EditAsync(model, Facts);
        using var stopped = new CancellationTokenSource();
        await stopped.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => ModelExport.RunAsync(Options(model), stopped.Token));
        await Refused(MendError.LedgerUnusable, Options(model) with { Ledger = _folder["none"] });
        Assert.False(File.Exists(_folder["none"]));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder.Path));

        await File.WriteAllTextAsync(Path.Combine(Directory.CreateDirectory(Output).FullName, "precious"), "mine");
        await Refused(MendError.ModelUnusable, Options(model));
        Assert.Equal("mine", await File.ReadAllTextAsync(Path.Combine(Output, "precious")));
        await using var cluster = await model.OpenAsync();
        await Refused(MendError.LedgerInUse, Options(model) with { Output = _folder["other"] });
        Assert.Single(Directory.EnumerateFileSystemEntries(_folder.Path));

        async Task Refused(MendError error, ExportOptions options) =>
            Assert.Equal(error, (await Assert.ThrowsAsync<MendException>(() => ModelExport.RunAsync(options))).Error);
    }

    private ExportOptions Options(ClusterOfTinyModel model) =>
        new() { ModelDirectory = model.Model, Ledger = model.Ledger, Output = Output };

    private static async Task EditAsync(ClusterOfTinyModel model, IEnumerable<(string Prompt, string Target)> facts, long? revert = null)
    {
        await using var cluster = await model.OpenAsync();
        foreach (var (prompt, target) in facts)
            await cluster.EditAsync(prompt, target);
        if (revert is { } edit)
            await cluster.RevertAsync(new(edit));
    }

    private static async Task<IReadOnlyList<LedgerRecord>> RecordsAsync(ClusterOfTinyModel model)
    {
        await using var ledger = FileLedger.Open(model.Ledger, ModelFingerprint.Of(model.Model));
        return await ledger.ReadAfterAsync(ModelVersion.Base);
    }

    private static float[] Floats(ReadOnlySpan<byte> bytes) => MemoryMarshal.Cast<byte, float>(bytes).ToArray();
}
