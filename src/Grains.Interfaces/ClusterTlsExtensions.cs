using MendCluster.Contracts;
using Microsoft.Extensions.Logging;
using Orleans.Connections.Security;

namespace MendCluster.Grains.Interfaces;

public static class ClusterTlsExtensions
{
    /// <summary>Whom connections are said to be for; it stands in no certificate: every one of the cluster's authority is good.</summary>
    private const string Host = "mend";

    /// <param name="logger">Told of every change of the files.</param>
    /// <exception cref="MendException">A file cannot be used.</exception>
    public static ISiloBuilder UseMendTls(this ISiloBuilder silo, ClusterTls tls, TimeProvider time, ILogger logger) =>
        silo.UseTls(options => Apply(tls, options, time, logger));

    /// <param name="logger">As for a silo.</param>
    /// <exception cref="MendException">A file cannot be used.</exception>
    public static IClientBuilder UseMendTls(this IClientBuilder client, ClusterTls tls, TimeProvider time, ILogger logger) =>
        client.UseTls(options => Apply(tls, options, time, logger));

    private static void Apply(ClusterTls tls, TlsOptions options, TimeProvider time, ILogger logger)
    {
        var own = new CertificateFiles(tls.Certificate, tls.Key, time, (read, e) =>
        {
            if (e is null)
                logger.CertificateRead(tls.Certificate, read.NotAfter);
            else
                logger.CertificateUnusable(e, tls.Certificate, e.Message);
        });
        var trusted = new AuthorityFile(tls.Authority, time, (read, e) =>
        {
            if (e is null)
                logger.AuthoritiesRead(read.Count, tls.Authority);
            else
                logger.AuthoritiesUnusable(e, tls.Authority, e.Message);
        });
        _ = trusted.Current;
        options.LocalCertificate = own.Current; // refused at the start; connections have the one of their time
        options.LocalServerCertificateSelector = (_, _) => own.Current;
        options.LocalClientCertificateSelector = (_, _, _, _, _) => own.Current;
        (options.RemoteCertificateMode, options.ClientCertificateMode) =
            (RemoteCertificateMode.RequireCertificate, RemoteCertificateMode.RequireCertificate);
        options.CheckCertificateRevocation = false;
        options.RemoteCertificateValidation = (certificate, _, _) => certificate is not null && trusted.Trusts(certificate);
        options.OnAuthenticateAsClient = (_, client) => client.TargetHost = Host;
    }
}
