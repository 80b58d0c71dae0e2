using MendCluster.Contracts;
using Orleans.Connections.Security;

namespace MendCluster.Grains.Interfaces;

public static class ClusterTlsExtensions
{
    /// <summary>Whom connections are said to be for; it stands in no certificate: every one of the cluster's authority is good.</summary>
    private const string Host = "mend";

    /// <exception cref="MendException">A file cannot be used.</exception>
    public static ISiloBuilder UseMendTls(this ISiloBuilder silo, ClusterTls tls, TimeProvider time) =>
        silo.UseTls(options => Apply(tls, options, time));

    /// <exception cref="MendException">A file cannot be used.</exception>
    public static IClientBuilder UseMendTls(this IClientBuilder client, ClusterTls tls, TimeProvider time) =>
        client.UseTls(options => Apply(tls, options, time));

    private static void Apply(ClusterTls tls, TlsOptions options, TimeProvider time)
    {
        var own = new CertificateFiles(tls.Certificate, tls.Key, time);
        var trusted = new AuthorityFile(tls.Authority, time);
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
