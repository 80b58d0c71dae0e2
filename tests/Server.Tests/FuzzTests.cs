using System.Collections.Concurrent;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using MendCluster.Contracts;
using Microsoft.Extensions.Logging;

namespace MendCluster.Server.Tests;

/// <summary>
/// Requests that nobody should send, over every route: each is answered in time and with what was wrong, none with a defect, and nothing is
/// changed but what was acknowledged. The seed is fixed; a failure names the request.
/// </summary>
[Collection(nameof(Alone))]
public sealed class FuzzTests
{
    private const int Requests = 10_000, AtOnce = 16, Seed = 20260727;

    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(30);

    private const long MostGrowth = 200 << 20;

    /// <summary>Bodies that are right, or nearly so.</summary>
    private static readonly (string Path, string Body)[] Posts =
    [
        ("/v1/edits", """{"prompt": "what is red", "target": " ", "maxDrawdown": 0.5, "confidence": 0.9, "requireSuccess": true, "scope": "s"}"""),
        ("/v1/edits", """{"prompt": "", "target": "blue", "paraphrases": []}"""),
        ("/v1/edits/preview", """{"prompt": "what is red", "target": "", "paraphrases": ["red", "what"]}"""),
        ("/v1/edits/77/revert", """{"mode": "recompute"}"""),
        ("/v1/ask", """{"prompt": " ", "maxTokens": 2, "temperature": 0.5, "topK": 3, "topP": 0.9, "seed": 1, "scope": "s"}"""),
        ("/v1/completions", """{"model": "tiny", "prompt": ["red"], "max_tokens": 2, "stop": ["a"], "stream": true, "n": 1}"""),
        ("/v1/trainings", """{"run": "first", "data": "none.tsv", "options": {"maxIters": 1}, "bFloat16OnWire": false}"""),
    ];

    private static readonly string[] Gets =
        ["/v1/edits/1", "/v1/ledger?after=1&limit=2&text=a&scope=b&author=c&kind=edit&order=newest", "/v1/status", "/v1/models",
        "/v1/models/tiny", "/v1/trainings/first", "/openapi/v1.json", "/", "/console/app.js"];

    /// <summary>What takes the place of a piece of a body.</summary>
    private static readonly string[] Pieces =
    [
        "null", "true", "-1", "0", "1e999", "-1e-999", "99999999999999999999999999", "NaN", "Infinity", "\"\"", "\" \"", "\"\\ud800\"",
            "\"\\udc00x\"", "\"\\u0000\"", "\"\\ufffe\"", "[]", "{}", "[[[[[[[[[[[[[[[[[[[[",
        "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}}}}}}}}}", "\"" + "\\u0041\\n\\t" + "\"", ",", ":", "\"", "}", "//", "\u2028", "0x10", "1.", ".5", "+1", "'a'",
        "\"\U0001F600\"", "\"e\u0301\"", "\"\u202eabc\"",
    ];

    [Fact]
    public async Task NothingThatIsSent_IsADefect_ChangesWhatWasNotAcknowledged_OrHangs()
    {
        await using var server =
            await TinyServer.StartAsync((settings, _) =>
            settings with { Limits = new() { RequestsPerSecond = 1_000_000, RequestsAtOnce = 100_000, WaitingEdits = 10_000 } });
        using var http = server.Client(server.AdminKey);
        http.Timeout = Longest;
        GC.Collect();
        var before = Environment.WorkingSet;
        var (failures, made, statuses) = (new ConcurrentQueue<string>(), 0, new ConcurrentDictionary<int, int>());
        await Parallel.ForEachAsync(Enumerable.Range(0, Requests), new ParallelOptions { MaxDegreeOfParallelism = AtOnce },
            async (number, _) =>
        {
            var random = new Random(Seed + number);
            using var request = RequestOf(random, out var described);
            try
            {
                using var answer = await http.SendAsync(request, CancellationToken.None);
                var status = (int)answer.StatusCode;
                statuses.AddOrUpdate(status, 1, (_, count) => count + 1);
                var body = await answer.Content.ReadAsStringAsync(CancellationToken.None);
                if (status == 201)
                    Interlocked.Increment(ref made);
                var hasBody = request.Method != HttpMethod.Head;
                if (status is 500 or > 503
                    || (status >= 400 && hasBody
                    && answer.Content.Headers.ContentType?.MediaType is not (MendHttp.ProblemType or "application/json")))
                    failures.Enqueue($"{number}: {described}: {status} {body}");
            }
            catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
            {
                failures.Enqueue($"{number}: {described}: {e.Message}");
            }
        });
        Assert.True(failures.IsEmpty,
            string.Join('\n', failures.Take(10)
            .Concat(server.Logged.Where(logged => logged.Level >= LogLevel.Error).Take(3).Select(logged => logged.Text))));
        await RawAsync(server);

        Assert.DoesNotContain(server.Logged, logged => logged.Level >= LogLevel.Error);
        var entries = await server.Cluster.LedgerAsync();
        Assert.Equal(made, entries.Count);
        Assert.True(statuses.GetValueOrDefault(400) > Requests / 4 && statuses.GetValueOrDefault(422) > 50
            && statuses.GetValueOrDefault(404) > 100, string.Join(", ", statuses));
        GC.Collect();
        Assert.InRange(Environment.WorkingSet - before, long.MinValue, MostGrowth);
        using var well = await http.PostAsync("/v1/ask", """{"prompt": "what is red", "maxTokens": 2}""");
        Assert.True(well.IsSuccessStatusCode);
    }

    private static HttpRequestMessage RequestOf(Random random, out string described)
    {
        if (random.Next(5) == 0)
        {
            var path = Mutated(Gets[random.Next(Gets.Length)], random, 33, 127);
            var method = new[] { "GET", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH" }[random.Next(6)];
            described = $"{method} {path}";
            var isOurs = Uri.TryCreate(new("http://here/"), path, out var whole) && whole.Host == "here"; // not what begins with //
            return new(new(method), isOurs ? path : "/v1/status");
        }
        var (target, body) = Posts[random.Next(Posts.Length)];
        var text = random.Next(4) switch
        {
            0 => WithPiece(body, random),
            1 => body[..random.Next(body.Length)],
            2 => Mutated(body, random, 0, 0x3000),
            _ => WithPiece(WithPiece(body, random), random),
        };
        var bytes = (random.Next(12) switch
        {
            0 => Encoding.Unicode,
            1 => Encoding.UTF32,
            2 => Encoding.Latin1,
            _ => Encoding.UTF8,
        }).GetBytes(text);
        for (var i = random.Next(8) == 0 ? random.Next(1, 4) : 0; i > 0 && bytes.Length > 0; i--)
            bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
        var request = new HttpRequestMessage(HttpMethod.Post, target) { Content = new ByteArrayContent(bytes) };
        var type = new[] { "application/json", "application/json", "application/json", "application/json; charset=utf-8",
            "application/json; charset=utf-16", "application/json; charset=nothing", "text/plain",
            "application/x-www-form-urlencoded" }[random.Next(8)];
        if (random.Next(20) != 0)
            request.Content.Headers.ContentType = MediaTypeHeaderValue.Parse(type);
        if (random.Next(4) == 0)
            request.Headers.Add("Accept", "text/event-stream");
        if (random.Next(6) == 0)
            request.Headers.TryAddWithoutValidation(MendHttp.IdempotencyKey, new string((char)random.Next(33, 127), random.Next(1, 300)));
        described = $"POST {target} {type}: {Convert.ToBase64String(bytes)}";
        return request;
    }

    /// <summary>Puts something else where a value was.</summary>
    private static string WithPiece(string body, Random random)
    {
        var starts = Enumerable.Range(0, body.Length).Where(i => body[i] == ':').ToList();
        if (starts.Count == 0)
            return body;
        var start = starts[random.Next(starts.Count)] + 1;
        var end = body.IndexOfAny([',', '}'], start);
        return end < 0 ? body : body[..start] + Pieces[random.Next(Pieces.Length)] + body[end..];
    }

    private static string Mutated(string text, Random random, int least, int most)
    {
        var letters = text.ToCharArray();
        for (var i = random.Next(1, 4); i > 0; i--)
            letters[random.Next(letters.Length)] = (char)random.Next(least, most);
        return new(letters);
    }

    /// <summary>What no client of HTTP would send: each connection is closed or answered in time.</summary>
    private static async Task RawAsync(TinyServer server)
    {
        var head = $"POST /v1/edits HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.AdminKey}\r\nContent-Type: application/json\r\n";
        (string Sent, bool HalfClosed)[] conversations =
        [
            ("\0\0\0\0\r\n\r\n", false), ("GET\r\n\r\n", false), ("GET / HTTP/9.9\r\n\r\n", false),
                ("GET /v1/\0 HTTP/1.1\r\nHost: a\r\n\r\n", false), ("GET / HTTP/1.1\r\n\r\n", false),
            ($"GET /{new string('a', 100_000)} HTTP/1.1\r\nHost: a\r\n\r\n", false),
                ($"GET / HTTP/1.1\r\nHost: a\r\n{string.Concat(Enumerable.Range(0, 500).Select(i => $"X-{i}: y\r\n"))}\r\n", false),
            ($"GET / HTTP/1.1\r\nHost: a\r\nX: {new string('a', 100_000)}\r\n\r\n", false), (head + "Content-Length: -1\r\n\r\n", false),
                (head + "Content-Length: 99999999999999999999\r\n\r\n", false),
            (head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false),
                (head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", false),
                (head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", false),
            (head + "Content-Length: 100\r\n\r\n{\"prompt\": ", false), // and then nothing more: too slow
            (head + "Content-Length: 100\r\n\r\n{\"prompt\": ", true), (head + "Content-Length: 2000000\r\n\r\n", true),
                ("GET / HTTP/1.1\r\nHost: a", true), ("GET / HTTP/1.1\r\nHost: a", false),
        ];
        await Task.WhenAll(conversations.Select(async conversation =>
        {
            using var client = new TcpClient();
            await client.ConnectAsync(server.Server.Address.Host, server.Server.Address.Port);
            await using var stream = client.GetStream();
            await stream.WriteAsync(Encoding.Latin1.GetBytes(conversation.Sent));
            if (conversation.HalfClosed)
                client.Client.Shutdown(SocketShutdown.Send);
            using var patience = new CancellationTokenSource(Longest);
            using var answer = new MemoryStream();
            try
            {
                await stream.CopyToAsync(answer, patience.Token);
            }
            catch (IOException)
            {
                // Cut off, which is an answer too.
            }
            var said = Encoding.Latin1.GetString(answer.ToArray());
            Assert.True(said.Length == 0 || said.StartsWith("HTTP/1.1 4", StringComparison.Ordinal)
                || said.StartsWith("HTTP/1.1 505", StringComparison.Ordinal),
                $"{conversation.Sent[..Math.Min(80, conversation.Sent.Length)]}: {said}");
        }));
    }
}
