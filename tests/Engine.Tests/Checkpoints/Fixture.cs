using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Checkpoints;

internal static class Fixture
{
    public static string Path(string relative) => System.IO.Path.Combine(FixtureFolder.Path, relative);
}
