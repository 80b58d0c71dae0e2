using System.Text.Json.Nodes;
using k8s.Models;
using MendCluster.Testing;

namespace MendCluster.Kubernetes.Tests;

/// <summary>
/// The image of k8s/Dockerfile, built by image.sh over a stand-in for Microsoft's base, and a silo of the chart run from it under chroot.
/// </summary>
public sealed class ImageTests : IAsyncLifetime, IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private PostgresInstance _server = null!;

    private IEnumerable<string> Buildah(params IEnumerable<string> arguments) =>
        ["--storage-driver", "vfs", "--root", _folder["storage"], "--runroot", _folder["run"], .. arguments];

    public async Task InitializeAsync() => _server = await PostgresInstance.StartNewAsync();

    public async Task DisposeAsync()
    {
        await _server.DisposeAsync();
        if (Tools.Find("buildah") is { } buildah)
            Tools.Run(buildah, Buildah("rm", "--all"));
    }

    public void Dispose() => _folder.Dispose();

    [ImageFact]
    [Trait("Category", "Slow")]
    public async Task ASiloOfTheChart_RunsFromTheImage_AsSomebodyWhoMayWriteNothing()
    {
        Ran(Tools.Run("dotnet", ["publish", "src/Cli", "-c", "Release", "--no-build", "-nologo", "-v", "quiet", "--output",
            _folder["app"]]));
        var container = Ran(Tools.Run(Path.Combine(FixtureFolder.Repository, "tests", "Kubernetes.Tests", "image.sh"),
            [_folder.Path, _folder["app"], Path.Combine(FixtureFolder.Repository, "artifacts", "debian-base")])).Trim().Split('\n')[^1];
        var buildah = Tools.Find("buildah")!;
        var image = JsonNode.Parse(Ran(Tools.Run(buildah,
            Buildah("inspect", "--type", "image", "mendcluster:test"))))!["OCIv1"]!["config"]!;
        Assert.Equal(("10001:10001", "/app", "abc"),
            ((string)image["User"]!, (string)image["WorkingDir"]!, (string)image["Labels"]!["org.opencontainers.image.revision"]!));
        string[] run = ["run", "--isolation", "chroot"];
        var listed = JsonNode.Parse(Ran(Tools.Run(buildah, Buildah([.. run, container, "--", "cat",
            "/app/_manifest/spdx_2.2/manifest.spdx.json"]))))!["packages"]!.AsArray();
        foreach (var (name, licence) in new[] { ("Microsoft.Orleans.Server", "MIT"), ("Npgsql", "PostgreSQL"), ("TorchSharp", "MIT") })
            Assert.Contains(listed, package => ((string)package!["name"]!, (string?)package["licenseDeclared"]) == (name, licence)
                && ((string)package["versionInfo"]!).Length > 0);
        Assert.Equal("10001 no",
            Ran(Tools.Run(buildah, Buildah([.. run, container, "--", "sh", "-c",
            "echo $(id -u) $(touch /app/x 2>/dev/null && echo yes || echo no)"]))).Trim());

        TinyModels.Write(Directory.CreateDirectory(_folder["model"]).FullName, "gpt2");
        var objects = Chart.Objects("cpu", "--set=model.editor=editor.safetensors,model.directory=");
        var silo = objects.OfType<V1StatefulSet>().Single().Spec.Template.Spec.Containers.Single();
        var secrets = new Dictionary<string, string>
        {
            ["mend-postgresql/membership"] = _server.Connection(),
            ["mend-postgresql/ledger"] = _server.Connection()
        };
        var variables = PodEnvironment.Of(silo, "edits-mendcluster-silo-0", "127.0.0.1", 0, secrets);
        variables["Mend__Server__Port"] = variables["Mend__Server__ManagementPort"] = "0"; // the network is this machine's
        const UnixFileMode readable =
            UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;
        File.SetUnixFileMode(_server.Folder, File.GetUnixFileMode(_server.Folder) | readable); // the image's user is none of this machine's
        foreach (var command in new[] { "cluster", "ledger" })
            Ran(Tools.Run(buildah, Buildah([.. run, "--volume", $"{_server.Folder}:{_server.Folder}", container, "--", "dotnet", "mend.dll",
                command, "migrate", "--postgres",
                command == "ledger" ? variables["Mend__Cluster__Ledger"]["postgres:".Length..] : _server.Connection()])));
        // The shell says its process, which becomes the silo: it is ended by that.
        const string started = "echo $$; exec \"$@\"";
        var ended = Task.Run(() =>
            Tools.Run("sh", ["-c", "\"$@\" | while read -r line; do echo \"$line\"; case $line in Silo*) kill -TERM $silo ;; *[!0-9]*) ;; *) silo=$line ;; esac; done", "sh",
            buildah, .. Buildah([.. run, "--volume", $"{_server.Folder}:{_server.Folder}", "--volume", $"{_folder["model"]}:/models:ro",
                .. variables.SelectMany(variable => new[] { "--env", $"{variable.Key}={variable.Value}" }), container, "--", "sh", "-c",
                started, "silo", .. silo.Command])]));
        Assert.Same(ended, await Task.WhenAny(ended, Task.Delay(TimeSpan.FromMinutes(2))));
        var (_, output, error) = await ended;
        Assert.True(output.Contains("Silo edits-mendcluster-silo-0 of model t5-small: replica 1, stage 1 of 1 on cpu.",
            StringComparison.Ordinal), output + error);
        Assert.Equal("6", await _server.SqlAsync("select status from mend_silo")); // it said goodbye
    }

    private static string Ran((int Code, string Output, string Error) program) => program.Code == 0 ? program.Output
        : throw new InvalidOperationException(program.Output + program.Error);
}

/// <summary>A test that builds an image, beside tools.</summary>
public sealed class ImageFactAttribute : FactAttribute
{
    public ImageFactAttribute() => Skip = Tools.WhyNot("helm", "buildah", "debootstrap")
        ?? (!Environment.IsPrivilegedProcess ? "an image is built and run under chroot, which only root may"
        : File.ReadLines("/proc/self/mountinfo").All(mount => mount.Split(' ')[4] != "/") ? "the root here is no mount, and buildah needs one"
        : null);
}
