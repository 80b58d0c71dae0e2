using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Deployment;
using MendCluster.Testing;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace MendCluster.Kubernetes.Tests;

/// <summary>What an init container does: the files of one stage, from a web server, are all that a silo of that stage needs.</summary>
public sealed class FetchTests : IAsyncLifetime, IDisposable
{
    private const string Token = "a-token";

    private readonly TemporaryFolder _folder = new();
    private WebApplication? _server;
    private string _address = "";

    public Task InitializeAsync() => Task.CompletedTask;

    public async Task DisposeAsync()
    {
        if (_server is not null)
            await _server.DisposeAsync();
    }

    public void Dispose()
    {
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
        await ServeAsync(_folder["stages"]);
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
        await ServeAsync(_folder["stages"]);
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
        await ServeAsync(_folder["stages"]);
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
        await ServeAsync(_folder["stages"]);
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

    private async Task ServeAsync(string folder)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Logging.ClearProviders();
        _server = builder.Build();
        _server.MapGet("/resolve/main/{name}", (HttpContext context, string name) =>
        {
            var file = Path.Combine(folder, name);
            return context.Request.Headers.Authorization != $"Bearer {Token}" ? Results.Unauthorized()
                : File.Exists(file) ? Results.File(file)
                : Results.NotFound();
        });
        await _server.StartAsync();
        _address = $"{_server.Urls.Single()}/resolve/main";
    }
}
