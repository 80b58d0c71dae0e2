using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using MendCluster.Contracts;
using Microsoft.Extensions.Logging;

namespace MendCluster.Server.Security;

/// <summary>A key that lets somebody in. The key itself is nowhere kept.</summary>
/// <param name="Name">Whose it is; the author of edits made with it.</param>
/// <param name="Sha256">Of the key in UTF-8, hexadecimal.</param>
/// <param name="Scopes">The only scopes that it may edit and ask in; null: all.</param>
/// <param name="Expires">Null: never.</param>
public sealed record ApiKey(string Name, string Sha256, Right Right, IReadOnlyList<string>? Scopes = null, DateTimeOffset? Expires = null)
{
    /// <summary>Every key begins so: it is told from tokens by it, and found where it should not be.</summary>
    public const string Prefix = "mend_";

    private const int RandomBytes = 32;

    /// <summary>A new key and what is kept of it.</summary>
    public static (string Key, ApiKey Kept) New(string name, Right right, IReadOnlyList<string>? scopes = null,
        DateTimeOffset? expires = null)
    {
        var key = Prefix + Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(RandomBytes));
        return (key, new(name, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(key))), right, scopes, expires));
    }

    /// <summary>Looks whether a server could read these keys.</summary>
    /// <exception cref="MendException">It could not.</exception>
    public static void Check(string json)
    {
        try
        {
            _ = ApiKeys.Read(Encoding.UTF8.GetBytes(json));
        }
        catch (Exception e) when (e is JsonException or InvalidDataException)
        {
            throw new MendException(MendError.InvalidData, $"These are no keys: {e.Message}",
                "Correct the file; docs/security.md has its form.", e);
        }
    }
}

/// <summary>
/// The keys that are let in, of a file <c>{"keys": [{"name", "sha256", "right", "scopes", "expires"}]}</c>. It is looked at again every
/// second that a request comes in; one that cannot be used leaves the keys that were read before in force, and says so. A key is compared
/// with all of them, in constant time.
/// </summary>
internal sealed class ApiKeys
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    private readonly string? _file;
    private readonly IReadOnlyList<Kept> _own;
    private readonly TimeProvider _time;
    private readonly ILogger<ApiKeys> _logger;
    private readonly Lock _lock = new();
    private byte[] _read = [];
    private long _looked;
    private IReadOnlyList<Kept> _kept = [];

    /// <param name="file">Null: there is none.</param>
    /// <param name="own">Keys of this process, beside those of the file.</param>
    /// <exception cref="MendException">The file cannot be used.</exception>
    public ApiKeys(string? file, IEnumerable<ApiKey> own, TimeProvider time, ILogger<ApiKeys> logger)
    {
        (_file, _own, _time, _logger) = (file, [.. own.Select(Kept.Of)], time, logger);
        try
        {
            Look();
        }
        catch (Exception e) when (IsUnusable(e))
        {
            throw new MendException(MendError.InvalidData, $"The keys in {file} cannot be used: {e.Message}",
                "Correct the file; docs/security.md has its form.", e);
        }
    }

    /// <returns>Null when the key is unknown or expired.</returns>
    public Caller? Find(string key)
    {
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes(key));
        Kept? found = null;
        foreach (var kept in Current().Concat(_own)) // all of them, whichever is found
            if (CryptographicOperations.FixedTimeEquals(kept.Hash, hash))
                found = kept;
        return found is null || found.Key.Expires <= _time.GetUtcNow() ? null : new(found.Key.Name, found.Key.Right, found.Key.Scopes);
    }

    private IReadOnlyList<Kept> Current()
    {
        lock (_lock)
        {
            if (_file is null || _time.GetElapsedTime(_looked) < Pause)
                return _kept;
            try
            {
                Look();
            }
            catch (Exception e) when (IsUnusable(e))
            {
                LogMessages.KeysUnusable(_logger, e, _file, e.Message);
            }
            return _kept;
        }
    }

    private static bool IsUnusable(Exception e) => e is IOException or UnauthorizedAccessException or JsonException or InvalidDataException;

    /// <summary>By what it holds: the time of a mounted secret's file does not tell.</summary>
    private void Look()
    {
        _looked = _time.GetTimestamp();
        if (_file is null)
            return;
        var now = File.ReadAllBytes(_file);
        if (_read.Length > 0 && now.AsSpan().SequenceEqual(_read))
            return;
        (_kept, _read) = (Read(now), now);
        LogMessages.KeysRead(_logger, _kept.Count, _file);
    }

    /// <exception cref="JsonException">It is no JSON of the form.</exception>
    /// <exception cref="InvalidDataException">A key in it cannot be.</exception>
    internal static IReadOnlyList<Kept> Read(byte[] json) =>
        [.. (JsonSerializer.Deserialize<KeyFile>(json, MendHttp.Strict)
        ?? throw new InvalidDataException("it holds null")).Keys.Select(Kept.Of)];

    private sealed record KeyFile(IReadOnlyList<ApiKey> Keys);

    internal sealed record Kept(ApiKey Key, byte[] Hash)
    {
        public static Kept Of(ApiKey key)
        {
            if (string.IsNullOrWhiteSpace(key.Name) || key.Name.Any(char.IsControl)
                || key.Name.StartsWith(Authentication.OidcPrefix, StringComparison.Ordinal))
                throw new InvalidDataException($"a key has the name '{key.Name}'; it is not empty, on one line, and does not begin with {Authentication.OidcPrefix}");
            var hash = key.Sha256.Length == 2 * SHA256.HashSizeInBytes && key.Sha256.All(char.IsAsciiHexDigit)
                ? Convert.FromHexString(key.Sha256) : null;
            return new(key, hash ?? throw new InvalidDataException($"the sha256 of {key.Name}'s key is no SHA-256 in hexadecimal digits"));
        }
    }
}
