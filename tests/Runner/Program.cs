// Runs tests where there is no .NET SDK: the GPU kit carries this program (bench/gpu).
//   MendCluster.Runner Category=Parity ~Gpu    the tests that have such a trait or such a text in their full name; the last line is
//                                              "N passed, M failed, K skipped"
//   MendCluster.Runner bad-calls SEED ROUNDS   calls whose arguments do not fit; one without a guard in native code ends the process
//   MendCluster.Runner unguarded-call          such a call
//   MendCluster.Runner kept-copies SECONDS     copies of tensors under constant collection; one that is not held ends the process
using System.Globalization;
using System.Reflection;
using MendCluster.Engine.Tests.Torch;
using MendCluster.Runner;
using Xunit.Abstractions;

if (args is ["bad-calls", var seed, var rounds])
{
    var (refused, calls) = BadCalls.Run(int.Parse(seed, CultureInfo.InvariantCulture), int.Parse(rounds, CultureInfo.InvariantCulture),
        Console.WriteLine);
    Console.WriteLine($"{refused} refused of {calls} calls");
    return 0;
}

if (args is ["unguarded-call"])
    BadCalls.RunUnguarded();

if (args is ["kept-copies", var seconds])
{
    Console.WriteLine($"{KeptCopies.Run(TimeSpan.FromSeconds(int.Parse(seconds, CultureInfo.InvariantCulture)))} rounds");
    return 0;
}

string[] assemblies = ["MendCluster.Engine.Tests", "MendCluster.Distributed.Tests"];
if (args.Length == 0 || !args.All(arg => arg.StartsWith('~') || arg.Split('=').Length == 2))
{
    Console.Error.WriteLine("MendCluster.Runner TRAIT=VALUE | ~TEXT ...: which tests, such as Category=Parity");
    return 2;
}
bool IsWanted(ITestCase test) => args.Any(arg => arg.StartsWith('~')
    ? test.DisplayName.Contains(arg[1..], StringComparison.Ordinal)
    : test.Traits.TryGetValue(arg.Split('=')[0], out var values) && values.Contains(arg.Split('=')[1]));

var tally = new Tally(Console.Out);
foreach (var name in assemblies)
    TestRun.Of(Assembly.Load(name), IsWanted, tally);
Console.WriteLine($"{tally.Passed} passed, {tally.Failed} failed, {tally.Skipped} skipped");
return tally.Passed > 0 && tally.Failed == 0 ? 0 : 1;
