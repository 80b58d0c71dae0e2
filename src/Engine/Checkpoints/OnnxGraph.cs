using System.Buffers.Binary;
using MendCluster.Contracts;
using MendCluster.Engine.Files;

namespace MendCluster.Engine.Checkpoints;

/// <summary>A tensor that an ONNX file holds.</summary>
/// <param name="Type">Null: none that weights are of.</param>
/// <param name="Bytes">Little-endian, row by row.</param>
public sealed record OnnxTensor(string Name, DType? Type, long[] Shape, ReadOnlyMemory<byte> Bytes)
{
    /// <summary>The number of a float32 scalar; null: it is none.</summary>
    public float? Scalar => Type == DType.Float32 && Bytes.Length == sizeof(float)
        ? BinaryPrimitives.ReadSingleLittleEndian(Bytes.Span) : null;
}

/// <summary>An operation.</summary>
/// <param name="Value">Of a constant.</param>
/// <param name="Flags">Its attributes that are whole numbers.</param>
public sealed record OnnxNode(string Operator, IReadOnlyList<string> Inputs, IReadOnlyList<string> Outputs, OnnxTensor? Value,
    IReadOnlyDictionary<string, long> Flags);

/// <summary>
/// What is used of an ONNX file: the operations of its graph and the tensors that it holds. A protobuf message ModelProto, described in
/// onnx/onnx, onnx.proto; fields that do not matter here are stepped over.
/// </summary>
public sealed class OnnxGraph
{
    private const int InAnotherFile = 1;

    private readonly Dictionary<string, OnnxNode> _maker = [];

    private OnnxGraph(IReadOnlyList<OnnxNode> nodes, IReadOnlyDictionary<string, OnnxTensor> tensors)
    {
        (Nodes, Tensors) = (nodes, tensors);
        foreach (var node in nodes)
            foreach (var output in node.Outputs)
                _maker[output] = node;
    }

    public IReadOnlyList<OnnxNode> Nodes { get; }

    /// <summary>By name.</summary>
    public IReadOnlyDictionary<string, OnnxTensor> Tensors { get; }

    /// <summary>What computes a value; null: it is an input or a tensor.</summary>
    public OnnxNode? Maker(string value) => _maker.GetValueOrDefault(value);

    /// <summary>A scalar that the file holds, in whichever of the two ways; null: the value is none.</summary>
    public float? Scalar(string value) => (Tensors.GetValueOrDefault(value) ?? Maker(value)?.Value)?.Scalar;

    /// <param name="file">Named in errors.</param>
    /// <exception cref="MendException">It is not in its form, or keeps its tensors in other files.</exception>
    public static OnnxGraph Read(string file, ReadOnlyMemory<byte> bytes)
    {
        var graph = ProtobufField.Read(file, "ONNX model", bytes).LastOrDefault(field => field.Number == 7)
            ?? throw Fault.File(file, "graph", "there is none; is this an ONNX model?");
        var (nodes, tensors) = (new List<OnnxNode>(), new Dictionary<string, OnnxTensor>());
        foreach (var field in graph.Fields)
            if (field.Number == 1)
                nodes.Add(ReadNode(field));
            else if (field.Number == 5 && ReadTensor(field) is var tensor)
                tensors[tensor.Name] = tensor;
        return new(nodes, tensors);
    }

    private static OnnxNode ReadNode(ProtobufField node)
    {
        var (inputs, outputs, flags) = (new List<string>(), new List<string>(), new Dictionary<string, long>());
        var (kind, value) = ("", (OnnxTensor?)null);
        foreach (var part in node.Fields)
            switch (part.Number)
            {
                case 1:
                    inputs.Add(part.Text);
                    break;
                case 2:
                    outputs.Add(part.Text);
                    break;
                case 4:
                    kind = part.Text;
                    break;
                case 5:
                    var attribute = part.Fields.ToLookup(field => field.Number);
                    if (attribute[3].LastOrDefault() is { } flag)
                        flags[attribute[1].Last().Text] = flag.Integer;
                    if (attribute[5].LastOrDefault() is { } tensor)
                        value = ReadTensor(tensor);
                    break;
            }
        return new(kind, inputs, outputs, value, flags);
    }

    private static OnnxTensor ReadTensor(ProtobufField tensor)
    {
        var (name, type, shape, bytes) = ("", 0L, new List<long>(), ReadOnlyMemory<byte>.Empty);
        foreach (var part in tensor.Fields)
            switch (part.Number)
            {
                case 1:
                    shape.AddRange(part.Integers);
                    break;
                case 2:
                    type = part.Integer;
                    break;
                case 4 or 9: // packed floats are laid out as raw bytes are
                    bytes = part.Bytes;
                    break;
                case 8:
                    name = part.Text;
                    break;
                case 14 when part.Integer == InAnotherFile:
                    throw part.Error($"the tensor {name} is kept in another file; export the model into one");
            }
        return new(name, type switch { 1 => DType.Float32, 10 => DType.Float16, 16 => DType.BFloat16, _ => null }, [.. shape], bytes);
    }
}
