using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MendCluster.Contracts;

/// <summary>
/// A certificate with its key, in PEM files that are looked at again every second that it is asked for: a certificate that is renewed is
/// taken up without a start anew. Files that cannot be used leave the certificate that was read before in force.
/// </summary>
/// <param name="certificate">The certificate, and after it those between it and its authority.</param>
/// <param name="key">Its private key.</param>
/// <param name="changed">Told of every certificate that is taken up, and of files that cannot be used.</param>
public sealed class CertificateFiles(string certificate, string key, TimeProvider time,
    Action<X509Certificate2, Exception?>? changed = null)
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private (string Certificate, string Key) _read;
    private X509Certificate2Collection? _current;
    private long _looked;

    /// <exception cref="MendException">The files cannot be used, and none that could were read before.</exception>
    public X509Certificate2 Current => Chain[0];

    /// <summary>The certificate, and those between it and its authority.</summary>
    /// <exception cref="MendException">As <see cref="Current"/>.</exception>
    public X509Certificate2Collection Chain
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
                            throw new MendException(MendError.FileUnusable,
                                $"The certificate in {certificate} and {key} cannot be used: {e.Message}",
                                "Both are PEM files, and belong together.", e);
                        changed?.Invoke(_current[0], e);
                    }
            return _current!;
        }
    }

    private void Look()
    {
        _looked = time.GetTimestamp();
        var now = (File.ReadAllText(certificate), File.ReadAllText(key));
        if (now == _read)
            return;
        var chain = new X509Certificate2Collection();
        chain.ImportFromPem(now.Item1);
        if (chain.Count == 0)
            throw new CryptographicException("there is no certificate in it");
        using var pair = X509Certificate2.CreateFromPem(now.Item1, now.Item2);
        chain[0].Dispose();
        // TLS on Windows takes no key that is in memory alone
        chain[0] = X509CertificateLoader.LoadPkcs12(pair.Export(X509ContentType.Pkcs12), null);
        (_current, _read) = (chain, now); // the one before may still be in use
        changed?.Invoke(chain[0], null);
    }
}
