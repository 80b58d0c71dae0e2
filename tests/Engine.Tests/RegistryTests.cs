using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Training;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests;

/// <summary>What CONTRIBUTING.md asks of a new family and of a new editor holds for each that is there.</summary>
public sealed class RegistryTests : IDisposable
{
    private static readonly string[] Words = ["red", "blue", "the", "old", "town"];

    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Families => [.. FamilyRegistry.All.Select(kind => kind.Type)];

    public static TheoryData<EditorAlgorithm> Editors => [.. Enum.GetValues<EditorAlgorithm>()];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Families))]
    public void EveryFamily_HasFixtures_ATinyModel_ARowInTheDocs_AndWeightsToEdit(string type)
    {
        Assert.Contains(type, Directory.EnumerateFiles(Path.Combine(FixtureFolder.Path, "models"), "config.json",
            SearchOption.AllDirectories)
            .Select(file => ConfigFile.Read(file).String("model_type", "")));
        Assert.Contains(type, TinyModels.Families.Append(TinyModels.Classifier));
        TinyModels.Write(_folder.Path, type);
        var family = ModelFamily.FromDirectory(_folder.Path);
        Assert.Equal(type, family.Type);
        Assert.Contains($"| `{type}` | `{family.GetType().Name}.cs` |",
            File.ReadAllText(Path.Combine(FixtureFolder.Repository, "docs", "models.md")), StringComparison.Ordinal);
        Assert.NotEmpty(family.Family.Published);
        Assert.NotEmpty(EditableWeights.DownProjections(family));
        Assert.Subset(EditableWeights.Select(family, ["*"]).ToHashSet(), family.DefaultEditableWeights.ToHashSet());
    }

    [Theory]
    [MemberData(nameof(Editors))]
    public void EveryEditor_HasOneRow_AndIsTrainedKeptAndReadByIt(EditorAlgorithm algorithm)
    {
        var kind = Assert.Single(EditorRegistry.All, kind => kind.Algorithm == algorithm);
        Assert.Single(EditorRegistry.All, other => other.Name == kind.Name);
        Assert.Equal(kind.Load is null, kind.Network is null);
        Assert.Equal(kind.Train is null, kind.Parameters is null);
        var options = new EditorTrainingOptions
        {
            Algorithm = algorithm,
            Edits = kind.MaxEdits ?? 2,
            Mend = new() { Rank = 4 },
            Malmen = new() { Rank = 4 },
            Ke = new() { HiddenDim = 6, ConditionDim = 5 },
            AccumulateBs = 1,
            MaxIters = 2,
            ValInterval = 2,
            ValSteps = 1,
        };
        if (kind.Train is null)
        {
            Refusal.Of(MendError.InvalidOption, () => options.Validated());
            return;
        }
        TinyModels.Write(_folder.Path, "gpt2");
        var edits = Enumerable.Range(0, 12)
            .Select(i => new EditExample($"{Words[i % 5]} {Words[i % 4]}", Words[(i + 1) % 5], [Words[i % 5]],
            [new(Words[(i + 2) % 5], "blue")], "old")).ToList();
        Assert.Equal(2, LocalTraining.Run(_folder.Path, text => QuestionAnswering.Task(text, edits, 0), options,
            _folder["run"]).Iterations);
        using var checkpoint = EditorCheckpoint.Open(_folder["run/checkpoint.safetensors"]);
        Assert.Equal(algorithm, checkpoint.Algorithm);
        var family = ModelFamily.FromDirectory(_folder.Path);
        using var shapes = Stage.LoadWhole(family, new WeightShapes(), family.DefaultEditableWeights);
        Assert.Equal(checkpoint.Names("adam.m.").Sum(name => checkpoint.Read(name).numel()), kind.Parameters!(shapes, options));
        if (kind.Load is null)
        {
            Refusal.Of(MendError.ModelUnusable, () => checkpoint.Prepared());
            return;
        }
        using var read = checkpoint.Prepared();
        Assert.Equal((algorithm, checkpoint.Weights.Count), (read.Algorithm, read.Weights.Count));
    }
}
