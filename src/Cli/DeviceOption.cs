using System.CommandLine;

namespace MendCluster.Cli;

/// <summary><c>--device</c>, of every command that holds a model.</summary>
internal static class DeviceOption
{
    public const string Cpu = "cpu";

    public static Option<string> One() => Named("where the model is held and computes: cpu, cuda (the first GPU), cuda:1");

    public static Option<string> InTurn() =>
        Named("where the model is held and computes: cpu, cuda (the first GPU), or a list such as cuda:0,cuda:1, which the stages have in turn");

    private static Option<string> Named(string description) =>
        new("--device") { Description = description, DefaultValueFactory = _ => Cpu };
}
