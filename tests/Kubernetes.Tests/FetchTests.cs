using System.Net;
using System.Net.Sockets;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Deployment;
using MendCluster.Testing;

namespace MendCluster.Kubernetes.Tests;

/// <summary>What an init container does: the files of one stage, from a web server, are all that a silo of that stage needs.</summary>
public sealed class FetchTests : IDisposable
{
    private const string Token = "a-token";

    private readonly TemporaryFolder _folder = new();
    private readonly HttpListener _server = new();
    private string _address = "";

    public void Dispose()
    {
        _server.Close();
        _folder.Dispose();
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("t5")] // shares its embedding between stages
    public async Task OneStagesFiles_AreEnoughForItsSilo_AndForTheCoordinator(string family)
    {
        const int stages = 3;
        TinyModels.Write(Directory.CreateDirectory(_folder["whole"]).FullName, family);
        ModelImport.Run(_folder["whole"], stages, _folder["stages"]);
        File.Copy(Path.Combine(_folder["whole"], "editor.safetensors"), Path.Combine(_folder["stages"], "editor.safetensors"));
        Serve(_folder["stages"]);
        var weights = Directory.GetFiles(_folder["stages"], "model-*").Length;
        var most = 0;
        for (var ordinal = stages; ordinal < 2 * stages; ordinal++) // of the second replica
        {
            var directory = _folder[$"pod-{ordinal}"];
            Assert.Equal((0, ""), await FetchAsync(directory, stages, ordinal, Token));
            most = Math.Max(most, weights - Directory.GetFiles(directory, "model-*").Length);
            Assert.Equal(ModelFingerprint.Of(_folder["stages"]), ModelFingerprint.Of(directory)); // the coordinator's question
            await using var silo = new ShardHost([new(directory, Path.Combine(directory, "editor.safetensors"), ordinal % stages, stages,
                DType.Float32)], TimeProvider.System);
            await silo.LoadAsync();
            var status = await silo.StatusAsync(0, ordinal % stages);
            Assert.Equal((ShardState.Ready, null), (status.State, status.Fault));
        }
        Assert.True(most > 0, "every stage fetched everything");

        var kept = Directory.GetFiles(_folder[$"pod-{stages}"], "model-0*").Select(file => new FileInfo(file)).ToList();
        var written = kept.Select(file => file.LastWriteTimeUtc).ToList();
        Assert.Equal((0, ""), await FetchAsync(_folder[$"pod-{stages}"], stages, stages, Token)); // the pod is started again
        Assert.Equal(written, kept.Select(file => new FileInfo(file.FullName).LastWriteTimeUtc));
        Assert.Empty(Directory.GetFiles(_folder[$"pod-{stages}"], "*.part"));
    }

    /// <summary>Trained on, imported again: every file has the length that it had.</summary>
    [Fact]
    public async Task AnotherModelOfTheSameShape_IsFetchedWhole()
    {
        Import(seed: 7);
        Serve(_folder["stages"]);
        Assert.Equal((0, ""), await FetchAsync(_folder["pod"], 2, 0, Token));
        Import(seed: 8);
        Assert.Equal((0, ""), await FetchAsync(_folder["pod"], 2, 0, Token));
        Assert.Equal(ModelFingerprint.Of(_folder["stages"]), ModelFingerprint.Of(_folder["pod"]));
        Assert.NotEmpty(Directory.GetFiles(_folder["pod"], "model-*"));
        Assert.All(Directory.GetFiles(_folder["pod"], "model-*"), file =>
            Assert.Equal(File.ReadAllBytes(Path.Combine(_folder["stages"], Path.GetFileName(file))), File.ReadAllBytes(file)));

        void Import(ulong seed)
        {
            var whole = Directory.CreateDirectory(_folder[$"whole-{seed}"]).FullName;
            TinyModels.Write(whole, "gpt2", seed);
            if (Directory.Exists(_folder["stages"]))
                Directory.Delete(_folder["stages"], recursive: true);
            ModelImport.Run(whole, 2, _folder["stages"]);
        }
    }

    [Fact]
    public async Task AFolderThatAnotherCommandMade_IsLeftAlone()
    {
        foreach (var (folder, seed) in new[] { ("stages", 7ul), ("pod", 8ul) })
        {
            TinyModels.Write(Directory.CreateDirectory(_folder[$"whole-{seed}"]).FullName, "gpt2", seed);
            ModelImport.Run(_folder[$"whole-{seed}"], 2, _folder[folder]);
        }
        Serve(_folder["stages"]);
        var before = Directory.GetFiles(_folder["pod"]).Order().Select(file => (file, Convert.ToHexString(File.ReadAllBytes(file)))).ToList();
        var (_, said) = await FetchAsync(_folder["pod"], 2, 0, Token);
        Assert.Contains("which mend fetch did not make", said, StringComparison.Ordinal);
        Assert.Equal(before, Directory.GetFiles(_folder["pod"]).Order().Select(file => (file, Convert.ToHexString(File.ReadAllBytes(file)))));
    }

    [Fact]
    public async Task WhatCannotBeFetched_IsSaid()
    {
        TinyModels.Write(Directory.CreateDirectory(_folder["whole"]).FullName, "gpt2");
        ModelImport.Run(_folder["whole"], 2, _folder["stages"]);
        Serve(_folder["stages"]);
        var (_, said) = await FetchAsync(_folder["pod"], 2, 0, "another");
        Assert.Contains("stages.json cannot be fetched: the server answers 401", said, StringComparison.Ordinal);
        (_, said) = await FetchAsync(_folder["pod"], 3, 0, Token);
        Assert.Contains("--stages is 3;", said, StringComparison.Ordinal);
        File.Delete(Directory.GetFiles(_folder["stages"], "model-00001*").Single());
        (_, said) = await FetchAsync(_folder["pod"], 2, 0, Token);
        Assert.Contains("model-00001-of-00002.safetensors cannot be fetched: the server answers 404", said, StringComparison.Ordinal);
    }

    private async Task<(int Code, string Error)> FetchAsync(string directory, int stages, int ordinal, string token)
    {
        var (code, output) = await MendProgram.ShellAsync(_folder.Path,
            $"MEND_FETCH_TOKEN={token} mend fetch --from {_address} --out {directory} --stages {stages} --ordinal {ordinal}");
        return (code, code == 0 ? "" : output);
    }

    private void Serve(string folder)
    {
        using var port = new TcpListener(IPAddress.Loopback, 0);
        port.Start();
        _address = $"http://127.0.0.1:{((IPEndPoint)port.LocalEndpoint).Port}/resolve/main";
        port.Stop();
        _server.Prefixes.Add($"{_address}/");
        _server.Start();
        _ = Task.Run(async () =>
        {
            while (_server.IsListening)
            {
                var context = await _server.GetContextAsync();
                var name = Path.GetFileName(context.Request.Url!.AbsolutePath);
                var file = Path.Combine(folder, name);
                context.Response.StatusCode = context.Request.Headers["Authorization"] != $"Bearer {Token}" ? 401 : File.Exists(file) ? 200
                    : 404;
                if (context.Response.StatusCode == 200)
                {
                    var bytes = await File.ReadAllBytesAsync(file);
                    context.Response.ContentLength64 = bytes.Length;
                    await context.Response.OutputStream.WriteAsync(bytes);
                }
                context.Response.Close();
            }
        });
    }
}
