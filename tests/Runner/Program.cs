// Runs tests where there is no .NET SDK: the GPU kit carries this program (bench/gpu).
//   MendCluster.Runner Category=Parity ...    the tests that have one of these traits; the last line is "N passed, M failed, K skipped"
using System.Reflection;
using MendCluster.Runner;

string[] assemblies = ["MendCluster.Engine.Tests", "MendCluster.Distributed.Tests"];
if (args.Length == 0 || args.FirstOrDefault(arg => arg.Split('=').Length != 2) is not null)
{
    Console.Error.WriteLine("MendCluster.Runner NAME=VALUE ..., traits of the wanted tests, such as Category=Parity");
    return 2;
}
var traits = args.Select(arg => arg.Split('=')).Select(pair => (Name: pair[0], Value: pair[1])).ToList();
var tally = new Tally(Console.Out);
foreach (var name in assemblies)
    TestRun.Of(Assembly.Load(name), test => traits.Any(trait => test.Traits.TryGetValue(trait.Name, out var values) && values.Contains(trait.Value)), tally);
Console.WriteLine($"{tally.Passed} passed, {tally.Failed} failed, {tally.Skipped} skipped");
return tally.Passed > 0 && tally.Failed == 0 ? 0 : 1;
