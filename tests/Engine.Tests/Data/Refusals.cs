namespace MendCluster.Engine.Tests.Data;

internal static class Refusals
{
    /// <summary>Fails unless reading the file is refused by its path and the expected place and finding.</summary>
    public static void AssertRefused<T>(string path, Func<string, T> read, string expected)
    {
        var message = Assert.Throws<InvalidDataException>(() => { read(path); }).Message;
        Assert.StartsWith(path, message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
    }
}
