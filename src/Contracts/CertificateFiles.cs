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
    private readonly PemFiles<X509Certificate2Collection> _files = new([certificate, key], Parse,
        $"The certificate in {certificate} and {key}", "Both are PEM files, and belong together.", time,
        (read, e) => changed?.Invoke(read[0], e));

    /// <exception cref="MendException">The files cannot be used, and none that could were read before.</exception>
    public X509Certificate2 Current => Chain[0];

    /// <summary>The certificate, and those between it and its authority.</summary>
    /// <exception cref="MendException">As <see cref="Current"/>.</exception>
    public X509Certificate2Collection Chain => _files.Current;

    private static X509Certificate2Collection Parse(IReadOnlyList<string> texts)
    {
        var chain = new X509Certificate2Collection();
        chain.ImportFromPem(texts[0]);
        if (chain.Count == 0)
            throw new CryptographicException("there is no certificate in it");
        using var pair = X509Certificate2.CreateFromPem(texts[0], texts[1]);
        chain[0].Dispose();
        // TLS on Windows takes no key that is in memory alone
        chain[0] = X509CertificateLoader.LoadPkcs12(pair.Export(X509ContentType.Pkcs12), null);
        return chain;
    }
}
