using System.Globalization;
using System.Text.RegularExpressions;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Torch;

/// <summary>No argument ends the process: an error in native code comes as an exception.</summary>
public partial class NativeErrorTests
{
    /// <summary>No operators; and one that only a GPU has a use for.</summary>
    private static readonly HashSet<string> Apart = ["dim", "element_size", "enable_grad", "is_grad_enabled", "no_grad", "pin_memory"];

    [Fact]
    public async Task BadCallsAndRandomArguments_LeaveTheProcessAlive()
    {
        var (code, output) = await MendProgram.RunOtherAsync("Runner", "bad-calls", "1", "40");
        Assert.True(code == 0, output);
        var numbers = Counts().Match(output);
        Assert.True(numbers.Success && int.Parse(numbers.Groups[1].Value, CultureInfo.InvariantCulture) > 1000, output);
    }

    [Fact]
    public async Task ACallWithoutAGuard_EndsIt() // so the test above would see it
    {
        var (code, output) = await MendProgram.RunOtherAsync("Runner", "unguarded-call");
        Assert.NotEqual(0, code);
        Assert.Contains("terminate called", output, StringComparison.Ordinal);
    }

    /// <summary>What is made on the way to a copy is named by nobody while native code reads it.</summary>
    [Fact]
    public async Task CopiesThatAreKept_AreWholeUnderConstantCollection()
    {
        var (code, output) = await MendProgram.RunOtherAsync("Runner", "kept-copies", "10");
        Assert.True(code == 0, output);
        Assert.Matches(@"^\d+ rounds", output);
    }

    [Fact]
    public void EveryOperatorOfTheProduct_IsAmongThem()
    {
        HashSet<string> called = [];
        foreach (var assembly in new[] { "MendCluster.Engine", "MendCluster.Distributed" })
        {
            using var graph = new CallGraph(Path.Combine(AppContext.BaseDirectory, assembly + ".dll"));
            called.UnionWith(graph.Calls.Values.SelectMany(callees => callees).Select(callee => Operator().Match(callee))
                .Where(match => match.Success).Select(match => match.Groups[1].Value));
        }
        Assert.True(called.Count > 60, $"the search found {called.Count} operators");
        var missing = string.Join(' ',
            called.Where(name => !Apart.Contains(name) && !BadCalls.Operators.ContainsKey(name)).Order(StringComparer.Ordinal));
        Assert.True(missing == "", missing);
    }

    [GeneratedRegex(@"(\d+) refused of (\d+)")]
    private static partial Regex Counts();

    /// <summary>Functions of torch, of its parts, and of Tensor; not what reads a property.</summary>
    [GeneratedRegex(@"^TorchSharp\.torch\.(?:Tensor\.|nn\.functional\.|linalg\.|special\.)?((?!get_|set_|\.ctor)[a-z]\w*)\(")]
    private static partial Regex Operator();
}
