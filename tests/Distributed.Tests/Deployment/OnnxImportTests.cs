using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;
using System.Text;
using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests.Deployment;

/// <summary>An encoder is written as torch's exporter writes one, read back, and is the encoder that it was.</summary>
public sealed class OnnxImportTests : IDisposable
{
    private static readonly string[] Maps = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
        "intermediate.dense", "output.dense"];

    private readonly TemporaryFolder _folder = new();

    public OnnxImportTests()
    {
        TinyModels.Write(Directory.CreateDirectory(_folder["source"]).FullName, "bert");
        File.WriteAllText(_folder["vocab.txt"],
            File.ReadAllText(Path.Combine(_folder["source"], "vocab.txt")).ReplaceLineEndings("\r\n"));
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("", true)]
    [InlineData("bert.", true)]
    [InlineData("", false)]
    public void AnExportedEncoder_IsTheEncoderItWas(string prefix, bool raw)
    {
        File.WriteAllBytes(_folder["model.onnx"], Export(prefix, raw));
        RequireTheSame(_folder["model.onnx"]);
    }

    [Fact]
    public void AnAssemblyThatHasItEmbedded_GivesTheSame()
    {
        WriteAssembly(_folder["Encoder.dll"], new()
        {
            ["Encoder.Resources.vocab.txt"] = File.ReadAllBytes(_folder["vocab.txt"]),
            ["Encoder.Resources.model.onnx"] = Export("", raw: true),
        });
        RequireTheSame(_folder["Encoder.dll"]);
    }

    [Theory]
    [InlineData("encoder.layer.2.output.dense", "encoder.layer.2.output.dense.weight: there is no such matrix")]
    [InlineData("sqrt(head)", "the number of heads is not known")]
    [InlineData("Erf", "GELU")]
    [InlineData("quantised", "is the model quantised?")]
    [InlineData("elsewhere", "is kept in another file")]
    [InlineData("cut", "the file is cut, damaged or no ONNX model")]
    public void AnotherModel_IsRefused_AndSaysWhatItLacks(string fault, string said)
    {
        File.WriteAllBytes(_folder["model.onnx"], Export("", raw: true, fault));
        var refused = Assert.Throws<MendException>(() => OnnxImport.Run(_folder["model.onnx"], _folder["out"]));
        Assert.Contains(said, refused.Message, StringComparison.Ordinal);
        Assert.StartsWith(_folder["model.onnx"], refused.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder["out"]));
    }

    [Fact]
    public void WhatHasNoEncoder_IsRefused()
    {
        WriteAssembly(_folder["Other.dll"], new() { ["Other.text.txt"] = "text"u8.ToArray() });
        File.WriteAllText(_folder["Broken.dll"], "MZ");
        foreach (var file in new[] { "Other.dll", "Broken.dll", "missing.onnx" })
            Assert.Equal(MendError.ModelUnusable,
                Assert.Throws<MendException>(() => OnnxImport.Run(_folder[file], _folder["out"])).Error);
    }

    private void RequireTheSame(string file)
    {
        var count = OnnxImport.Run(file, _folder["out"]);
        using var source = HuggingFaceDirectory.Open(_folder["source"]);
        using var imported = HuggingFaceDirectory.Open(_folder["out"]);
        foreach (var name in imported.Names)
        {
            using var scope = NewDisposeScope();
            var original = source.Find("model." + name["bert.".Length..]);
            Assert.Equal(original.Shape, imported.Find(name).Shape);
            Assert.Equal(TensorBytes.Load(original).bytes.ToArray(), TensorBytes.Load(imported.Find(name)).bytes.ToArray());
        }
        Assert.Equal(source.Names.Count(name => !name.StartsWith("classifier", StringComparison.Ordinal)), imported.Names.Count());
        Assert.Equal(imported.Names.Sum(name => imported.Find(name).Shape.Aggregate(1L, (size, dimension) => size * dimension)), count);
        var (was, @is) = (BertConfig.From(ConfigFile.Read(Path.Combine(_folder["source"], "config.json"))), BertConfig.From(ConfigFile.Read(Path.Combine(_folder["out"], "config.json"))));
        Assert.Equal(was with { File = @is.File, HasLogitPerClass = true, Labels = @is.Labels, InitializerRange = @is.InitializerRange }, @is);
        var text = "The mayor of the old town.";
        Assert.Equal(TokenizerFiles.Load(_folder["source"]).Encode(text), TokenizerFiles.Load(_folder["out"]).Encode(text));
    }

    /// <summary>ModelProto: embeddings, norms and biases by their names; weights of linear maps transposed, nameless, multiplied with.</summary>
    private byte[] Export(string prefix, bool raw, string fault = "")
    {
        using var source = HuggingFaceDirectory.Open(_folder["source"]);
        var (nodes, tensors) = (new List<byte[]>(), new List<byte[]>());
        var named = source.Names.Where(name => !name.StartsWith("classifier", StringComparison.Ordinal)).Order(StringComparer.Ordinal).ToList();
        foreach (var name in named)
        {
            using var scope = NewDisposeScope();
            var tensor = TensorBytes.Load(source.Find(name));
            var own = prefix + name["model.".Length..];
            var map = Maps.FirstOrDefault(map => name.Contains(".layer.", StringComparison.Ordinal)
                && name.EndsWith($".{map}.weight", StringComparison.Ordinal)
                && (map != "output.dense" || !name.Contains("attention", StringComparison.Ordinal)));
            if (map is null)
            {
                tensors.Add(Tensor(own, tensor, raw));
                continue;
            }
            if (own.StartsWith(fault, StringComparison.Ordinal) && fault.Length > 0)
                continue;
            tensors.Add(Tensor($"{tensors.Count}", tensor.t().contiguous(), raw, fault));
            nodes.Add(Node("MatMul", [$"x{nodes.Count}", $"{tensors.Count - 1}"], $"product {own}"));
            nodes.Add(Node("Add", [$"{own[..^"weight".Length]}bias", $"product {own}"], $"sum {own}"));
        }
        nodes.Add(Node("Gemm", ["x", prefix + "pooler.dense.weight", prefix + "pooler.dense.bias"], "pooled",
            Message((1, "transB"u8.ToArray()), (3, 1))));
        nodes.Add(Node("Constant", [], "one constant", Message((1, "value"u8.ToArray()), (5, Tensor("", tensor(MathF.Sqrt(12), device: CPU))))));
        nodes.Add(Node("MatMul", ["queries", "keys"], "scores"));
        nodes.Add(Node("Div", ["scores", fault == "sqrt(head)" ? "x" : "one constant"], "scaled"));
        nodes.Add(Node(fault == "Erf" ? "Tanh" : "Erf", ["x"], "activated"));
        tensors.Add(Tensor("epsilon", tensor(1e-12f, device: CPU)));
        nodes.Add(Node("Add", ["variance", "epsilon"], "widened"));
        nodes.Add(Node("Sqrt", ["widened"], "deviation"));
        var graph = Message([.. nodes.Select(node => (1, (object)node)), .. tensors.Select(tensor => (5, (object)tensor))]);
        var model = Message((1, 7), (2, "a test"u8.ToArray()), (7, graph));
        return fault == "cut" ? model[..^20] : model;
    }

    private static byte[] Node(string kind, string[] inputs, string output, byte[]? attribute = null) => Message([
        .. inputs.Select(input => (1, (object)Encoding.UTF8.GetBytes(input))), (2, Encoding.UTF8.GetBytes(output)),
        (4, Encoding.UTF8.GetBytes(kind)), .. attribute is null ? Array.Empty<(int, object)>() : [(5, attribute)]]);

    private static byte[] Tensor(string name, Tensor tensor, bool raw = true, string fault = "") => Message([
        .. tensor.shape.Select(dimension => (1, (object)(int)dimension)), (2, fault == "quantised" ? 3 : 1), (8, Encoding.UTF8.GetBytes(name)),
        (raw ? 9 : 4, tensor.bytes.ToArray()), .. fault == "elsewhere" ? [(14, 1)] : Array.Empty<(int, object)>()]);

    /// <summary>Fields of protobuf: whole numbers, and bytes.</summary>
    private static byte[] Message(params (int Number, object Value)[] fields)
    {
        using var bytes = new MemoryStream();
        using var writer = new BinaryWriter(bytes);
        foreach (var (number, value) in fields)
        {
            writer.Write7BitEncodedInt(number << 3 | (value is int ? 0 : 2));
            writer.Write7BitEncodedInt(value as int? ?? ((byte[])value).Length);
            writer.Write(value as byte[] ?? []);
        }
        writer.Flush();
        return bytes.ToArray();
    }

    private static void WriteAssembly(string path, Dictionary<string, byte[]> embedded)
    {
        var (metadata, resources) = (new MetadataBuilder(), new BlobBuilder());
        metadata.AddModule(0, metadata.GetOrAddString("Encoder.dll"), metadata.GetOrAddGuid(Guid.NewGuid()), default, default);
        metadata.AddAssembly(metadata.GetOrAddString("Encoder"), new Version(1, 0), default, default, default, AssemblyHashAlgorithm.None);
        metadata.AddTypeDefinition(default, default, metadata.GetOrAddString("<Module>"), default, MetadataTokens.FieldDefinitionHandle(1),
            MetadataTokens.MethodDefinitionHandle(1));
        foreach (var (name, bytes) in embedded)
        {
            metadata.AddManifestResource(ManifestResourceAttributes.Public, metadata.GetOrAddString(name), default, (uint)resources.Count);
            resources.WriteInt32(bytes.Length);
            resources.WriteBytes(bytes);
            resources.Align(8);
        }
        var image = new BlobBuilder();
        new ManagedPEBuilder(PEHeaderBuilder.CreateLibraryHeader(), new MetadataRootBuilder(metadata), new BlobBuilder(),
            managedResources: resources).Serialize(image);
        File.WriteAllBytes(path, image.ToArray());
    }
}
