
namespace MendCluster.Testing;

public static class Fixture
{
    public static string Path(string relative) => System.IO.Path.Combine(FixtureFolder.Path, relative);
}
