using System.Security.Cryptography;

namespace MendCluster.Contracts;

/// <summary>
/// What PEM files hold, looked at again every second that it is asked for. Files that cannot be used leave what was read before in force.
/// </summary>
/// <param name="parse">Makes it of the files' texts.</param>
/// <param name="what">What cannot be used then, with the files' names.</param>
/// <param name="changed">Told of everything that is taken up, and of files that cannot be used.</param>
internal sealed class PemFiles<T>(
    IReadOnlyList<string> files, Func<IReadOnlyList<string>, T> parse, string what, string hint, TimeProvider time,
    Action<T, Exception?>? changed = null)
    where T : class
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private IReadOnlyList<string> _read = [];
    private T? _current;
    private long _looked;

    /// <exception cref="MendException">The files cannot be used, and none that could were read before.</exception>
    public T Current
    {
        get
        {
            lock (_lock)
                if (_current is null || time.GetElapsedTime(_looked) >= Pause)
                    try
                    {
                        Look();
                    }
                    catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException)
                    {
                        if (_current is null)
                            throw new MendException(MendError.FileUnusable, $"{what} cannot be used: {e.Message}", hint, e);
                        changed?.Invoke(_current, e);
                    }
            return _current!;
        }
    }

    private void Look()
    {
        _looked = time.GetTimestamp();
        List<string> now = [.. files.Select(File.ReadAllText)];
        if (now.SequenceEqual(_read))
            return;
        var current = parse(now);
        (_current, _read) = (current, now); // the one before may still be in use
        changed?.Invoke(current, null);
    }
}
