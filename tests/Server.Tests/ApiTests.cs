using System.Net;
using System.Text.Json;
using MendCluster.Contracts;
using Microsoft.Extensions.Logging;

namespace MendCluster.Server.Tests;

public sealed class ApiTests : IAsyncLifetime
{
    private const string Edit = $$"""{"prompt": "{{TinyServer.Prompt}}", "target": "{{TinyServer.Target}}"}""";

    private TinyServer _server = null!;
    private HttpClient _http = null!;

    public async Task InitializeAsync()
    {
        _server = await TinyServer.StartAsync();
        _http = _server.Client(_server.AdminKey);
    }

    public async Task DisposeAsync() => await _server.DisposeAsync();

    [Fact]
    public async Task AnEdit_IsMade_Found_AndTakenBack()
    {
        var before = await AskAsync(TinyServer.Prompt);
        using var made = await _http.PostAsync("/v1/edits", Edit);
        Assert.Equal(HttpStatusCode.Created, made.StatusCode);
        Assert.Equal("/v1/edits/1", made.Headers.Location!.ToString());
        var receipt = await made.JsonAsync();
        Assert.Equal((1, 1), (receipt.GetProperty("id").GetInt32(), receipt.GetProperty("version").GetInt32()));
        Assert.InRange(receipt.GetProperty("times").GetProperty("forward").GetDouble(), 1e-6, 60); // seconds
        Assert.NotEqual(before, await AskAsync(TinyServer.Prompt));

        var found = await (await _http.GetAsync("/v1/edits/1")).JsonAsync();
        Assert.Equal("admin", found.GetProperty("edit").GetProperty("author").GetString()); // whose key it was
        Assert.False(found.TryGetProperty("revert", out _));

        using var reverted = await _http.PostAsync("/v1/edits/1/revert", """{"mode": "recompute"}""");
        Assert.Equal(2, (await reverted.JsonAsync()).GetProperty("version").GetInt32());
        Assert.Equal(before, await AskAsync(TinyServer.Prompt));
        var revert = (await (await _http.GetAsync("/v1/edits/1")).JsonAsync()).GetProperty("revert");
        Assert.Equal(("admin", "recompute"), (revert.GetProperty("author").GetString(), revert.GetProperty("mode").GetString()));

        using var again = await _http.PostAsync("/v1/edits/1/revert", "{}");
        Assert.Equal((MendError.AlreadyReverted, 409), await CodeAsync(again));
    }

    [Fact]
    public async Task SameIdempotencyKeyTwice_EditsOnce_AndIsAnsweredWithTheSameReceipt()
    {
        var answers = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => _http.PostAsync("/v1/edits", Edit, "key-1")));
        Assert.Equal([HttpStatusCode.OK, HttpStatusCode.OK, HttpStatusCode.OK, HttpStatusCode.Created],
            answers.Select(answer => answer.StatusCode).Order());
        var receipts = await Task.WhenAll(answers.Select(answer => answer.JsonAsync()));
        Assert.Single(receipts.Select(receipt =>
            $"{receipt.GetProperty("id")} {receipt.GetProperty("version")} {receipt.GetProperty("figures")}").Distinct());
        Assert.Single(await _server.Cluster.LedgerAsync());

        using var other = await _http.PostAsync("/v1/edits", """{"prompt": "what is red", "target": "blue"}""", "key-1");
        Assert.Equal((MendError.IdempotencyKeyReused, 422), await CodeAsync(other));

        // Keys are their callers' own: another's same key is another key.
        using var others = await _server.Client(_server.EditKey)
            .PostAsync("/v1/edits", """{"prompt": "what is red", "target": "blue"}""", "key-1");
        Assert.Equal(HttpStatusCode.Created, others.StatusCode);
    }

    [Fact]
    public async Task APreview_ShowsParaphrases_AndChangesNothing()
    {
        using var answer = await _http.PostAsync("/v1/edits/preview",
            $$"""{"prompt": "{{TinyServer.Prompt}}", "target": "{{TinyServer.Target}}", "paraphrases": ["the mayor is", "mayor of the town"]}""");
        var preview = await answer.JsonAsync();
        Assert.Equal(0, preview.GetProperty("version").GetInt32());
        Assert.Equal(["the mayor is", "mayor of the town"],
            preview.GetProperty("paraphrases").EnumerateArray().Select(each => each.GetProperty("prompt").GetString()));
        Assert.Equal(await AskAsync("the mayor is"), preview.GetProperty("paraphrases")[0].GetProperty("answerBefore").GetString());
        Assert.NotEmpty(preview.GetProperty("weights").EnumerateArray());
        Assert.Empty(await _server.Cluster.LedgerAsync());

        using var edit = await _http.PostAsync("/v1/edits", """{"prompt": "what is red", "target": "blue", "paraphrases": ["red"]}""");
        Assert.Equal((MendError.InvalidOption, 422), await CodeAsync(edit));
    }

    [Fact]
    public async Task TheLedger_ComesByPages_Filtered_InBothOrders()
    {
        foreach (var (prompt, scope) in new[] { ("what is red", (string?)null), ("the old town", "tenant"), ("who is the mayor", null) })
            await _server.Cluster.EditAsync(prompt, "blue", new() { Author = scope ?? "me", Scope = scope });
        await _server.Cluster.RevertAsync(new(1), author: "you");

        Assert.Equal([1, 2], await VersionsAsync("?limit=2"));
        Assert.Equal([3, 4], await VersionsAsync("?limit=2&after=2"));
        Assert.Equal([4, 3], await VersionsAsync("?limit=2&order=newest"));
        Assert.Equal([2, 1], await VersionsAsync("?limit=2&order=newest&after=3"));
        Assert.Equal([1, 4], await VersionsAsync("?text=RED")); // a revert is found by what its edit says
        Assert.Equal([2], await VersionsAsync("?scope=tenant"));
        Assert.Equal([4], await VersionsAsync("?author=you"));
        Assert.Equal([4], await VersionsAsync("?kind=revert"));
        Assert.Equal(2, (await (await _http.GetAsync("/v1/ledger?limit=2")).JsonAsync()).GetProperty("next").GetInt32());
        Assert.False((await (await _http.GetAsync("/v1/ledger?limit=5")).JsonAsync()).TryGetProperty("next", out _));
        foreach (var (query, code, status) in new[]
        {
            ("?limit=0", MendError.InvalidOption, 422), ("?limit=1001", MendError.InvalidOption, 422),
                ("?limit=many", MendError.InvalidRequest, 400),
            ("?order=up", MendError.InvalidRequest, 400), ("?kind=thing", MendError.InvalidRequest, 400),
                ("?offset=3", MendError.InvalidRequest, 400),
        })
            Assert.Equal((code, status), await CodeAsync(await _http.GetAsync("/v1/ledger" + query)));

        async Task<List<int>> VersionsAsync(string query) =>
            [.. (await (await _http.GetAsync("/v1/ledger" + query)).JsonAsync()).GetProperty("entries").EnumerateArray()
            .Select(entry => entry.GetProperty("version").GetInt32())];
    }

    [Fact]
    public async Task AStreamedAnswer_IsTheWholeOne_InPieces()
    {
        await _server.Cluster.EditAsync(TinyServer.Prompt, "a woman from the south");
        var whole = await _server.Cluster.AskAsync(TinyServer.Prompt, new(MaxTokens: 12));
        using var request = new HttpRequestMessage(HttpMethod.Post,
            "/v1/ask")
        { Content = Http.Json($$"""{"prompt": "{{TinyServer.Prompt}}", "maxTokens": 12}""") };
        request.Headers.Accept.Add(new("text/event-stream"));
        using var response = await _http.SendAsync(request);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType!.MediaType);
        var events = (await response.Content.ReadAsStringAsync()).Split("\n\n", StringSplitOptions.RemoveEmptyEntries)
            .Select(each => each.Split('\n')).ToList();
        Assert.All(events.SkipLast(1), each => Assert.Equal("event: part", each[0]));
        Assert.Equal("event: done", events[^1][0]);
        Assert.Equal(whole.Text,
            string.Concat(events.SkipLast(1).Select(each => JsonDocument.Parse(each[1][6..]).RootElement.GetProperty("text").GetString())));
        Assert.Equal(JsonSerializer.Serialize(whole, MendHttp.Json), events[^1][1][6..]);
        Assert.True(events.Count > 3, "it came in one piece");

        // A refusal comes before the first piece, as that of any other request.
        using var empty = new HttpRequestMessage(HttpMethod.Post, "/v1/ask") { Content = Http.Json("""{"prompt": " "}""") };
        empty.Headers.Accept.Add(new("text/event-stream"));
        Assert.Equal((MendError.EmptyPrompt, 422), await CodeAsync(await _http.SendAsync(empty)));
    }

    [Fact]
    public async Task Status_HasEveryStage()
    {
        await _server.Cluster.EditAsync(TinyServer.Prompt, TinyServer.Target);
        var status = await (await _http.GetAsync("/v1/status")).JsonAsync();
        Assert.Equal((TinyServer.Model, 1), (status.GetProperty("model").GetString(), status.GetProperty("version").GetInt32()));
        var shards = status.GetProperty("shards").EnumerateArray().ToList();
        Assert.Equal([(0, 0), (0, 1)],
            shards.Select(shard => (shard.GetProperty("place").GetProperty("replica").GetInt32(),
            shard.GetProperty("place").GetProperty("stage").GetInt32())));
        Assert.All(shards, shard =>
        {
            Assert.Equal("ready", shard.GetProperty("status").GetProperty("state").GetString());
            Assert.Equal(64, shard.GetProperty("status").GetProperty("checksum").GetString()!.Length);
            Assert.True(shard.GetProperty("status").GetProperty("weightBytes").GetInt64() > 0);
        });
    }

    [Theory]
    [InlineData("POST", "/v1/edits", "{", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/edits", "", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/edits", "null", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/edits", "{}", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/edits", """{"prompt": "a", "target": null}""", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/edits", """{"prompt": "a", "target": "b", "maxdrawdown": 0.1}""", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/edits", """{"prompt": "a", "target": "b", "author": "someone"}""", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/edits", """{"prompt": "a", "prompt": "c", "target": "b"}""", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/edits", """{"prompt": "a", "target": "b", "maxDrawdown": "NaN"}""", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/edits", """{"prompt": "a", "target": "b", "maxDrawdown": 2}""", MendError.InvalidOption, 422)]
    [InlineData("POST", "/v1/edits", """{"prompt": "", "target": "b"}""", MendError.EmptyPrompt, 422)]
    [InlineData("POST", "/v1/edits", """{"prompt": "red", "target": " "}""", MendError.EmptyTarget, 422)]
    [InlineData("POST", "/v1/edits", """{"prompt": "red \ud800", "target": "b"}""", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/edits", """{"prompt": "red", "target": "b", "paraphrases": null}""", MendError.InvalidOption, 422)]
    [InlineData("POST", "/v1/edits/preview", """{"prompt": "red", "target": "b", "paraphrases": null}""", MendError.InvalidOption, 422)]
    [InlineData("POST", "/v1/edits/preview", """{"prompt": "red", "target": "b", "paraphrases": ["a", null]}""", MendError.InvalidOption,
        422)]
    [InlineData("POST", "/v1/edits/7/revert", "{}", MendError.UnknownEdit, 404)]
    [InlineData("POST", "/v1/edits/7/revert", """{"mode": 1}""", MendError.InvalidRequest, 400)]
    [InlineData("GET", "/v1/edits/7", null, MendError.UnknownEdit, 404)]
    [InlineData("GET", "/v1/edits/x", null, MendError.InvalidRequest, 404)]
    [InlineData("GET", "/v1/edits/99999999999999999999", null, MendError.InvalidRequest, 404)]
    [InlineData("GET", "/v1/nothing", null, MendError.InvalidRequest, 404)]
    [InlineData("PUT", "/v1/edits", "{}", MendError.InvalidRequest, 405)]
    [InlineData("POST", "/v1/ask", """{"prompt": "red", "maxTokens": 0}""", MendError.InvalidOption, 422)]
    [InlineData("POST", "/v1/ask", """{"prompt": "red", "maxTokens": 5000}""", MendError.InvalidOption, 422)]
    [InlineData("POST", "/v1/ask", """{"prompt": "red", "maxTokens": 1e9}""", MendError.InvalidRequest, 400)]
    [InlineData("GET", "/v1/trainings/none", null, MendError.UnknownTraining, 404)]
    [InlineData("GET", "/v1/trainings/..%2f..%2fetc", null, MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/trainings", """{"run": "../x", "data": "edits.tsv", "options": {}}""", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/trainings", """{"run": "x", "data": "edits.tsv", "options": {"noSuch": 1}}""", MendError.InvalidRequest, 400)]
    [InlineData("POST", "/v1/trainings", """{"run": "x", "data": "edits.tsv", "options": {"mend": null}}""", MendError.InvalidRequest, 400)]
    public async Task WhatIsNotRight_IsRefused_WithWhatIsWrong(string method, string path, string? body, MendError code, int status)
    {
        using var request = new HttpRequestMessage(new(method), path) { Content = body is null ? null : Http.Json(body) };
        using var response = await _http.SendAsync(request);
        Assert.Equal((code, status), await CodeAsync(response));
        Assert.Empty(await _server.Cluster.LedgerAsync());
        Assert.DoesNotContain(_server.Logged, logged => logged.Level >= LogLevel.Error);
    }

    [Theory]
    [InlineData("""{"model": "tiny", "prompt": "\ud800"}""")]
    [InlineData("""{"model": "tiny", "prompt": "red", "stop": ["\ud800"]}""")]
    [InlineData("""{"model": "tiny", "prompt": ["red", "blue"]}""")]
    public async Task WhatIsNotRight_InOpenAisForm_IsRefusedInThatForm(string body)
    {
        using var response = await _http.PostAsync("/v1/completions", body);
        Assert.Equal(400, (int)response.StatusCode);
        Assert.Equal(nameof(MendError.InvalidRequest), (await response.JsonAsync()).GetProperty("error").GetProperty("code").GetString());
    }

    [Fact]
    public async Task ABody_OfAnotherType_OrEncoding_OrTooLarge_IsRefused()
    {
        using var form = await _http.PostAsync("/v1/edits", new StringContent(Edit, null, "text/plain"));
        Assert.Equal((MendError.InvalidRequest, 415), await CodeAsync(form));
        using var utf16 = await _http.PostAsync("/v1/edits", new StringContent(Edit, System.Text.Encoding.Unicode, "application/json"));
        Assert.Equal((MendError.InvalidRequest, 415), await CodeAsync(utf16));
        using var large = await _http.PostAsync("/v1/edits", $$"""{"prompt": "{{new string('a', 2 << 20)}}", "target": "b"}""");
        Assert.Equal((MendError.InvalidRequest, 413), await CodeAsync(large));
        using var key = await _http.PostAsync("/v1/edits", Edit, new string('k', 201));
        Assert.Equal((MendError.InvalidRequest, 400), await CodeAsync(key));
    }

    [Fact]
    public async Task ATraining_IsBegun_Watched_AndFound()
    {
        await File.WriteAllLinesAsync(Path.Combine(_server.Folder["trainings"], "edits.tsv"),
            Enumerable.Range(0, 30).Select(i => $"what is {i}?\t{(i % 2 == 0 ? "blue" : "south")}"));
        using var begun = await _http.PostAsync("/v1/trainings",
            """{"run": "first", "data": "edits.tsv", "options": {"mend": {"rank": 4, "editLr": 0.1}, "maxIters": 8, "accumulateBs": 2, "valInterval": 4, "valSteps": 2}}""");
        Assert.True(begun.StatusCode == HttpStatusCode.Accepted, await begun.Content.ReadAsStringAsync());
        Assert.Equal("/v1/trainings/first", begun.Headers.Location!.ToString());
        var events = (await _http.GetStringAsync("/v1/trainings/first/events")).Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
        Assert.StartsWith("event: done", events[^1], StringComparison.Ordinal);
        Assert.StartsWith("id: ", events[0], StringComparison.Ordinal);
        var state = await (await _http.GetAsync("/v1/trainings/first")).JsonAsync();
        Assert.Equal(("ended", "max_iters"),
            (state.GetProperty("state").GetString(), state.GetProperty("result").GetProperty("stopped").GetString()));

        // Whoever was cut off goes on where he was.
        using var rest = new HttpRequestMessage(HttpMethod.Get, "/v1/trainings/first/events");
        rest.Headers.Add("Last-Event-ID", events[0].Split('\n')[0][4..]);
        Assert.Equal(events[1..],
            (await (await _http.SendAsync(rest)).Content.ReadAsStringAsync()).Split("\n\n", StringSplitOptions.RemoveEmptyEntries));
        using var ended = await _http.DeleteAsync("/v1/trainings/first");
        Assert.Equal(HttpStatusCode.NoContent, ended.StatusCode);
    }

    [Fact]
    public async Task OpenAiForm_CompletesLikeAsk_AndStreams_AndStops()
    {
        await _server.Cluster.EditAsync(TinyServer.Prompt, "a woman from the south");
        var whole = (await _server.Cluster.AskAsync(TinyServer.Prompt, new(MaxTokens: 12))).Text;
        Assert.Equal(TinyServer.Model,
            (await (await _http.GetAsync("/v1/models")).JsonAsync()).GetProperty("data")[0].GetProperty("id").GetString());
        Assert.Equal(whole, await CompletionAsync(""));
        var cut = whole.IndexOf(' ', StringComparison.Ordinal) is > 0 and var space ? whole[..space] : whole;
        Assert.Equal(cut, await CompletionAsync(""", "stop": [" "]"""));
        using var streamed = await _http.PostAsync("/v1/completions",
            $$"""{"model": "tiny", "prompt": "{{TinyServer.Prompt}}", "max_tokens": 12, "stream": true}""");
        var lines = (await streamed.Content.ReadAsStringAsync()).Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal("data: [DONE]", lines[^1]);
        Assert.Equal(whole, string.Concat(lines.SkipLast(1)
            .Select(line => JsonDocument.Parse(line[6..]).RootElement.GetProperty("choices")[0].GetProperty("text").GetString())));

        foreach (var extra in new[] { ", \"n\": 2", ", \"echo\": true", ", \"logprobs\": 1", ", \"suffix\": \"x\"" })
        {
            using var refused = await _http.PostAsync("/v1/completions", $$"""{"model": "tiny", "prompt": "red"{{extra}}}""");
            Assert.Equal("InvalidOption", (await refused.JsonAsync()).GetProperty("error").GetProperty("code").GetString());
        }

        async Task<string> CompletionAsync(string extra)
        {
            using var answer = await _http.PostAsync("/v1/completions",
                $$"""{"model": "tiny", "prompt": ["{{TinyServer.Prompt}}"], "max_tokens": 12{{extra}}}""");
            return (await answer.JsonAsync()).GetProperty("choices")[0].GetProperty("text").GetString()!;
        }
    }

    [Fact]
    public void EveryCode_HasAStatus()
    {
        foreach (var code in Enum.GetValues<MendError>())
        {
            Assert.True(Problems.Statuses.TryGetValue(code, out var status), $"{code} has no status");
            // what is worth another try, and nothing else
            Assert.Equal(new MendException(code, "", "").IsTransient, status is 429 or 503 or 504);
        }
    }

    private async Task<string> AskAsync(string prompt) =>
        (await (await _http.PostAsync("/v1/ask", $$"""{"prompt": "{{prompt}}"}""")).JsonAsync()).GetProperty("text").GetString()!;

    private static async Task<(MendError, int)> CodeAsync(HttpResponseMessage response)
    {
        var problem = await response.ProblemAsync();
        return (problem.Code, problem.Status);
    }
}
