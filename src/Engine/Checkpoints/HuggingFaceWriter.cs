using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using MendCluster.Contracts;

namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// Writes a model directory that Hugging Face's and other tools read: weights as model.safetensors or as numbered files with an index, and
/// the files beside them. Tensor by tensor, and whole or not at all: it is made under another name and renamed at the end.
/// </summary>
public static class HuggingFaceWriter
{
    /// <summary>Where transformers begins another file.</summary>
    public const long DefaultFileLength = 5_000_000_000;

    /// <summary>
    /// What belongs to a model beside its weights: settings, tokenizer, licence. Other files of the source are left where they are.
    /// </summary>
    public static readonly IReadOnlyList<string> Beside =
    [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "chat_template.jinja", "LICENSE", "LICENSE.txt", "LICENSE.md",
    ];

    private static readonly Dictionary<string, string> Metadata = new() { ["format"] = "pt" };

    private static readonly JsonSerializerOptions Json =
        new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Fills files in the order given, each up to a length; a longer tensor has one of its own.</summary>
    public static IReadOnlyList<IReadOnlyList<TensorToWrite>> Split(IEnumerable<TensorToWrite> tensors, long mostBytes)
    {
        var files = new List<List<TensorToWrite>>();
        var length = 0L;
        foreach (var tensor in tensors)
        {
            if (tensor.ByteLength > mostBytes - length || files.Count == 0)
            {
                files.Add([]);
                length = 0;
            }
            files[^1].Add(tensor);
            length += tensor.ByteLength;
        }
        return files;
    }

    /// <param name="directory">To make; there, only if it is empty.</param>
    /// <param name="source">The directory that the files beside the weights are copied from.</param>
    /// <param name="files">Tensors by file; each is asked to write itself once.</param>
    /// <param name="texts">More files by name; they go before those of the source.</param>
    /// <returns>Names of the files of weights; files without a tensor are not written.</returns>
    /// <exception cref="MendException">The directory has something in it.</exception>
    public static IReadOnlyList<string> Write(string directory, string source, IReadOnlyList<IReadOnlyList<TensorToWrite>> files,
        IReadOnlyDictionary<string, string> texts, CancellationToken cancellation = default)
    {
        var path = Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory));
        if (File.Exists(path) || (Directory.Exists(path) && Directory.EnumerateFileSystemEntries(path).Any()))
            throw Fault.File(path, "output", "is there and not empty; name a new directory");
        var partial = path + ".partial";
        if (Directory.Exists(partial))
            Directory.Delete(partial, recursive: true); // of a run that was killed
        Directory.CreateDirectory(partial);
        try
        {
            var names = WriteWeights(partial, [.. files.Where(file => file.Count > 0)], cancellation);
            foreach (var (name, text) in texts)
                File.WriteAllText(Path.Combine(partial, name), text);
            foreach (var name in Beside.Where(name => File.Exists(Path.Combine(source, name)) && !texts.ContainsKey(name)))
                File.Copy(Path.Combine(source, name), Path.Combine(partial, name));
            if (Directory.Exists(path))
                Directory.Delete(path);
            Directory.Move(partial, path);
            return names;
        }
        catch
        {
            Directory.Delete(partial, recursive: true);
            throw;
        }
    }

    private static List<string> WriteWeights(string directory, List<IReadOnlyList<TensorToWrite>> files, CancellationToken cancellation)
    {
        List<string> names = files.Count == 1 ? ["model.safetensors"]
            : [.. Enumerable.Range(1, files.Count)
                .Select(i => string.Create(CultureInfo.InvariantCulture, $"model-{i:00000}-of-{files.Count:00000}.safetensors"))];
        for (var i = 0; i < files.Count; i++)
            SafetensorsWriter.Write(Path.Combine(directory, names[i]), files[i].Select(tensor => tensor with
            {
                Write = stream =>
                {
                    cancellation.ThrowIfCancellationRequested();
                    tensor.Write(stream);
                },
            }), Metadata);
        if (files.Count > 1)
            File.WriteAllText(Path.Combine(directory, "model.safetensors.index.json"), new JsonObject
            {
                ["metadata"] = new JsonObject { ["total_size"] = files.Sum(file => file.Sum(tensor => tensor.ByteLength)) },
                ["weight_map"] = new JsonObject(files.SelectMany((file, i) =>
                    file.Select(tensor => KeyValuePair.Create(tensor.Name, (JsonNode?)names[i])))
                    .OrderBy(entry => entry.Key, StringComparer.Ordinal)),
            }.ToJsonString(Json) + "\n");
        return names;
    }

    /// <summary>
    /// The tensors of a directory that have to be written: of tied weights, which a torch file holds under several names over one memory,
    /// the needed name, or the first.
    /// </summary>
    /// <param name="isNeeded">By name.</param>
    public static IEnumerable<(string Name, StoredTensor Tensor)> WithoutTies(HuggingFaceDirectory files, Func<string, bool> isNeeded)
    {
        var tied = files.Names.Select(name => (Name: name, Tensor: files.Find(name)))
            .GroupBy(entry => entry.Tensor is PickledTensor view
                ? $"{view.File} {view.StorageKey} {view.StorageOffset} {string.Join(',', view.Shape)} {string.Join(',', view.Stride)}"
                : entry.Name);
        return tied.SelectMany(group => group.Any(entry => isNeeded(entry.Name)) ? group.Where(entry => isNeeded(entry.Name))
            : group.Take(1));
    }
}
