namespace MendCluster.Engine.Tests.Checkpoints;

internal static class Fixture
{
    private static readonly string Folder = Environment.GetEnvironmentVariable("MEND_FIXTURES") ?? Find();

    public static string Path(string relative) => System.IO.Path.Combine(Folder, relative);

    private static string Find()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(System.IO.Path.Combine(folder.FullName, "MendCluster.sln")))
            folder = folder.Parent ?? throw new DirectoryNotFoundException($"no MendCluster.sln above {AppContext.BaseDirectory}");
        return System.IO.Path.Combine(folder.FullName, "tests", "Fixtures");
    }
}
