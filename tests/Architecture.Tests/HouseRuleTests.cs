using System.Text.RegularExpressions;
using System.Xml.Linq;
using MendCluster.Testing;

namespace MendCluster.Architecture.Tests;

/// <summary>Rules of the house that the compiler does not hold, found in the source.</summary>
public partial class HouseRuleTests
{
    /// <summary>Failures that end where they are met, without a word in a log, and why.</summary>
    private static readonly (string File, string Why)[] EndsThere =
    [
        ("CallLivenessProbe.cs", "a question that fails counts as one that was not answered"),
        ("BatchExtensions.cs", "the caller is given the failure"),
        ("Errors.cs", "answered, and what is no refusal goes into the log there"),
        ("ComputeThread.cs", "carried to whoever awaits"),
        ("ReplicaSet.cs", "thrown when all calls of the attempt have ended"),
    ];

    /// <summary>Exceptions that a folder throws to itself, and the file that catches each.</summary>
    private static readonly Dictionary<string, string> CaughtInside = new()
    {
        ["NeighbourLostException"] = "RingReduction.cs",
        ["ReplicaLostException"] = "ReplicaSet.cs",
    };

    /// <summary>Which folder of Distributed may name which others; what lies beside them may name all.</summary>
    private static readonly Dictionary<string, string[]> AllowedInDistributed = new()
    {
        ["Deployment"] = ["Editing", "Ledger"],
        ["Editing"] = ["Deployment", "Ledger", "Telemetry"],
        ["Ledger"] = ["Telemetry"],
        ["Membership"] = ["Ledger"],
        ["Telemetry"] = [],
        ["Training"] = ["Deployment", "Editing", "Telemetry"],
    };

    private static IEnumerable<(string File, string Text)> Sources(string folder = "src") => Directory
        .EnumerateFiles(Path.Combine(FixtureFolder.Repository, folder), "*.cs", SearchOption.AllDirectories)
        .Where(file => !file.Split(Path.DirectorySeparatorChar).Any(part => part is "obj" or "bin"))
        .Select(file => (file, File.ReadAllText(file)));

    private static string Name(string file) => Path.GetFileName(file);

    [Fact]
    public void FoldersOfDistributed_NameOnlyWhatTheTableAllows()
    {
        foreach (var (file, text) in Sources(Path.Combine("src", "Distributed")))
        {
            var folder = Name(Path.GetDirectoryName(file)!);
            if (folder is "Distributed")
                continue;
            Assert.True(AllowedInDistributed.TryGetValue(folder, out var allowed), $"{folder} is not in the table");
            foreach (var named in DistributedUsing().Matches(text).Select(match => match.Groups["name"].Value))
                Assert.True(allowed.Contains(named), $"{Name(file)} of {folder} names {named}");
        }
    }

    /// <summary>A failure of any kind that is caught is thrown on, told to a log or a user, or has its reason above.</summary>
    [Fact]
    public void NoFailure_IsSwallowedWithoutAWord()
    {
        var caught = Sources().SelectMany(source =>
            CatchAll().Matches(source.Text)
            .Select(match => (File: Name(source.File), Body: Block(source.Text, match.Index + match.Length - 1)))).ToList();
        Assert.True(caught.Count > 10, "the search finds nothing");
        var silent = caught.Where(entry => !Told().IsMatch(entry.Body)).ToList();
        Assert.Empty(silent.Where(entry => EndsThere.All(known => known.File != entry.File))
            .Select(entry => $"{entry.File}: {entry.Body}"));
        Assert.All(EndsThere, known => Assert.Contains(silent, entry => entry.File == known.File));
    }

    [Fact]
    public void LimitsAndDefaults_AreNamedAsSuch() => Assert.Empty(Sources()
        .SelectMany(source => Constant().Matches(source.Text).Select(match => $"{Name(source.File)}: {match.Value.Trim()}")));

    [Fact]
    public void EveryProjectsLogMessages_AreInOneFile_WithNumbersOfTheirOwn()
    {
        foreach (var project in Sources().Where(source => source.Text.Contains("[LoggerMessage(", StringComparison.Ordinal))
            .GroupBy(source => Path.GetRelativePath(FixtureFolder.Repository, source.File).Split(Path.DirectorySeparatorChar)[1]))
        {
            var (file, text) = Assert.Single(project);
            Assert.Equal("LogMessages.cs", Name(file));
            var numbers = LogNumber().Matches(text).Select(match => match.Groups["number"].Value).ToList();
            Assert.Equal(numbers.Distinct(), numbers);
        }
        Assert.Empty(Sources().Where(source => Regex.IsMatch(source.Text, @"\.Log(Trace|Debug|Information|Warning|Error|Critical)\("))
            .Select(source => Name(source.File)));
    }

    [Fact]
    public void ElementTypes_AreOfOneEnum() => Assert.Equal(["DType.cs"], Sources()
        .Where(source => Regex.IsMatch(source.Text, @"enum \w+\s*\{[^}]*\b(BFloat16|BF16)\b")).Select(source => Name(source.File)));

    /// <summary>A failure is a <c>MendException</c> from where it is found on: nothing has to say it again in another type.</summary>
    [Fact]
    public void Failures_AreOfOneType()
    {
        var types = Sources().SelectMany(source => ExceptionClass().Matches(source.Text)
            .Select(match => (Name: match.Groups["name"].Value, Words: match.Groups["words"].Value))).ToList();
        Assert.Equal(CaughtInside.Keys.Append("MendException").Order(), types.Select(type => type.Name).Order());
        Assert.Equal("MendException", Assert.Single(types, type => type.Words.Contains("public", StringComparison.Ordinal)).Name);
        foreach (var (name, catcher) in CaughtInside)
        {
            var naming = Sources().Where(source => source.Text.Contains(name, StringComparison.Ordinal)).ToList();
            Assert.Single(naming.Select(source => Path.GetDirectoryName(source.File)).Distinct());
            Assert.Contains($"catch ({name}", naming.Single(source => Name(source.File) == catcher).Text, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void NoFeature_HasASwitchInTheBuild()
    {
        Assert.Empty(Sources().Where(source => Regex.IsMatch(source.Text, "^#if", RegexOptions.Multiline))
            .Select(source => Name(source.File)));
        foreach (var file in Directory.EnumerateFiles(Path.Combine(FixtureFolder.Repository, "src"), "*.csproj",
            SearchOption.AllDirectories))
        {
            var project = XDocument.Load(file);
            Assert.DoesNotContain(project.Descendants(), element => element.Attribute("Condition") is not null);
            var own = Path.GetFileNameWithoutExtension(file);
            Assert.All(project.Descendants("InternalsVisibleTo"),
                friend => Assert.Contains((string)friend.Attribute("Include")!,
                new[] { $"MendCluster.{own}.Tests", "MendCluster.Orleans.Tests" }));
        }
    }

    [Theory]
    [InlineData("try { } catch (Exception e) { throw new X(e); }", true)]
    [InlineData("try { } catch { }", false)]
    [InlineData("try { } catch (Exception e) { if (a) { b(); } }", false)]
    [InlineData("try { } catch (Exception e) { if (a) { logger.Failed(e); } }", true)]
    public void TheSearch_FindsBlocksWhole(string text, bool isTold)
    {
        var match = CatchAll().Match(text);
        Assert.Equal(isTold, Told().IsMatch(Block(text, match.Index + match.Length - 1)));
    }

    /// <summary>From a brace to the one that closes it.</summary>
    private static string Block(string text, int start)
    {
        var depth = 0;
        for (var i = start; i < text.Length; i++)
        {
            depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
            if (depth == 0)
                return text[start..(i + 1)];
        }
        return text[start..];
    }

    [GeneratedRegex(@"\bcatch(\s*\(Exception\b[^)\n]*\)(?!\s*when)|(?=\s*(//[^\n]*)?\s*\{))(\s*//[^\n]*)?\s*\{")]
    private static partial Regex CatchAll();

    [GeneratedRegex(@"\bthrow\b|\b_?[lL]ogger\b|\bReport\(|\.Error\(|\.Fail\(")]
    private static partial Regex Told();

    [GeneratedRegex(@"\b(const \w+|static readonly \w+(\[\])?|static readonly TimeSpan) (\w+ = [^,;]+, )*(Most|Usual|Usually|Least)[A-Z]\w*\b")]
    private static partial Regex Constant();

    [GeneratedRegex(@"(?<words>(\w+ )*)class (?<name>\w+)[^{;]*?:\s*(\w+\.)*\w*Exception\b")]
    private static partial Regex ExceptionClass();

    [GeneratedRegex(@"\[LoggerMessage\((?<number>\d+),")]
    private static partial Regex LogNumber();

    [GeneratedRegex(@"^using MendCluster\.Distributed\.(?<name>\w+);", RegexOptions.Multiline)]
    private static partial Regex DistributedUsing();
}
