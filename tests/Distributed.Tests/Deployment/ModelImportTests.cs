using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Models;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests.Deployment;

public sealed class ModelImportTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string, int> Models
    {
        get
        {
            var data = new TheoryData<string, int>();
            foreach (var model in Directory.EnumerateDirectories(Path.Combine(FixtureFolder.Path, "models"))
                .Select(folder => Path.GetFileName(folder)!).Order(StringComparer.Ordinal))
                if (ModelFamily.SupportedTypes.Contains(ConfigFile.Read(Path.Combine(FixtureFolder.Path, "models", model, "config.json"))
                    .String("model_type")))
                    foreach (var stages in new[] { 1, 2, 3 })
                        data.Add(model, stages);
            return data;
        }
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Models))]
    public void AnImportedModel_LoadsBitForBit_AndAStageReadsItsOwnFile(string model, int stages)
    {
        var source = Fixture.Path("models/" + model);
        var files = ModelImport.Run(source, stages, _folder["out"]);
        Assert.Equal(stages, files.Count);
        using var before = HuggingFaceDirectory.Open(source);
        using var after = HuggingFaceDirectory.Open(_folder["out"]);
        Assert.Equal(before.Names.Order(), after.Names.Order());
        Assert.All(before.Names, name => Assert.Equal(before.Find(name).ToArray(), after.Find(name).ToArray()));

        var family = ModelFamily.FromDirectory(_folder["out"]);
        var map = CheckpointMap.Of(family, after);
        Assert.Equal(before.Names.Order(), map.Select(weight => weight.StoredName).Distinct().Order());
        for (var stage = 0; stage < stages; stage++)
        {
            Assert.Equal(files[stage].Bytes,
                Directory.EnumerateFiles(_folder["out"], files[stage].File).Sum(path => SafetensorsBytes(path)));
            foreach (var weight in map.Where(weight => weight.Layer >= files[stage].Range.First && weight.Layer < files[stage].Range.End))
            {
                var file = Path.GetFileName(after.Find(weight.StoredName).File);
                var isTied = map.Any(other => other.StoredName == weight.StoredName && other.Layer < files[stage].Range.First);
                Assert.True(isTied || file == files[stage].File, $"{weight.Name} of stage {stage} lies in {file}");
            }
        }

        static long SafetensorsBytes(string path)
        {
            using var file = SafetensorsFile.Open(path);
            return file.Entries.Values.Sum(entry => entry.ByteLength);
        }
    }

    /// <summary>A torch file's tied weights become one tensor; masks, which no layer reads, are kept for other tools.</summary>
    [Fact]
    public void ATorchFile_IsImportedWithoutItsSecondNames()
    {
        Directory.CreateDirectory(_folder["bin"]);
        foreach (var file in new[] { "config.json", "pytorch_model.bin" })
            File.Copy(Fixture.Path("models/gpt2/" + file), Path.Combine(_folder["bin"], file));
        ModelImport.Run(_folder["bin"], 2, _folder["out"]);
        using var twin = HuggingFaceDirectory.Open(Fixture.Path("models/gpt2"));
        using var torch = HuggingFaceDirectory.Open(_folder["bin"]);
        using var after = HuggingFaceDirectory.Open(_folder["out"]);
        Assert.True(torch.Contains("lm_head.weight"));
        Assert.False(after.Contains("lm_head.weight"));
        Assert.True(after.Contains("transformer.h.0.attn.bias"));
        Assert.All(twin.Names, name => Assert.Equal(twin.Find(name).ToArray(), after.Find(name).ToArray()));
    }

    /// <summary>What the paper's fact checker and question answering model are published as.</summary>
    [Fact]
    public void ACheckpointOfATrainingProgram_IsImportedUnderTheModelsNames()
    {
        Directory.CreateDirectory(_folder["ckpt"]);
        File.Copy(Fixture.Path("models/bert/config.json"), Path.Combine(_folder["ckpt"], "config.json"));
        using var twin = HuggingFaceDirectory.Open(Fixture.Path("models/bert"));
        List<string> names = [.. twin.Names];
        var pickle = new ForgedPickle().Op('}').Op('(').Text("epoch").Int(3).Text("state_dict").Op('}').Op('(');
        foreach (var (i, name) in names.Index())
        {
            var shape = twin.Find(name).Shape;
            pickle.Text("model." + name)
                .Tensor($"{i}", shape.Aggregate(1L, (a, b) => a * b), 0, shape,
                [.. shape.Select((_, d) => shape[(d + 1)..].Aggregate(1L, (a, b) => a * b))]);
        }
        File.WriteAllBytes(Path.Combine(_folder["ckpt"], "FC_model.ckpt"),
            ForgedZip.Archive(pickle.Op('u').Op('u').Stop(), [.. names.Select(name => twin.Find(name).ToArray())]));
        ModelImport.Run(_folder["ckpt"], 2, _folder["out"]);
        using var after = HuggingFaceDirectory.Open(_folder["out"]);
        Assert.Equal(names.Order(), after.Names.Order());
        Assert.All(names, name => Assert.Equal(twin.Find(name).ToArray(), after.Find(name).ToArray()));
    }

    [Fact]
    public void WhatCannotBeImported_IsRefusedAndLeavesNothing()
    {
        var source = Fixture.Path("models/bart");
        Refusal.Of(MendError.ModelUnusable, () => ModelImport.Run(source, 0, _folder["out"]));
        Refusal.Of(MendError.ModelUnusable, () => ModelImport.Run(source, 99, _folder["out"]));
        using var stopped = new CancellationTokenSource();
        stopped.Cancel();
        Assert.Throws<OperationCanceledException>(() => ModelImport.Run(source, 2, _folder["out"], stopped.Token));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder.Path));
        Directory.CreateDirectory(_folder["lacking"]);
        File.Copy(Path.Combine(source, "config.json"), Path.Combine(_folder["lacking"], "config.json"));
        using (var file = SafetensorsFile.Open(Path.Combine(source, "model.safetensors")))
            SafetensorsWriter.Write(Path.Combine(_folder["lacking"], "model.safetensors"),
                file.Entries.Keys.Where(name => !name.Contains("layers.1.fc2.weight", StringComparison.Ordinal))
                .Select(name => new TensorToWrite(name, file.Find(name))));
        Assert.Contains("model.encoder.layers.1.fc2.weight",
            Refusal.Of(MendError.ModelUnusable, () => ModelImport.Run(_folder["lacking"], 2, _folder["out"])).What,
            StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder["out"]));
    }

    [Fact]
    public void TheMap_KnowsTheOrientation()
    {
        foreach (var family in TinyModel.Families)
        {
            using var scope = NewDisposeScope();
            using var stage = TinyModel.Load(family);
            Directory.CreateDirectory(_folder[family]);
            SafetensorsWriter.Write(Path.Combine(_folder[family], "model.safetensors"),
                stage.Weights.Loaded.Select(weight => TensorBytes.ToWrite(weight.Key, weight.Value.AsStored())));
            using var files = HuggingFaceDirectory.Open(_folder[family]);
            var map = CheckpointMap.Of(stage.Family, files);
            Assert.All(map, weight => Assert.Equal(stage.Weights.Loaded[weight.Name].IsTransposed, weight.IsTransposed));
            Assert.Equal(family == "gpt2", map.Any(weight => weight.IsTransposed));
        }
    }
}
