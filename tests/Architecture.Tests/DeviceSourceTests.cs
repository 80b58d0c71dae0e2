using System.Text.RegularExpressions;
using MendCluster.Testing;

namespace MendCluster.Architecture.Tests;

/// <summary>
/// No tensor is made without saying where, and no number is read where a device would have to be asked, but through <c>Devices</c>: found
/// in the source, since on a machine without a GPU both go unnoticed.
/// </summary>
public partial class DeviceSourceTests
{
    /// <summary>Reads of tensors that the line's own method made on the host.</summary>
    private static readonly (string File, string Read, string Why)[] OnTheHost =
    [
        ("TensorBytes.cs", "tensor.bytes", "the CPU's own path: the tensor is made two lines above"),
        ("TensorBytes.cs", "place.bytes", "pinned memory of the host"),
        ("WireTensorCodec.cs", "plain.bytes", "came down a line above"),
        ("WireTensorCodec.cs", "tensor.bytes", "is made a line above"),
        ("RingReduction.cs", "part.bytes", "is made two lines above"),
        ("StateDigest.cs", "host.bytes", "came down a line above"),
        ("Factors.cs", "sizes.data<float>()", "singular values of a matrix that came down for it"),
    ];

    /// <summary>Where places of entries are asked for: each has to wait for its device.</summary>
    private static readonly (string File, string Line, string Why)[] Searches =
    [
        ("Factors.cs", "kept.narrow", "the mask came down for all weights at once"),
        ("Losses.cs", "scored.Ne", "labels are on the host"),
        ("Losses.cs", ".reshape(-1).nonzero()", "masks are on the host"),
        ("Evaluation.cs", "rows.Ge", "rows are on the host"),
        ("CheckpointWeights.cs", "Ne(0).reshape(-1).nonzero()", "names the bad entry of a weight that is refused"),
    ];

    private static IEnumerable<(string File, string Text)> Sources => new[] { "Engine", "Distributed", "Experiments" }
        .SelectMany(project => Directory.EnumerateFiles(Path.Combine(FixtureFolder.Repository, "src", project), "*.cs",
            SearchOption.AllDirectories))
        .Where(file => !file.Contains($"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}", StringComparison.Ordinal))
        .Select(file => (Path.GetFileName(file), Comment().Replace(File.ReadAllText(file), "")));

    [Fact]
    public void EveryTensor_IsMadeOnADeviceThatIsNamed()
    {
        var made = Sources.SelectMany(source =>
            Factory().Matches(source.Text).Select(match => (source.File, Call: Call(source.Text, match.Index)))).ToList();
        Assert.True(made.Count > 30, "the search finds nothing");
        Assert.Empty(made.Where(entry => !Place().IsMatch(entry.Call)).Select(entry => $"{entry.File}: {entry.Call}"));
    }

    [Fact]
    public void EveryNumber_IsReadFromTheHost()
    {
        var reads = Sources.SelectMany(source => Read().Matches(source.Text).Select(match => (source.File, Read: match.Value))).ToList();
        Assert.True(reads.Count > 20, "the search finds nothing");
        Assert.Empty(reads.Where(entry => !entry.Read.StartsWith(".Host().", StringComparison.Ordinal)
            && !OnTheHost.Any(known => known.File == entry.File && entry.Read.EndsWith(known.Read, StringComparison.Ordinal)))
            // they make Scalars of numbers, and read none
            .Where(entry => entry.File is not ("Number.cs" or "TensorMath.cs" or "NewTensor.cs"))
            .Select(entry => $"{entry.File}: {entry.Read}"));
        Assert.All(OnTheHost, known =>
            Assert.Contains(reads, entry => entry.File == known.File && entry.Read.EndsWith(known.Read, StringComparison.Ordinal)));
    }

    [Fact]
    public void OnlyDevices_MovesTensors() => Assert.Empty(Sources.Where(source => source.File != "Devices.cs")
        .SelectMany(source => Move().Matches(source.Text).Select(match => $"{source.File}: {match.Value}")));

    [Fact]
    public void EverySearch_IsOnTheHost_OrHasItsReason()
    {
        var searches = Sources.SelectMany(source =>
            source.Text.Split('\n').Where(line => Search().IsMatch(line)).Select(line => (source.File, Line: line.Trim()))).ToList();
        Assert.Empty(searches.Where(entry =>
            !Searches.Any(known => known.File == entry.File && entry.Line.Contains(known.Line, StringComparison.Ordinal)))
            .Select(entry => $"{entry.File}: {entry.Line}"));
        Assert.All(Searches, known =>
            Assert.Contains(searches, entry => entry.File == known.File && entry.Line.Contains(known.Line, StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData("zeros([3, n(2)], ScalarType.Int64)", "zeros([3, n(2)], ScalarType.Int64)", false)]
    [InlineData("x = cat([ones(2)], 0);", "ones(2)", false)]
    [InlineData("NewTensor.Full([2], 1, device: device)", "NewTensor.Full([2], 1, device: device)", true)]
    [InlineData("tensor(values).On(x.device)", "tensor(values)", false)]
    [InlineData("eye(3, device: gram.device)", "eye(3, device: gram.device)", true)]
    public void TheSearch_FindsCallsWhole(string text, string call, bool namesADevice)
    {
        var found = Call(text, Factory().Match(text).Index);
        Assert.Equal((call, namesADevice), (found, Place().IsMatch(found)));
    }

    /// <summary>From a name to the parenthesis that ends its call.</summary>
    private static string Call(string text, int start)
    {
        var depth = 0;
        for (var i = start; i < text.Length; i++)
        {
            depth += text[i] == '(' ? 1 : text[i] == ')' ? -1 : 0;
            if (depth == 0 && text[i] == ')')
                return text[start..(i + 1)];
        }
        return text[start..];
    }

    /// <summary>
    /// A factory's name and its parenthesis; not a method of that name on something, nor those whose tensors are the host's.
    /// </summary>
    [GeneratedRegex(@"(?<![\w.>])(zeros|ones|full|arange|tensor|empty|randn|rand|randint|randperm|normal|eye|linspace|from_array|as_tensor|frombuffer|NewTensor\.(?!Of\b|Normal\b|Uniform\b)\w+)\(")]
    private static partial Regex Factory();

    [GeneratedRegex(@"\b(device|Device|CPU)\b")]
    private static partial Regex Place();

    [GeneratedRegex(@"(\.Host\(\)|[\w\]\)!]+)\.(bytes\b|data<\w+>\(\)|item<\w+>\(\)|ToScalar\(\)|ToSingle\(\)|ToDouble\(\)|ToInt64\(\))")]
    private static partial Regex Read();

    [GeneratedRegex(@"\.(cpu|cuda|to)\([^)]*\)")]
    private static partial Regex Move();

    [GeneratedRegex(@"\.(nonzero|masked_select|is_nonzero|allclose|unique)\(")]
    private static partial Regex Search();

    [GeneratedRegex(@"//[^\n]*")]
    private static partial Regex Comment();
}
