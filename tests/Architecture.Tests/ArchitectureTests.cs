using System.Text.RegularExpressions;
using System.Xml.Linq;
using MendCluster.Contracts;
using MendCluster.Testing;

namespace MendCluster.Architecture.Tests;

public partial class ArchitectureTests
{
    /// <summary>
    /// Which project may name which. Cli names Engine for training and evaluation on one machine, which no cluster is needed for.
    /// </summary>
    private static readonly Dictionary<string, string[]> Allowed = new()
    {
        ["Contracts"] = [],
        ["Engine"] = ["Contracts"],
        ["Distributed"] = ["Contracts", "Engine"],
        ["Grains.Interfaces"] = ["Contracts"],
        ["Grains"] = ["Contracts", "Distributed", "Grains.Interfaces"],
        ["Server"] = ["Contracts"],
        ["Silo"] = ["Client.Orleans", "Contracts", "Distributed", "Grains", "Grains.Interfaces", "Server"],
        ["Client"] = ["Contracts"],
        ["Client.Chat"] = ["Contracts"],
        ["Client.Orleans"] = ["Contracts", "Grains.Interfaces"],
        ["Experiments"] = ["Contracts", "Distributed", "Engine"],
        ["Cli"] = ["Client.Orleans", "Contracts", "Distributed", "Engine", "Experiments", "Server", "Silo"],
    };

    /// <summary>Orleans' serializer: the records of Contracts have its attributes. They name no other part of Orleans.</summary>
    private static readonly string[] Serializer =
        ["using Orleans;", "\"Microsoft.Orleans.Serialization\"", "\"Microsoft.Orleans.Serialization.Abstractions\""];

    /// <summary>Which projects may speak of Orleans.</summary>
    private static readonly string[] OnOrleans = ["Grains.Interfaces", "Grains", "Silo", "Client.Orleans"];

    /// <summary>The commands of the laboratory: they make data, models and editors of the made-up world, and measure editors.</summary>
    private static readonly string[] Laboratory =
        ["DataCommand", "DemoCommand", "EvalCommand", "PretrainCommand", "ReproduceCommand", "SequentialCommand", "Tables", "TrainCommand",
            "TuneLayersCommand"];

    /// <summary>Which folder of Engine may name which others.</summary>
    private static readonly Dictionary<string, string[]> AllowedInEngine = new()
    {
        ["Checkpoints"] = ["Torch", "Files"],
        ["Tokenizers"] = ["Files"],
        ["Models"] = ["Torch", "Checkpoints"],
        ["Editors"] = ["Torch", "Editors.Baselines"],
        ["Files"] = [],
        ["Training"] = ["Torch", "Models", "Editors", "Editors.Baselines", "Checkpoints", "Files"],
        ["Data"] = ["Torch", "Checkpoints", "Models", "Tokenizers", "Training"],
        ["Torch"] = [],
        ["Routing"] = ["Torch", "Checkpoints", "Models", "Tokenizers", "Training", "Data"],
    };

    private static string Source => Path.Combine(FixtureFolder.Repository, "src");

    [Fact]
    public void Projects_NameOnlyWhatTheTableAllows()
    {
        foreach (var file in Directory.EnumerateFiles(Source, "*.csproj", SearchOption.AllDirectories))
        {
            var project = Path.GetFileNameWithoutExtension(file);
            Assert.True(Allowed.TryGetValue(project, out var allowed), $"{project} is not in the table");
            var named = XDocument.Load(file).Descendants("ProjectReference")
                .Select(reference => Path.GetFileNameWithoutExtension((string)reference.Attribute("Include")!));
            Assert.All(named, name => Assert.True(allowed.Contains(name), $"{project} names {name}"));
        }
    }

    /// <summary>
    /// What is deployed knows nothing of the laboratory; the command line reaches it in the files of the laboratory's commands alone.
    /// </summary>
    [Fact]
    public void OnlyTheLaboratorysCommands_NameExperiments()
    {
        Assert.All(Allowed.Where(project => project.Value.Contains("Experiments")), project => Assert.Equal("Cli", project.Key));
        var named = Directory.EnumerateFiles(Source, "*.cs", SearchOption.AllDirectories)
            .Where(file => !Path.GetRelativePath(Source, file).StartsWith("Experiments", StringComparison.Ordinal))
            .Where(file => File.ReadAllText(file).Contains("MendCluster.Experiments", StringComparison.Ordinal))
                .Select(Path.GetFileNameWithoutExtension);
        Assert.Equal(Laboratory.Order(StringComparer.Ordinal), named.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void FoldersOfEngine_NameOnlyWhatTheTableAllows()
    {
        foreach (var file in Directory.EnumerateFiles(Path.Combine(Source, "Engine"), "*.cs", SearchOption.AllDirectories))
        {
            var folder = Path.GetRelativePath(Path.Combine(Source, "Engine"), file).Split(Path.DirectorySeparatorChar)[0];
            if (folder.EndsWith(".cs", StringComparison.Ordinal))
                continue;
            Assert.True(AllowedInEngine.TryGetValue(folder, out var allowed), $"{folder} is not in the table");
            foreach (var named in EngineUsing().Matches(File.ReadAllText(file)).Select(match => match.Groups["name"].Value))
                Assert.True(allowed.Contains(named), $"{Path.GetFileName(file)} of {folder} names {named}");
        }
    }

    [Fact]
    public void OnlyItsProjects_SpeakOfOrleans()
    {
        foreach (var file in Directory.EnumerateFiles(Source, "*.*", SearchOption.AllDirectories)
            .Where(file => Path.GetExtension(file) is ".cs" or ".csproj"))
        {
            var project = Path.GetRelativePath(Source, file).Split(Path.DirectorySeparatorChar)[0];
            if (OnOrleans.Contains(project))
                continue;
            var text = File.ReadAllText(file);
            if (project == "Contracts")
                text = Serializer.Aggregate(text, (rest, allowed) => rest.Replace(allowed, "", StringComparison.Ordinal));
            Assert.False(text.Contains("\"Microsoft.Orleans", StringComparison.Ordinal), $"{file} names a package of Orleans");
            Assert.False(OrleansUsing().IsMatch(text), $"{file} uses Orleans");
        }
    }

    /// <summary>
    /// xunit looks through all types of an assembly for an enum of a theory's data. Where that fails, and it does in Contracts without the
    /// library of its serializers, the theory is left out and nothing is said. Of the tests' programs that are built.
    /// </summary>
    [Fact]
    public void NoTestsProgram_LosesTheoriesOverAnEnumOfContracts()
    {
        var own = new DirectoryInfo(AppContext.BaseDirectory); // artifacts/bin/Architecture.Tests/release
        var programs = own.Parent!.Parent!.EnumerateDirectories("*.Tests").Select(program => Path.Combine(program.FullName, own.Name))
            .Where(program => File.Exists(Path.Combine(program, "MendCluster.Contracts.dll"))).ToList();
        Assert.NotEmpty(programs);
        Assert.All(programs, program => Assert.True(File.Exists(Path.Combine(program, "Orleans.Serialization.dll")), program));
    }

    [Theory]
    [InlineData("Cli")]
    [InlineData("Client.Orleans")]
    [InlineData("Grains")]
    [InlineData("Client")]
    [InlineData("Client.Chat")]
    [InlineData("Grains.Interfaces")]
    [InlineData("Server")]
    [InlineData("Silo")]
    public void WhatCarriesRequests_HoldsNoTensor(string project)
    {
        foreach (var file in Directory.EnumerateFiles(Path.Combine(Source, project), "*.cs", SearchOption.AllDirectories))
            Assert.DoesNotContain("TorchSharp", File.ReadAllText(file), StringComparison.Ordinal);
    }

    [Fact]
    public void EveryError_HasItsEntryInTheDocs()
    {
        var page = File.ReadAllText(Path.Combine(FixtureFolder.Repository, "docs", "errors.md"));
        var documented = ErrorRow().Matches(page)
            .ToDictionary(match => match.Groups["code"].Value, match => match.Groups["transient"].Value == "yes");
        foreach (var error in Enum.GetValues<MendError>())
        {
            Assert.True(documented.TryGetValue(error.ToString(), out var transient), $"docs/errors.md has no entry for {error}");
            Assert.Equal(new MendException(error, "", "").IsTransient, transient);
        }
        Assert.Equal(Enum.GetValues<MendError>().Length, documented.Count);
    }

    [Fact]
    public void EveryInstrument_HasItsRowInTheDocs()
    {
        var named = new[] { "Distributed",
            "Server" }.SelectMany(project => Directory.EnumerateFiles(Path.Combine(Source, project, "Telemetry"), "*.cs"))
            .SelectMany(file => Instrument().Matches(File.ReadAllText(file))).Select(match => match.Groups["name"].Value);
        var documented = InstrumentRow().Matches(File.ReadAllText(Path.Combine(FixtureFolder.Repository, "docs", "metrics.md")))
            .Select(match => match.Groups["name"].Value);
        Assert.Equal(named.Order(StringComparer.Ordinal), documented.Order(StringComparer.Ordinal));
    }

    [GeneratedRegex(@"""(?<name>mend\.(?!stage)[\w.]+)"", ")]
    private static partial Regex Instrument();

    [GeneratedRegex(@"^\| `(?<name>mend\.[\w.]+)` \|", RegexOptions.Multiline)]
    private static partial Regex InstrumentRow();

    [GeneratedRegex(@"^using MendCluster\.Engine\.(?<name>[\w.]+);", RegexOptions.Multiline)]
    private static partial Regex EngineUsing();

    [GeneratedRegex(@"^using (static )?Orleans\b", RegexOptions.Multiline)]
    private static partial Regex OrleansUsing();

    [GeneratedRegex(@"^\| `(?<code>\w+)` \|.*\| (?<transient>yes|no) \|$", RegexOptions.Multiline)]
    private static partial Regex ErrorRow();
}
