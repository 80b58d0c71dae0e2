using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Routing;

/// <summary>What a router was found to do on facts that it was not trained on.</summary>
/// <param name="Edits">The threshold is set for so many edits in force.</param>
/// <param name="FalseMatches">Fraction of questions about other facts that match one of them.</param>
/// <param name="Recall">Fraction of the other wordings of a fact that match it, where one wording is its only key.</param>
/// <param name="Facts">Trained on.</param>
/// <param name="ValidationFacts">Measured on.</param>
public sealed record RouterFigures(int Edits, double FalseMatches, double Recall, int Facts, int ValidationFacts);

/// <summary>
/// Tells whether a question asks for an edited fact, by the state in which the unedited model is about to write the first token of its
/// answer (<see cref="QuestionState"/>). A linear map brings the states of one fact's wordings near each other and those of other facts
/// apart (<see cref="RouterTraining"/>). S numbers in a state, D dimensions.
/// </summary>
/// <param name="mean">[S] float32, on the host; taken from every state. The router owns it, and the map.</param>
/// <param name="map">[S, D] float32, on the host.</param>
/// <param name="threshold">A question matches an edit whose key has at least this cosine with its own.</param>
public sealed class EditRouter(Tensor mean, Tensor map, double threshold, RouterFigures figures) : IDisposable
{
    /// <summary>What the file is called in a model's directory.</summary>
    public const string FileName = "router.safetensors";

    /// <summary>Version of the metadata.</summary>
    private const string Format = "mendcluster-router/1";

    public double Threshold => threshold;

    public RouterFigures Figures => figures;

    /// <summary>D.</summary>
    public long Dimensions => map.shape[1];

    /// <summary>SHA-256 of its numbers: two routers with the same make the same keys, and match alike.</summary>
    public byte[] Digest()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(mean.Host().bytes);
        hash.AppendData(map.Host().bytes);
        hash.AppendData(BitConverter.GetBytes(threshold));
        return hash.GetHashAndReset();
    }

    /// <summary>Brings states into the space in which they are compared.</summary>
    /// <param name="states">[N, S] float32, on the host.</param>
    /// <returns>[N, D], each of length 1.</returns>
    public Tensor Keys(Tensor states) => Directions((states - mean).mm(map));

    /// <param name="rows">[N, D].</param>
    /// <returns>The same, each of length 1.</returns>
    internal static Tensor Directions(Tensor rows) => rows / (rows * rows).sum([1], keepdim: true).sqrt().Clamp(min: 1e-12);

    /// <summary>The router's file in a model's directory; null: there is none.</summary>
    public static string? Beside(string model) => Path.Combine(model, FileName) is var file && File.Exists(file) ? file : null;

    /// <exception cref="MendException">The file cannot be read, or is another model's.</exception>
    public static EditRouter Load(string path, ReadOnlySpan<byte> fingerprint)
    {
        using var file = SafetensorsFile.Open(path);
        if (file.Metadata.GetValueOrDefault("format") is var format && format != Format)
            throw Fault.File(path, "metadata 'format'", $"is '{format}', expected '{Format}'; this is no router of this version");
        if (file.Metadata.GetValueOrDefault("model") is var model && model != Convert.ToHexStringLower(fingerprint))
            throw Fault.File(path, "metadata 'model'",
                "is another model's fingerprint; train a router for this one: mend train-router");
        var (threshold, figures) = (Read<double>("threshold"), Read<RouterFigures>("figures"));
        using var scope = NewDisposeScope();
        var (mean, map) = (TensorBytes.Load(file.Find("mean")), TensorBytes.Load(file.Find("map")));
        if (mean.dtype != ScalarType.Float32 || map.dtype != ScalarType.Float32 || map.dim() != 2 || !mean.shape.SequenceEqual([map.shape[0]]))
            throw Fault.File(path, "mean, map",
                $"are [{string.Join(", ", mean.shape)}] and [{string.Join(", ", map.shape)}], expected float32 of [S] and [S, D]");
        return new(mean.DetachFromDisposeScope(), map.DetachFromDisposeScope(), threshold, figures);

        T Read<T>(string name)
        {
            try
            {
                return JsonSerializer.Deserialize<T>(file.Metadata.GetValueOrDefault(name, "null"))
                    ?? throw new JsonException("it is not there");
            }
            catch (JsonException e)
            {
                throw Fault.File(path, $"metadata '{name}'", $"cannot be read: {e.Message}", e);
            }
        }
    }

    /// <param name="fingerprint">Of the model.</param>
    public void Save(string path, ReadOnlySpan<byte> fingerprint) => SafetensorsWriter.Write(path,
        [new("mean", DType.Float32, mean.shape, mean.Host().bytes.ToArray()), new("map", DType.Float32, map.shape, map.Host().bytes.ToArray())],
        new Dictionary<string, string>
        {
            ["format"] = Format,
            ["model"] = Convert.ToHexStringLower(fingerprint),
            ["threshold"] = threshold.ToString("R", CultureInfo.InvariantCulture),
            ["figures"] = JsonSerializer.Serialize(figures),
        });

    public void Dispose()
    {
        mean.Dispose();
        map.Dispose();
    }
}
