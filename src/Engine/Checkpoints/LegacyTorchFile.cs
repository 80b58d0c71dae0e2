using System.Buffers.Binary;
using System.Numerics;
using MendCluster.Contracts;

namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// What torch.save wrote before version 1.6, as many older pytorch_model.bin files are: five pickles in a row (a magic number, a version,
/// the writer's word sizes, the object, the keys of its storages), then for each key an int64 count and the elements.
/// </summary>
internal static class LegacyTorchFile
{
    private const long Version = 1001;
    private static readonly BigInteger Magic = BigInteger.Parse("119547037146038801333356");

    /// <summary>How the pickle of the magic number begins: protocol 2, an integer of ten bytes.</summary>
    private static ReadOnlySpan<byte> Start => [0x80, 0x02, 0x8a, 0x0a];

    public static bool Is(MappedFile file) => file.Span(0, Start.Length).SequenceEqual(Start);

    public static object? Read(MappedFile file, bool allowInertObjects)
    {
        var pickles = file.Span(0, (int)Math.Min(file.Length, Unpickler.LengthLimit)).ToArray();
        var storages = new Dictionary<string, PickledStorage>();
        var next = 0;

        object? Load()
        {
            var unpickler = new Unpickler(file.Path, pickles, next, allowInertObjects, reference => FindStorage(file, storages, reference));
            var value = unpickler.Load();
            next = unpickler.End;
            return value;
        }

        if (Load() is not BigInteger magic || magic != Magic || Load() is not Version)
            throw Bad(file, "offset 0", $"no torch file: the magic number {Magic} and version {Version} are expected");
        if (Load() is not OrderedDictionary<object, object?> system
            || !system.TryGetValue("little_endian", out var little)
            || little is not true)
            throw Bad(file, $"offset {next}", "not written by a little-endian machine; save it again on one");
        var root = Load();
        if (Load() is not List<object?> keys)
            throw Bad(file, $"offset {next}", "the list of storages is missing; the file is damaged");
        PlaceStorages(file, storages, keys, next);
        return root;
    }

    private static PickledStorage FindStorage(MappedFile file, Dictionary<string, PickledStorage> storages, StorageReference reference)
    {
        if (!storages.TryGetValue(reference.Key, out var known))
            return storages[reference.Key] = new(file, reference.Key, reference.Type, reference.Count);
        known.Require(reference);
        return known;
    }

    private static void PlaceStorages(MappedFile file, Dictionary<string, PickledStorage> storages, List<object?> keys, long next)
    {
        var unplaced = new HashSet<string>(storages.Keys);
        foreach (var key in keys)
        {
            if (key is not string name || !unplaced.Remove(name))
                throw Bad(file, $"offset {next}", $"storage '{key}' is listed twice or belongs to no tensor; the file is damaged");
            var storage = storages[name];
            if (file.Length - next < sizeof(long))
                throw Bad(file, $"storage '{name}'",
                    $"should begin at offset {next}, the file ends at {file.Length}; it is cut, fetch it again");
            var count = BinaryPrimitives.ReadInt64LittleEndian(file.Span(next, sizeof(long)));
            next += sizeof(long);
            if (count != storage.Count || !storage.Type.TryByteLength([count], out var byteLength) || byteLength > file.Length - next)
                throw Bad(file, $"storage '{name}'",
                    $"{count} elements at offset {next} of {file.Length}, expected {storage.Count} {storage.Type.Name()}; fetch it again");
            storage.Offset = next;
            next += byteLength;
        }
        if (unplaced.Count != 0)
            throw Bad(file, $"offset {next}", $"{unplaced.Count} storages are missing, such as '{unplaced.Min()}'; the file is damaged");
        if (next != file.Length)
            throw Bad(file, $"offset {next}", $"the storages end here, but {file.Length - next} bytes follow; the file is damaged");
    }

    private static MendException Bad(MappedFile file, string where, string message) => Fault.File(file.Path, where, message);
}
