using System.Text.Json.Nodes;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.Serialization;

namespace MendCluster.Kubernetes.Tests;

/// <summary>YAML as the JSON that it stands for.</summary>
internal static class Yaml
{
    private static readonly IDeserializer Reader = new DeserializerBuilder().WithAttemptingUnquotedStringTypeDeserialization().Build();
    private static readonly ISerializer Writer = new SerializerBuilder().JsonCompatible().Build();

    /// <summary>Its documents; empty ones are left out.</summary>
    public static IEnumerable<JsonNode> Documents(string text)
    {
        var parser = new Parser(new StringReader(text));
        parser.Consume<StreamStart>();
        while (parser.Accept<DocumentStart>(out _))
            if (Reader.Deserialize(parser) is { } document)
                yield return JsonNode.Parse(Writer.Serialize(document))!;
    }

    /// <summary>The only document of a file.</summary>
    public static JsonNode File(string path) => Documents(System.IO.File.ReadAllText(path)).Single();
}
