using MendCluster.Contracts;
namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// A file of torch.save (pytorch_model.bin, .pt, .ckpt): a zip with one pickle, <c>data.pkl</c>, and one stored record for each storage
/// that its tensors view; or the older form of <see cref="LegacyTorchFile"/>. The pickle is read by <see cref="Unpickler"/>, which runs
/// nothing; storages stay in the file, memory-mapped, until a tensor is copied. Reading from several threads is safe; closing while another
/// thread copies is not.
/// </summary>
public sealed class TorchArchive : IDisposable
{
    private const int SmallestZip = 22;

    private readonly MappedFile _file;

    private TorchArchive(MappedFile file, bool allowInertObjects)
    {
        _file = file;
        Root = LegacyTorchFile.Is(file) ? LegacyTorchFile.Read(file, allowInertObjects) : new Zip(file).Read(allowInertObjects);
    }

    public string Path => _file.Path;

    /// <summary>
    /// What was saved: None null, bool, int long or BigInteger, float double, str string, bytes byte[], tuple object?[], list
    /// List&lt;object?&gt;, set HashSet&lt;object&gt;, dict OrderedDictionary&lt;object, object?&gt;, tensors and parameters
    /// <see cref="PickledTensor"/>, and with inert objects <see cref="PickledGlobal"/> and <see cref="PickledObject"/>.
    /// Without cycles and at most 100 deep.
    /// </summary>
    public object? Root { get; }

    /// <summary>
    /// Opens the file. Classes and functions other than those of tensors and containers are refused by name, or with
    /// <paramref name="allowInertObjects"/> kept as <see cref="PickledObject"/>, which runs nothing either.
    /// </summary>
    /// <exception cref="MendException">Not a torch archive, damaged, or it asks to import something.</exception>
    public static TorchArchive Open(string path, bool allowInertObjects = false)
    {
        var file = MappedFile.Open(path, "a torch archive", SmallestZip);
        try
        {
            return new(file, allowInertObjects);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>The root as a state dict: names to tensors.</summary>
    /// <exception cref="MendException">The root is something else.</exception>
    public IReadOnlyDictionary<string, PickledTensor> StateDict() => StateDict(Root);

    /// <summary>A part of <see cref="Root"/> as a state dict: names to tensors.</summary>
    /// <exception cref="MendException">The value is something else.</exception>
    public IReadOnlyDictionary<string, PickledTensor> StateDict(object? value)
    {
        if (value is not OrderedDictionary<object, object?> dictionary)
            throw Bad("state dict",
                $"found {value?.GetType().Name ?? "None"}, expected a dict of tensors; pick the part of the file that is one");
        var tensors = new Dictionary<string, PickledTensor>();
        foreach (var (key, item) in dictionary)
            if (key is string name && item is PickledTensor tensor)
                tensors.Add(name, tensor); // a module's extra state beside them is nothing that a layer reads
        if (tensors.Count == 0 && dictionary.Count > 0)
            throw Bad("state dict", $"entry '{dictionary.First().Key}' is {dictionary.First().Value?.GetType().Name ?? "None"}, and no other is a tensor; "
                + "pick the part of the file that is names and tensors");
        return tensors;
    }

    public void Dispose() => _file.Dispose();

    private MendException Bad(string where, string message) => Fault.File(Path, where, message);

    private sealed class Zip
    {
        private readonly MappedFile _file;
        private readonly Dictionary<string, (long Offset, long Length)> _records;
        private readonly Dictionary<string, PickledStorage> _storages = [];
        private readonly string _prefix;

        public Zip(MappedFile file)
        {
            _file = file;
            _records = ZipRecords.Read(file);
            var pickles = _records.Keys.Where(name => name.EndsWith("/data.pkl", StringComparison.Ordinal)).ToArray();
            if (pickles.Length != 1)
                throw Bad("zip directory", $"{pickles.Length} records named */data.pkl; expected one, this is no file of torch.save");
            _prefix = pickles[0][..^"data.pkl".Length];
        }

        public object? Read(bool allowInertObjects)
        {
            if (_records.TryGetValue(_prefix + "byteorder", out var order)
                && !_file.Span(order.Offset, (int)Math.Min(order.Length, 16)).SequenceEqual("little"u8))
                throw Bad("byteorder", "other than 'little'; save the file on a little-endian machine");

            var name = _prefix + "data.pkl";
            var (offset, length) = _records[name];
            if (length > Unpickler.LengthLimit)
                throw Bad(name, $"{length} bytes of pickle; expected at most {Unpickler.LengthLimit}, the tensors' data lie elsewhere");
            var unpickler = new Unpickler(_file.Path, _file.Span(offset, (int)length).ToArray(), 0, allowInertObjects, FindStorage);
            var root = unpickler.Load();
            if (unpickler.End != length)
                throw Bad(name, $"the pickle ends at {unpickler.End}, the record at {length}; the file is damaged");
            return root;
        }

        private PickledStorage FindStorage(StorageReference reference)
        {
            if (_storages.TryGetValue(reference.Key, out var known))
            {
                known.Require(reference);
                return known;
            }
            var name = $"{_prefix}data/{reference.Key}";
            if (!_records.TryGetValue(name, out var record))
                throw Bad(name, $"the pickle names this storage at offset {reference.At}, the archive does not hold it");
            if (!reference.Type.TryByteLength([reference.Count], out var byteLength) || byteLength != record.Length)
                throw Bad(name, $"{reference.Count} {reference.Type.Name()} expected, the record has {record.Length} bytes");
            return _storages[reference.Key] = new(_file, reference.Key, reference.Type, reference.Count) { Offset = record.Offset };
        }

        private MendException Bad(string where, string message) => Fault.File(_file.Path, where, message);
    }
}
