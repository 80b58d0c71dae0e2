namespace MendCluster.Engine;

/// <summary>What lies in place of a large file where a repository was fetched without git-LFS: a few lines of text.</summary>
internal static class LfsPointer
{
    public const string Said = "is a git-LFS pointer, not the file that it points to; fetch it with 'git lfs pull'";

    public static ReadOnlySpan<byte> Start => "version https://git-lfs"u8;

    public static bool Is(string text) => text.StartsWith("version https://git-lfs", StringComparison.Ordinal);
}
