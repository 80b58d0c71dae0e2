using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Grains;
using MendCluster.Grains.Interfaces;
using MendCluster.Testing;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace MendCluster.Server.Tests;

public sealed class TlsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task HttpIsEncrypted_AndARenewedCertificateIsTakenUp()
    {
        var authority = new Authority("http");
        authority.Issue(_folder.Path, "first");
        await using var server =
            await TinyServer.StartAsync((settings, _) =>
            settings with { Tls = new() { Certificate = _folder["tls.crt"], Key = _folder["tls.key"] } });
        Assert.Equal("https", server.Server.Address.Scheme);
        Assert.Equal("CN=first", await ShownAsync());
        authority.Issue(_folder.Path, "second");
        await Task.Delay(TimeSpan.FromSeconds(1.1));
        Assert.Equal("CN=second", await ShownAsync());
        await File.WriteAllTextAsync(_folder["tls.crt"], "nothing");
        await Task.Delay(TimeSpan.FromSeconds(1.1));
        Assert.Equal("CN=second", await ShownAsync());
        Assert.Contains(server.Logged, logged => logged.Event == 304);

        async Task<string> ShownAsync()
        {
            var shown = "";
            using var http = new HttpClient(new SocketsHttpHandler
            {
                SslOptions =
                { RemoteCertificateValidationCallback = (_, certificate, _, _) => (shown = certificate!.Subject).Length > 0 }
            });
            using var request = new HttpRequestMessage(HttpMethod.Get,
                new Uri(server.Server.Address, "/v1/status"))
            { Headers = { Authorization = new("Bearer", server.ReadKey) } };
            Assert.True((await http.SendAsync(request)).IsSuccessStatusCode);
            return shown;
        }
    }

    [Fact]
    public async Task SilosAndClients_SpeakToNobodyWithoutACertificateOfTheirAuthority()
    {
        var (own, other) = (new Authority("own"), new Authority("other"));
        foreach (var (name, authority, trusted) in new[] { ("silo", own, own), ("client", own, own), ("stranger", other, own) })
        {
            Directory.CreateDirectory(_folder[name]);
            authority.Issue(_folder[name], name);
            await File.WriteAllTextAsync(Path.Combine(_folder[name], ClusterTls.AuthorityFile), trusted.Pem);
        }
        TinyModels.Write(_folder.Path, "gpt2");
        var ports = FreePorts(4);
        var logged = new ConcurrentQueue<(string Category, LogLevel, int Event, string Text)>();
        using var logs = new KeptLog(logged);
        ClusterSettings settings = new()
        {
            ModelDirectory = _folder.Path,
            Editor = _folder["editor.safetensors"],
            Ledger = _folder["ledger"],
            Replicas = [["silo-0", "silo-1"]],
        };
        using var first = await SiloAsync(0);
        using var second = await SiloAsync(1);
        await using (var client = await OrleansCluster.ConnectAsync(_folder["members"], "model", tls: ClusterTls.In(_folder["client"])))
            Assert.Equal(new EditId(1), (await client.EditAsync(TinyServer.Prompt, TinyServer.Target)).Id); // over both silos
        await Task.WhenAll(new[] { null, ClusterTls.In(_folder["stranger"]) }.Select(async tls =>
        {
            var refused = await Assert.ThrowsAsync<MendException>(() => OrleansCluster.ConnectAsync(_folder["members"], "model", tls: tls));
            Assert.Equal(MendError.CoordinatorLost, refused.Error);
            Assert.Contains(tls?.Certificate ?? "no certificate", refused.Message, StringComparison.Ordinal);
        }));

        // A renewed certificate is taken up by the next connection.
        await File.WriteAllTextAsync(Path.Combine(_folder["client"], ClusterTls.AuthorityFile), own.Pem);
        own.Issue(_folder["client"], "renewed");
        await using var again = await OrleansCluster.ConnectAsync(_folder["members"], "model", tls: ClusterTls.In(_folder["client"]));
        Assert.Single(await again.LedgerAsync());

        // Files that cannot be used leave what was read before in force, and that is told.
        await File.WriteAllTextAsync(Path.Combine(_folder["silo"], ClusterTls.AuthorityFile), "nothing");
        await File.WriteAllTextAsync(Path.Combine(_folder["silo"], ClusterTls.CertificateFile), "nothing");
        await Task.Delay(TimeSpan.FromSeconds(1.1));
        await using (var later = await OrleansCluster.ConnectAsync(_folder["members"], "model", tls: ClusterTls.In(_folder["client"])))
            Assert.Single(await later.LedgerAsync());
        Assert.Superset(new HashSet<int> { 1, 2, 3, 4 }, logged.Select(line => line.Event).ToHashSet());
        await second.StopAsync();
        await first.StopAsync();

        async Task<IHost> SiloAsync(int number)
        {
            var builder = Host.CreateApplicationBuilder();
            builder.Logging.ClearProviders();
            builder.UseOrleans(silo =>
                silo.AddMendCluster(settings, $"silo-{number}")
                .UseFileMembership(_folder["members"], ports[2 * number], ports[2 * number + 1])
                .UseMendTls(ClusterTls.In(_folder["silo"]), TimeProvider.System, logs.CreateLogger("tls")));
            var host = builder.Build();
            await host.StartAsync();
            return host;
        }
    }

    private static int[] FreePorts(int count)
    {
        var listeners = Enumerable.Range(0, count).Select(_ => new TcpListener(System.Net.IPAddress.Loopback, 0)).ToList();
        listeners.ForEach(listener => listener.Start());
        int[] ports = [.. listeners.Select(listener => ((System.Net.IPEndPoint)listener.LocalEndpoint).Port)];
        listeners.ForEach(listener => listener.Stop());
        return ports;
    }

    /// <summary>An authority of its own, and certificates that it gives, in the files of a Kubernetes secret.</summary>
    private sealed class Authority
    {
        private readonly X509Certificate2 _root;

        public Authority(string name)
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
            _root = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        }

        public string Pem => _root.ExportCertificatePem();

        public void Issue(string folder, string name)
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
            request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new("1.3.6.1.5.5.7.3.1"), new("1.3.6.1.5.5.7.3.2")],
                false));
            using var issued = request.Create(_root, DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddHours(1),
                RandomNumberGenerator.GetBytes(8));
            File.WriteAllText(Path.Combine(folder, ClusterTls.CertificateFile), issued.ExportCertificatePem());
            File.WriteAllText(Path.Combine(folder, ClusterTls.KeyFile), key.ExportPkcs8PrivateKeyPem());
        }
    }
}
