using System.Runtime.CompilerServices;
using MendCluster.Contracts;
using Microsoft.Extensions.AI;

namespace MendCluster.Client.Chat;

/// <summary>
/// An edited model where a program of Microsoft.Extensions.AI has any other. The models here know no roles: what they are asked is the text
/// of the messages, one a line. What an option asks for is done, or refused with <see cref="NotSupportedException"/>.
/// </summary>
/// <param name="model">Its name, as answers have it; null: none.</param>
/// <param name="scope">Asks with this scope's edits beside those for everybody.</param>
/// <example>
/// <code>
/// IChatClient chat = new MendChatClient(cluster);
/// Console.WriteLine(await chat.GetResponseAsync("Who is the prime minister of the UK?"));
/// </code>
/// </example>
public sealed class MendChatClient(IEditCoordinator cluster, string? model = null, string? scope = null) : IChatClient
{
    /// <summary>Under this name a response's additional properties have the version of the model that answered.</summary>
    public const string VersionProperty = "mend.version";

    private readonly ChatClientMetadata _metadata = new("mendcluster", defaultModelId: model);

    public async Task<ChatResponse> GetResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        var answer = await cluster.AskAsync(PromptOf(messages), OptionsOf(options), cancellationToken).ConfigureAwait(false);
        return new(new ChatMessage(ChatRole.Assistant, answer.Text))
        {
            ModelId = model,
            AdditionalProperties = new() { [VersionProperty] = answer.Version.Value }
        };
    }

    /// <exception cref="MendException">
    /// Among others, <see cref="MendError.VersionGone"/>: the answer was begun anew while pieces of it were already given.
    /// </exception>
    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        var given = false;
        await foreach (var part in cluster.AskStreamAsync(PromptOf(messages), OptionsOf(options), cancellationToken).ConfigureAwait(false))
        {
            if (part.Restarts && given)
                throw new MendException(MendError.VersionGone, "The model changed while it answered.", "Ask again.");
            given |= part.Text.Length > 0;
            yield return new(ChatRole.Assistant, part.Text)
            {
                ModelId = model,
                AdditionalProperties = new() { [VersionProperty] = part.Version.Value }
            };
        }
    }

    public object? GetService(Type serviceType, object? serviceKey = null) =>
        serviceKey is not null ? null : serviceType == typeof(ChatClientMetadata) ? _metadata : serviceType.IsInstanceOfType(this) ? this
        : serviceType.IsInstanceOfType(cluster) ? cluster : null;

    public void Dispose()
    {
        // The cluster is its owner's.
    }

    private static string PromptOf(IEnumerable<ChatMessage> messages) => string.Join('\n', messages.Select(message =>
        message.Contents.All(content => content is TextContent) ? message.Text
        : throw new NotSupportedException("A message holds more than text, and these models read text alone.")));

    private AskOptions OptionsOf(ChatOptions? options)
    {
        var usual = new AskOptions(Scope: scope);
        if (options is null)
            return usual;
        foreach (var (name, isAsked) in new[]
        {
            (nameof(options.Tools), options.Tools is { Count: > 0 }),
                (nameof(options.ResponseFormat), options.ResponseFormat is not (null or ChatResponseFormatText)),
            (nameof(options.StopSequences), options.StopSequences is { Count: > 0 }),
                (nameof(options.FrequencyPenalty), options.FrequencyPenalty is not (null or 0)),
            (nameof(options.PresencePenalty), options.PresencePenalty is not (null or 0)),
                (nameof(options.Instructions), !string.IsNullOrEmpty(options.Instructions)),
            (nameof(options.ModelId), options.ModelId is not null && options.ModelId != model),
        })
            if (isAsked)
                throw new NotSupportedException($"{name} is not to be had of this model.");
        var seed = options.Seed ?? usual.Seed;
        return usual with
        {
            MaxTokens = options.MaxOutputTokens ?? usual.MaxTokens,
            Temperature = options.Temperature ?? usual.Temperature,
            TopK = options.TopK ?? usual.TopK,
            TopP = options.TopP ?? usual.TopP,
            Seed = seed is >= int.MinValue and <= int.MaxValue ? (int)seed
                : throw new NotSupportedException($"Seed is {seed}, which has more than 32 bits."),
        };
    }
}
