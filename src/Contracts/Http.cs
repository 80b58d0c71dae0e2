using System.Text.Json;
using System.Text.Json.Serialization;

namespace MendCluster.Contracts;

/// <summary>
/// What server and SDK say to each other: the bodies of requests and answers that are no records of the cluster's own, and how all are
/// written.
/// </summary>
public static class MendHttp
{
    /// <summary>Of an edit: sent twice with the same key it is made once.</summary>
    public const string IdempotencyKey = "Idempotency-Key";

    /// <summary>Media types beside <c>application/json</c>.</summary>
    public const string ProblemType = "application/problem+json", EventsType = "text/event-stream";

    /// <summary>Names of the events of a stream.</summary>
    public const string PartEvent = "part", DoneEvent = "done", ErrorEvent = "error", StepEvent = "step";

    /// <summary>Characters of an idempotency key, at most.</summary>
    public const int LongestKey = 200;

    private const int MaxDepth = 16;

    /// <summary>
    /// Names in camel case, enums by name, versions and numbers of edits as plain numbers, times in seconds, numbers that are not finite as
    /// null. A member that is not known is passed over: a server may be newer.
    /// </summary>
    public static JsonSerializerOptions Json { get; } = ReadOnly(Configured(new(JsonSerializerDefaults.Web)));

    /// <summary>
    /// The same for what a server reads: a member that is not known is refused, since a typing error must not pass for the default.
    /// </summary>
    public static JsonSerializerOptions Strict { get; } = ReadOnly(Configured(new(JsonSerializerDefaults.Web), isStrict: true));

    public static JsonSerializerOptions Configured(JsonSerializerOptions options, bool isStrict = false)
    {
        foreach (var converter in new JsonConverter[]
        {
            new JsonStringEnumConverter(JsonNamingPolicy.CamelCase, allowIntegerValues: false), new EditIdConverter(),
                new ModelVersionConverter(), new SecondsConverter(), new FiniteConverter(),
        })
            options.Converters.Add(converter);
        options.NumberHandling = JsonNumberHandling.Strict;
        options.PropertyNameCaseInsensitive = false;
        options.DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull;
        options.MaxDepth = MaxDepth;
        options.RespectNullableAnnotations = true;
        if (!isStrict)
            return options; // what has no value is left out
        options.RespectRequiredConstructorParameters = true;
        options.UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow;
        options.AllowDuplicateProperties = false;
        return options;
    }

    private static JsonSerializerOptions ReadOnly(JsonSerializerOptions options)
    {
        options.MakeReadOnly(populateMissingResolver: true);
        return options;
    }

    private sealed class EditIdConverter : JsonConverter<EditId>
    {
        public override EditId Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => new(reader.GetInt64());

        public override void Write(Utf8JsonWriter writer, EditId value, JsonSerializerOptions options) =>
            writer.WriteNumberValue(value.Value);
    }

    private sealed class ModelVersionConverter : JsonConverter<ModelVersion>
    {
        public override ModelVersion Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            new(reader.GetInt64());

        public override void Write(Utf8JsonWriter writer, ModelVersion value, JsonSerializerOptions options) =>
            writer.WriteNumberValue(value.Value);
    }

    private sealed class SecondsConverter : JsonConverter<TimeSpan>
    {
        public override TimeSpan Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            new((long)Math.Round(reader.GetDouble() * TimeSpan.TicksPerSecond));

        public override void Write(Utf8JsonWriter writer, TimeSpan value, JsonSerializerOptions options) =>
            writer.WriteNumberValue(value.TotalSeconds);
    }

    private sealed class FiniteConverter : JsonConverter<double>
    {
        public override bool HandleNull => true;

        public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            reader.TokenType == JsonTokenType.Null ? double.NaN : reader.GetDouble();

        public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
        {
            if (double.IsFinite(value))
                writer.WriteNumberValue(value);
            else
                writer.WriteNullValue();
        }
    }
}

/// <summary>
/// An edit that is asked for over HTTP. The members are those of <see cref="EditOptions"/>; the author is whoever the key is of.
/// </summary>
public sealed record EditRequest(string Prompt, string Target)
{
    public double? MaxDrawdown { get; init; }

    public double? MaxTotalDrawdown { get; init; }

    public double? MaxTotalKl { get; init; }

    /// <summary>Null is written, unlike other members that have no value: left out, it is the usual confidence.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public double? Confidence { get; init; } = new EditOptions().Confidence;

    public bool RequireSuccess { get; init; }

    public string? Scope { get; init; }

    /// <summary>Of a preview alone.</summary>
    public IReadOnlyList<string> Paraphrases { get; init; } = [];

    public static EditRequest Of(string prompt, string target, EditOptions options) => new(prompt, target)
    {
        MaxDrawdown = options.MaxDrawdown,
        MaxTotalDrawdown = options.MaxTotalDrawdown,
        MaxTotalKl = options.MaxTotalKl,
        Confidence = options.Confidence,
        RequireSuccess = options.RequireSuccess,
        Scope = options.Scope,
        Paraphrases = options.Paraphrases,
    };

    public EditOptions Options(string author, string? idempotencyKey) => new()
    {
        MaxDrawdown = MaxDrawdown,
        MaxTotalDrawdown = MaxTotalDrawdown,
        MaxTotalKl = MaxTotalKl,
        Confidence = Confidence,
        RequireSuccess = RequireSuccess,
        Scope = Scope,
        Paraphrases = Paraphrases,
        Author = author,
        IdempotencyKey = idempotencyKey,
    };
}

/// <summary>How an edit is to be taken back.</summary>
public sealed record RevertRequest(RevertMode Mode = RevertMode.Remove);

/// <summary><see cref="ConsolidateOptions"/>; what is missing is as there.</summary>
/// <param name="MaxTime">In seconds.</param>
public sealed record ConsolidateRequest(string? Scope = null, TimeSpan? MaxTime = null, double? Share = null, int? MaxRank = null,
    IReadOnlyList<EditId>? Without = null)
{
    public static ConsolidateRequest Of(ConsolidateOptions options) =>
        new(options.Scope, options.MaxTime, options.Share, options.MaxRank, options.Without);

    /// <param name="author">Who asks, as the server knows it.</param>
    public ConsolidateOptions Options(string? author)
    {
        var defaults = new ConsolidateOptions();
        return new()
        {
            Scope = Scope,
            MaxTime = MaxTime ?? defaults.MaxTime,
            Share = Share ?? defaults.Share,
            MaxRank = MaxRank ?? defaults.MaxRank,
            Author = author,
            Without = Without ?? [],
        };
    }
}

/// <summary>An edit as the ledger has it.</summary>
/// <param name="Revert">The entry that took it back; null: it is in force.</param>
public sealed record EditState(LedgerEntry Edit, LedgerEntry? Revert);

/// <summary>A question. The members are those of <see cref="AskOptions"/>.</summary>
public sealed record AskRequest(
    string Prompt, int MaxTokens = 32, double Temperature = 0, int TopK = 0, double TopP = 1, int Seed = 0, string? Scope = null)
{
    public static AskRequest Of(string prompt, AskOptions options) =>
        new(prompt, options.MaxTokens, options.Temperature, options.TopK, options.TopP, options.Seed, options.Scope);

    public AskOptions Options => new(MaxTokens, Temperature, TopK, TopP, Seed, Scope);
}

/// <param name="Next">Ask for the entries after this version; null: there are no more.</param>
public sealed record LedgerPage(IReadOnlyList<LedgerEntry> Entries, ModelVersion? Next);

/// <param name="Version">The newest of any stage; null: none answers.</param>
/// <param name="RecentEdits">The last that were made through this server, the newest last.</param>
public sealed record ClusterStatus(string Model, ModelVersion? Version, IReadOnlyList<ShardReport> Shards,
    IReadOnlyList<EditTiming> RecentEdits);

/// <summary>How long the phases of an edit took.</summary>
public sealed record EditTiming(EditId Id, EditTimes Times);

/// <summary>A training run that is asked for.</summary>
/// <param name="Run">Its name, and that of its folder in the server's folder of trainings.</param>
/// <param name="Data">Name of the file of edits in that folder.</param>
/// <param name="Options">The run's settings; what is not named is as the method has it.</param>
public sealed record TrainingRequest(string Run, string Data, EditorTrainingOptions Options, bool BFloat16OnWire = false);

/// <summary>What went wrong, in the form of RFC 9457.</summary>
/// <param name="Title">The code's name in words.</param>
/// <param name="Status">Of HTTP.</param>
/// <param name="Detail">What was wrong and where.</param>
/// <param name="Code">The code.</param>
/// <param name="Hint">What to do.</param>
/// <param name="Transient">Whether the same request may succeed when sent again.</param>
/// <param name="TraceId">Under which the server's log and traces have it.</param>
public sealed record Problem(string Type, string Title, int Status, string Detail,
    [property: JsonConverter(typeof(JsonStringEnumConverter<MendError>))] MendError Code, string Hint, bool Transient,
    string? TraceId = null)
{
    /// <param name="status">Of HTTP.</param>
    public static Problem Of(MendException e, int status, string? traceId) =>
        new($"urn:mend:error:{e.Error}", e.Error.ToString(), status, e.What, e.Error, e.Hint, e.IsTransient,
        traceId);

    /// <summary>The failure as whoever calls the SDK meets it.</summary>
    public MendException ToException() => new(Code, Detail, Hint);
}
