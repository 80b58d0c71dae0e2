using System.Text;

namespace MendCluster.Cli;

/// <summary>
/// The standard output, which may be closed, or on a disk that is full: that must not stop a command in the middle of its work, on whatever
/// thread it speaks. What went wrong is said at the end.
/// </summary>
internal sealed class CheckedOutput(TextWriter inner) : TextWriter
{
    public override Encoding Encoding => inner.Encoding;

    /// <summary>The first failure; null: everything was written.</summary>
    public string? Failure { get; private set; }

    public override void Write(char value) => Try(() => inner.Write(value));

    public override void Write(char[] buffer, int index, int count) => Try(() => inner.Write(buffer, index, count));

    public override void Write(string? value) => Try(() => inner.Write(value));

    public override void Flush() => Try(inner.Flush);

    private void Try(Action write)
    {
        if (Failure is not null)
            return;
        try
        {
            write();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ObjectDisposedException)
        {
            Failure = e.Message;
        }
    }
}
