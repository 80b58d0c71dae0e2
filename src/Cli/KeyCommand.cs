using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;
using MendCluster.Contracts;
using MendCluster.Server.Security;

namespace MendCluster.Cli;

/// <summary><c>mend key</c>: a new API key of a server.</summary>
internal static class KeyCommand
{
    private const string Keys = "keys";

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static Command Create()
    {
        var name = new Argument<string>("name") { Description = "whose it is: the author of edits made with it" };
        var right = new Option<Right>("--right")
        {
            Description = "what it may do: read; edit, which reads too; admin, which trains too",
            DefaultValueFactory = _ => Right.Read
        };
        var scopes = new Option<string[]>("--scope")
        {
            Description =
            "the only scope that it may edit and ask in; may be given again; without it all"
        };
        var days = new Option<int?>("--days") { Description = "how long it is good; without it for ever" }.Within(1, 36500);
        var file = new Option<FileInfo>("--keys")
        {
            Description =
            "the server's file of keys, which the new one is added to; it is made if it is not there",
            Required = true
        };
        var command = new Command("key", "Make an API key of a server; it is shown once and nowhere kept") { name, right, scopes, days,
            file };
        command.SetAction(parsed =>
        {
            var expires = parsed.GetValue(days) is { } number ? TimeProvider.System.GetUtcNow().AddDays(number) : (DateTimeOffset?)null;
            var (key, kept) = ApiKey.New(parsed.GetRequiredValue(name), parsed.GetValue(right),
                parsed.GetValue(scopes) is { Length: > 0 } some ? some : null, expires);
            var path = parsed.GetRequiredValue(file).FullName;
            var content = Read(path);
            if ((content[Keys] ??= new JsonArray()) is not JsonArray list)
                throw NoKeys(path);
            list.Add(JsonSerializer.SerializeToNode(kept, MendHttp.Json));
            ApiKey.Check(content.ToJsonString()); // before anything is written
            Write(path, content.ToJsonString(Indented) + "\n");
            Console.Out.WriteLine(key);
        });
        return command;
    }

    private static JsonObject Read(string path)
    {
        try
        {
            return !File.Exists(path) ? new() : JsonNode.Parse(File.ReadAllBytes(path)) as JsonObject ?? throw NoKeys(path);
        }
        catch (JsonException e)
        {
            throw NoKeys(path, e);
        }
    }

    private static MendException NoKeys(string path, Exception? inner = null) =>
        new(MendError.InvalidData, $"{path} is no file of keys.", "It is made by mend key; docs/security.md has its form.", inner);

    /// <summary>Whole or not at all: a server may read it just now.</summary>
    private static void Write(string path, string text)
    {
        var part = $"{path}.{Environment.ProcessId}.part";
        var own = new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
            own.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        using (var writer = new StreamWriter(part, own))
            writer.Write(text);
        File.Move(part, path, overwrite: true);
    }
}
