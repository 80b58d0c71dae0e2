using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Models;
using MendCluster.Engine.Training;

namespace MendCluster.Distributed.Deployment;

/// <summary>One file of an imported model.</summary>
/// <param name="Range">Layers of the stage that it was made for.</param>
public sealed record StageFile(string File, StageRange Range, long Bytes);

/// <summary>
/// Puts a checkpoint of any form into safetensors files of one stage each, so that a stage opens its own file and no other (a tied weight
/// lies in the first stage that reads it). The result is a Hugging Face directory like any other and serves with any number of stages.
/// </summary>
public static class ModelImport
{
    /// <param name="model">A Hugging Face directory.</param>
    /// <param name="output">To make; there, only if it is empty.</param>
    /// <returns>The files, one a stage.</returns>
    public static IReadOnlyList<StageFile> Run(string model, int stages, string output, CancellationToken cancellation = default)
    {
        var family = ModelFamily.FromDirectory(model);
        using var files = HuggingFaceDirectory.Open(model);
        var ranges = StagePlan.Cut(family, stages, EditorCheckpoint.Beside(model));
        var first = CheckpointMap.Of(family, files).GroupBy(weight => weight.StoredName)
            .ToDictionary(group => group.Key, group => group.Min(weight => weight.Layer));
        var tensors = HuggingFaceWriter.WithoutTies(files, first.ContainsKey).ToList();
        // What no layer reads (a mask, say) is kept for other tools, in the last file.
        var byStage = tensors.ToLookup(tensor => first.TryGetValue(tensor.Name, out var layer)
            ? ranges.Index().First(range => layer < range.Item.End).Index : stages - 1,
            tensor => new TensorToWrite(tensor.Name, tensor.Tensor));
        var filled = Enumerable.Range(0, stages).Where(byStage.Contains).ToList();
        var names = HuggingFaceWriter.Write(output, model, [.. filled.Select(stage => byStage[stage].ToList())],
            new Dictionary<string, string>(), cancellation);
        WriteStages(family, ranges, output);
        return [.. filled.Zip(names, (stage, name) => new StageFile(name, ranges[stage], byStage[stage].Sum(tensor => tensor.ByteLength)))];
    }

    /// <summary>Which files a stage needs: its own, and those of weights that it shares with another.</summary>
    private static void WriteStages(ModelFamily family, IReadOnlyList<StageRange> ranges, string output)
    {
        using var written = HuggingFaceDirectory.Open(output);
        var map = CheckpointMap.Of(family, written);
        new StageList(Convert.ToHexStringLower(CheckpointFingerprint.Of(output)), [.. ranges.Select(range => (IReadOnlyList<string>)
            [.. map.Where(weight => weight.Layer >= range.First && weight.Layer < range.End)
                .Select(weight => written.FileOf(weight.StoredName)).Distinct().Order(StringComparer.Ordinal)])]).Write(output);
    }
}
