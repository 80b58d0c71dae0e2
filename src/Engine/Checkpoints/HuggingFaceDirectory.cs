using System.Text.Json;
using System.Text.RegularExpressions;
using MendCluster.Contracts;

namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// The weights of a Hugging Face model directory, whichever way they are stored: the first that exists of model.safetensors, its sharded
/// index, pytorch_model.bin, its sharded index, the only .ckpt (a training program's checkpoint; its "state_dict" is taken). A shard is
/// opened when a tensor in it is first asked for, so that a stage touches only its own files. Safe for several threads, except to close.
/// </summary>
public sealed partial class HuggingFaceDirectory : IDisposable
{
    private const long IndexLimit = 100_000_000;

    private static readonly string[] InOrderOfPreference =
        ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

    private readonly string _source;
    private readonly Dictionary<string, string> _fileOf = [];
    private readonly Dictionary<string, IShard> _shards = [];
    private readonly Lock _opening = new();
    private bool _disposed;

    private HuggingFaceDirectory(string directory)
    {
        Path = directory;
        foreach (var name in InOrderOfPreference.Concat(OnlyCheckpoint(directory)))
        {
            _source = System.IO.Path.Combine(directory, name);
            if (!File.Exists(_source))
                continue;
            if (name.EndsWith(".json", StringComparison.Ordinal))
                ReadIndex(name);
            else
                foreach (var tensor in Shard(name, "weights").Names)
                    _fileOf.Add(tensor, name);
            return;
        }
        throw Fault.File(directory, "weights",
            $"found none of {string.Join(", ", InOrderOfPreference)}, nor one single .ckpt; {Instead(directory)}");
    }

    /// <summary>What there is in place of weights, and what to do.</summary>
    private static string Instead(string directory)
    {
        string[] names = !Directory.Exists(directory) ? []
            : [.. Directory.EnumerateFiles(directory).Select(file => System.IO.Path.GetFileName(file)).Order(StringComparer.Ordinal)];
        string? Found(params ReadOnlySpan<string> endings)
        {
            foreach (var ending in endings)
                if (names.FirstOrDefault(name => name.EndsWith(ending, StringComparison.Ordinal)) is { } name)
                    return name;
            return null;
        }
        var shards = names.Where(name => Shard().IsMatch(name)).ToList();
        if (shards.Count > 0)
        {
            var index = InOrderOfPreference[shards[0].EndsWith(".bin", StringComparison.Ordinal) ? 3 : 1];
            return $"{shards[0]} is one of several files, whose index {index} is missing; fetch it";
        }
        return Found("adapter_model.safetensors", "adapter_model.bin") is { } adapter
                ? $"{adapter} is an adapter, a change of another model; merge it into that model and save the result"
            : Found(".h5", ".msgpack", ".gguf", ".onnx", ".npz") is { } other
                ? $"{other} is of a form that is not read; save the model with save_pretrained as safetensors"
            : "give the directory that holds config.json and the weights";
    }

    [GeneratedRegex(@"-\d+-of-\d+\.(safetensors|bin)$", RegexOptions.CultureInvariant)]
    private static partial Regex Shard();

    public string Path { get; }

    /// <summary>Path of the file, or of the index, that says which tensors there are.</summary>
    public string Source => _source;

    /// <summary>Of all tensors, in no order.</summary>
    public IEnumerable<string> Names => _fileOf.Keys;

    /// <summary>Whether all files are there that the index names.</summary>
    public bool IsWhole => _fileOf.Values.Distinct().All(file => File.Exists(System.IO.Path.Combine(Path, file)));

    /// <summary>The bare name of the file that a tensor is in.</summary>
    public string FileOf(string name) => _fileOf[name];

    /// <exception cref="MendException">No weights there, or their file or index is damaged.</exception>
    public static HuggingFaceDirectory Open(string directory) => new(directory);

    public bool Contains(string name) => _fileOf.ContainsKey(name);

    /// <summary>
    /// The first of the names that the checkpoint has: families were published with and without prefixes ("transformer.").
    /// </summary>
    /// <exception cref="MendException">It has none of them, or its file is missing or damaged.</exception>
    public StoredTensor Find(params ReadOnlySpan<string> candidates)
    {
        foreach (var name in candidates)
            if (_fileOf.TryGetValue(name, out var file))
                return Shard(file, name).Find(name) ?? throw Bad(name, $"the index places it in {file}, which lacks it; fetch both again");
        var some = string.Join(", ", _fileOf.Keys.Order(StringComparer.Ordinal).Take(3));
        throw Bad(string.Join(" or ", candidates.ToArray()),
            $"no such tensor among {_fileOf.Count}, such as {some}; is this the right model?");
    }

    public void Dispose()
    {
        _disposed = true;
        foreach (var shard in _shards.Values)
            shard.Dispose();
    }

    private static IEnumerable<string> OnlyCheckpoint(string directory)
    {
        string[] found = Directory.Exists(directory) ? [.. Directory.EnumerateFiles(directory, "*" + TorchShard.Checkpoint).Take(2)] : [];
        return found.Length == 1 ? [System.IO.Path.GetFileName(found[0])] : [];
    }

    private void ReadIndex(string index)
    {
        var extension = index.Contains(".bin.", StringComparison.Ordinal) ? ".bin" : ".safetensors";
        foreach (var (tensor, file) in ParseIndex())
        {
            if (file != System.IO.Path.GetFileName(file) || file.Contains('\\') || !file.EndsWith(extension, StringComparison.Ordinal))
                throw Bad(tensor, $"is said to lie in '{file}'; expected the bare name of a {extension} file beside the index");
            _fileOf.Add(tensor, file);
        }
    }

    private IEnumerable<(string Tensor, string File)> ParseIndex()
    {
        try
        {
            if (new FileInfo(_source).Length is > IndexLimit and var length)
                throw Bad("length", $"{length} bytes of index; expected at most {IndexLimit}");
            var text = File.ReadAllText(_source); // without a byte order mark
            if (LfsPointer.Is(text))
                throw Bad("offset 0", LfsPointer.Said);
            using var json = JsonDocument.Parse(text, new() { AllowDuplicateProperties = false });
            if (json.RootElement.ValueKind != JsonValueKind.Object
                || !json.RootElement.TryGetProperty("weight_map", out var map)
                || map.ValueKind != JsonValueKind.Object)
                throw Bad("weight_map", "missing or no object; expected tensor names with file names");
            return [.. map.EnumerateObject().Select(entry => (entry.Name, entry.Value.GetString() ?? throw Bad(entry.Name, "no file")))];
        }
        // InvalidOperationException: a value that is no string, or text that is no UTF-8.
        catch (Exception e) when (e is JsonException or InvalidOperationException or IOException or UnauthorizedAccessException)
        {
            throw Fault.File(_source, "weight_map", $"cannot be read: {e.Message}", e);
        }
    }

    private IShard Shard(string file, string wanted)
    {
        lock (_opening)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (_shards.TryGetValue(file, out var open))
                return open;
            var path = System.IO.Path.Combine(Path, file);
            if (!File.Exists(path))
                throw Bad(wanted, $"the index places it in {file}, which is not in the directory; fetch it");
            return _shards[file] = file.EndsWith(".safetensors", StringComparison.Ordinal) ? new SafetensorsShard(path)
                : new TorchShard(path);
        }
    }

    private MendException Bad(string where, string message) => Fault.File(_source, where, message);

    private interface IShard : IDisposable
    {
        IEnumerable<string> Names { get; }

        StoredTensor? Find(string name);
    }

    private sealed class SafetensorsShard(string path) : IShard
    {
        private readonly SafetensorsFile _file = SafetensorsFile.Open(path);

        public IEnumerable<string> Names => _file.Entries.Keys;

        public StoredTensor? Find(string name) => _file.Entries.ContainsKey(name) ? _file.Find(name) : null;

        public void Dispose() => _file.Dispose();
    }

    private sealed class TorchShard : IShard
    {
        public const string Checkpoint = ".ckpt";

        private readonly TorchArchive _archive;
        private readonly IReadOnlyDictionary<string, PickledTensor> _tensors;

        public TorchShard(string path)
        {
            // Beside the weights a checkpoint of a training program holds its settings, objects of classes that are not known here.
            _archive = TorchArchive.Open(path, allowInertObjects: path.EndsWith(Checkpoint, StringComparison.Ordinal));
            try
            {
                _tensors = path.EndsWith(Checkpoint, StringComparison.Ordinal) ? OfModel(_archive) : _archive.StateDict();
            }
            catch
            {
                _archive.Dispose();
                throw;
            }
        }

        public IEnumerable<string> Names => _tensors.Keys;

        /// <summary>The weights among what a training program saved. It calls its model "model", and so every weight model.NAME.</summary>
        private static IReadOnlyDictionary<string, PickledTensor> OfModel(TorchArchive archive)
        {
            const string prefix = "model.";
            var saved = archive.Root as OrderedDictionary<object, object?>;
            var tensors = archive.StateDict(saved?.TryGetValue("state_dict", out var state) == true ? state : archive.Root);
            return tensors.Keys.All(name => name.StartsWith(prefix, StringComparison.Ordinal))
                ? tensors.ToDictionary(tensor => tensor.Key[prefix.Length..], tensor => tensor.Value) : tensors;
        }

        public StoredTensor? Find(string name) => _tensors.GetValueOrDefault(name);

        public void Dispose() => _archive.Dispose();
    }
}
