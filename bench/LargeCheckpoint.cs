using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Bench;

/// <summary>
/// A checkpoint of a published shape with random weights, in the published form (several safetensors files and an index where it is large),
/// and an editor for it. One block of random numbers is written over and over: the bytes are what loading costs, not their values.
/// </summary>
internal static class LargeCheckpoint
{
    private const long FileBytes = 2_000_000_000;

    public static void MakeGptJ(string directory, int layers, DType type) => Make(directory, type, $$"""
        {"model_type": "gptj", "vocab_size": 50400, "n_positions": 2048, "n_embd": 4096, "n_layer": {{layers}}, "n_head": 16, "rotary_dim": 64,
         "activation_function": "gelu_new", "bos_token_id": 50256, "eos_token_id": 50256, "tie_word_embeddings": false}
        """);

    /// <param name="rank">Of the editor.</param>
    public static void Make(string directory, DType type, string config, int rank = 1920)
    {
        var family = ModelFamily.FromConfig(ConfigFile.Parse("config.json", config));
        using var shapes = Stage.LoadWhole(family, new WeightShapes());
        var random = RandomBytes(type);
        var tensors = shapes.Weights.Loaded.Select(weight =>
        {
            var (name, shape, bytes) = (weight.Key, weight.Value.AsStored().shape, weight.Value.Value.numel() * type.ElementSize());
            return new TensorToWrite(name, type, shape, stream => Fill(stream, bytes, name, shape.Length == 1, type, random));
        });
        var nothing = Directory.CreateTempSubdirectory("mend-");
        HuggingFaceWriter.Write(directory, nothing.FullName, HuggingFaceWriter.Split(tensors, FileBytes),
            new Dictionary<string, string> { ["config.json"] = config });
        nothing.Delete();
        MakeEditor(shapes, rank, Path.Combine(directory, "editor.safetensors"));
    }

    private static void MakeEditor(Stage shapes, int rank, string path)
    {
        using var scope = NewDisposeScope();
        using var mend = new Mend(new() { Rank = rank }, EditorTraining.EditableWeights(shapes), 1);
        using var generator = new Generator(2);
        using var _ = no_grad();
        mend.ProposeForTraining(mend.Weights.ToDictionary(weight => weight.Name, weight => // statistics to normalise by
            new GradientFactors(randn([4, weight.InFeatures], generator: generator),
            randn([4, weight.OutFeatures], generator: generator).Times(1e-3))));
        EditorCheckpoint.SaveEditor(path, mend);
    }

    private static byte[] RandomBytes(DType type)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(1);
        return randn([(1 << 23) + 12_345], generator: generator).Times(0.02).to_type(TensorBytes.DTypeOf(type)).bytes.ToArray();
    }

    /// <summary>Norms are 1, biases 0, matrices random.</summary>
    private static void Fill(Stream stream, long bytes, string name, bool isVector, DType type, byte[] random)
    {
        if (isVector)
        {
            using var value = NewTensor.Full([bytes / type.ElementSize()], name.EndsWith("bias", StringComparison.Ordinal) ? 0.0 : 1.0,
                TensorBytes.DTypeOf(type));
            stream.Write(value.bytes);
            return;
        }
        for (var left = bytes; left > 0;)
        {
            var count = (int)Math.Min(left, random.Length);
            stream.Write(random, 0, count);
            left -= count;
        }
    }
}
