using System.Net;
using MendCluster.Client;
using MendCluster.Client.Chat;
using MendCluster.Contracts;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;

namespace MendCluster.Server.Tests;

public sealed class HttpClusterTests
{
    [Fact]
    public async Task WhatMayPass_IsSentAgain_WithTheSameKey_AndMadeOnce()
    {
        await using var server = await TinyServer.StartAsync();
        var faults = new Faults([HttpStatusCode.ServiceUnavailable, null, HttpStatusCode.BadGateway]);
        using var http = new HttpClient(faults) { BaseAddress = server.Server.Address };
        http.DefaultRequestHeaders.Authorization = new("Bearer", server.EditKey);
        await using var cluster = new HttpCluster(http);
        // the answer to the first attempt is lost after it was carried out
        var receipt = await cluster.EditAsync(TinyServer.Prompt, TinyServer.Target);
        Assert.Equal(4, faults.Keys.Count);
        Assert.Single(faults.Keys.Distinct());
        Assert.Equal(new EditId(1), receipt.Id);
        Assert.Single(await server.Cluster.LedgerAsync());

        faults.Next([null]);
        var reverted = await cluster.RevertAsync(receipt.Id); // by the attempt whose answer was lost
        Assert.Equal(new(receipt.Id, new(2)), reverted);
    }

    [Fact]
    public async Task ItGivesUp_AfterTheTimeForThat_AndSaysWhat()
    {
        using var http = new HttpClient { BaseAddress = new("http://127.0.0.1:1") };
        await using var cluster = new HttpCluster(http) { RetryTimeout = TimeSpan.FromSeconds(0.2) };
        Assert.Equal((MendError.CoordinatorLost, true), await ErrorAsync(() => cluster.AskAsync("red")));
        await using var server = await TinyServer.StartAsync();
        await using var stranger = new HttpCluster(server.Server.Address);
        Assert.Equal((MendError.NotAuthenticated, false), await ErrorAsync(() => stranger.AskAsync("red")));
        await using var reader = new HttpCluster(server.Server.Address, server.ReadKey);
        Assert.Equal((MendError.NotAllowed, false), await ErrorAsync(() => reader.EditAsync("red", "blue")));
        Assert.Equal((MendError.InvalidOption, false), await ErrorAsync(() => reader.EditAsync("red", "blue", new() { Author = "me" })));
        await using var elsewhere = new HttpCluster(server.Server.Management);
        Assert.Equal((MendError.ProtocolMismatch, false), await ErrorAsync(() => elsewhere.AskAsync("red")));
    }

    [Fact]
    public async Task ATraining_TellsItsSteps_AndIsEndedByCancelling()
    {
        await using var server = await TinyServer.StartAsync();
        await using var cluster = new HttpCluster(server.Server.Address, server.AdminKey);
        await File.WriteAllLinesAsync(Path.Combine(server.Folder["trainings"], "edits.tsv"),
            Enumerable.Range(0, 30).Select(i => $"what is {i}?\t{(i % 2 == 0 ? "blue" : "south")}"));
        var steps = new List<TrainingProgress>();
        var options = new EditorTrainingOptions
        {
            Mend = new() { Rank = 4, EditLr = 0.1 },
            MaxIters = 8,
            AccumulateBs = 2,
            ValInterval = 4,
            ValSteps = 2
        };
        var result = await cluster.Trainer(new("first", "edits.tsv", options)).TrainAsync(new Told(steps.Add));
        Assert.Equal("max_iters", result.Stopped);
        Assert.NotEmpty(steps);

        using var enough = new CancellationTokenSource();
        var longer = options with { MaxIters = 1_000_000, ValInterval = 1000 };
        var ended = await cluster.Trainer(new("second", "edits.tsv", longer)).TrainAsync(new Told(_ => enough.Cancel()), enough.Token);
        Assert.Equal("cancelled", ended.Stopped);
    }

    [Fact]
    public async Task AProgramOfServices_GetsItsCluster_AndItsChat()
    {
        await using var server = await TinyServer.StartAsync();
        await using var services = new ServiceCollection().AddMendCluster(new() { Address = server.Server.Address, Key = server.EditKey })
            .BuildServiceProvider();
        var cluster = services.GetRequiredService<IMendCluster>();
        await cluster.EditAsync(TinyServer.Prompt, "a woman from the south");
        var whole = await cluster.AskAsync(TinyServer.Prompt, new(MaxTokens: 8));

        using IChatClient chat = new MendChatClient(cluster, TinyServer.Model);
        var response = await chat.GetResponseAsync(TinyServer.Prompt, new() { MaxOutputTokens = 8 });
        Assert.Equal((whole.Text, 1L), (response.Text, response.AdditionalProperties![MendChatClient.VersionProperty]));
        Assert.Equal(whole.Text,
            string.Concat(await chat.GetStreamingResponseAsync(TinyServer.Prompt, new() { MaxOutputTokens = 8 })
            .Select(update => update.Text).ToListAsync()));
        Assert.Equal(TinyServer.Model, chat.GetService<ChatClientMetadata>()!.DefaultModelId);
        Assert.Same(cluster, chat.GetService<IMendCluster>());
        await Assert.ThrowsAsync<NotSupportedException>(() => chat.GetResponseAsync("red", new() { StopSequences = ["x"] }));
        await Assert.ThrowsAsync<NotSupportedException>(() =>
            chat.GetResponseAsync([new(ChatRole.User, [new UriContent("https://example.org/a.png", "image/png")])]));
    }

    private static async Task<(MendError, bool)> ErrorAsync(Func<Task> call)
    {
        var met = await Assert.ThrowsAsync<MendException>(call);
        return (met.Error, met.IsTransient);
    }

    private sealed class Told(Action<TrainingProgress> tell) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value) => tell(value);
    }

    /// <summary>Lets requests through and loses their answers.</summary>
    /// <param name="faults">In place of the answers; null: a connection that breaks.</param>
    private sealed class Faults(IEnumerable<HttpStatusCode?> faults) : DelegatingHandler(new SocketsHttpHandler())
    {
        private Queue<HttpStatusCode?> _faults = new(faults);

        public List<string> Keys { get; } = [];

        public void Next(IEnumerable<HttpStatusCode?> more) => _faults = new(more);

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (request.Headers.TryGetValues(MendHttp.IdempotencyKey, out var keys))
                Keys.AddRange(keys);
            var answer = await base.SendAsync(request, cancellationToken);
            if (!_faults.TryDequeue(out var fault))
                return answer;
            using (answer)
                return fault is { } status ? new(status) { Content = new StringContent("") }
                    : throw new HttpRequestException("the connection broke");
        }
    }
}
