using System.Buffers.Binary;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Testing;
using static MendCluster.Testing.ForgedSafetensors;

namespace MendCluster.Engine.Tests.Checkpoints;

/// <summary>
/// Good files with seeded damage, mostly where a reader takes decisions. A damaged file is either refused as ModelUnusable, or it
/// opens and every tensor in it can be copied; never another exception, never a crash, never much memory.
/// </summary>
public sealed class CheckpointFuzzTests : IDisposable
{
    private const long MostBytesToOpen = 64 << 20;

    private static readonly long[] Interesting =
        [0, 1, -1, 7, 8, 255, 256, 65535, int.MaxValue, int.MinValue, uint.MaxValue, 1L << 32, 1L << 62, long.MaxValue, long.MinValue];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(1, 250)]
    public void DamagedSafetensors_AreRefusedOrRead(int seed, int files) => Fuzz(SafetensorsSeeds(), OpenSafetensors, seed, files);

    [Theory]
    [InlineData(2, 250)]
    public void DamagedTorchArchives_AreRefusedOrRead(int seed, int files) => Fuzz(TorchSeeds(), OpenTorch, seed, files);

    [Theory]
    [Trait("Category", "Slow")]
    [InlineData(3, 12_000)]
    public void ManyDamagedSafetensors_AreRefusedOrRead(int seed, int files) => Fuzz(SafetensorsSeeds(), OpenSafetensors, seed, files);

    [Theory]
    [Trait("Category", "Slow")]
    [InlineData(4, 12_000)]
    public void ManyDamagedTorchArchives_AreRefusedOrRead(int seed, int files) => Fuzz(TorchSeeds(), OpenTorch, seed, files);

    private void Fuzz(SeedFile[] seeds, Func<string, IEnumerable<StoredTensor>> readAll, int seed, int files)
    {
        var random = new Random(seed);
        int refused = 0, read = 0;
        for (var i = 0; i < files; i++)
        {
            var bytes = Damage(seeds[random.Next(seeds.Length)], random);
            var path = _folder.Write("fuzz", bytes);
            var allocatedBefore = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                foreach (var tensor in readAll(path))
                {
                    Assert.InRange(tensor.ByteLength, 0, bytes.Length);
                    tensor.ToArray();
                }
                read++;
            }
            catch (MendException e) when (e.Error == MendError.ModelUnusable)
            {
                Assert.StartsWith(path, e.Message, StringComparison.Ordinal);
                refused++;
            }
            catch (Exception e)
            {
                var kept = Path.Combine(Path.GetTempPath(), $"mend-fuzz-{seed}-{i}");
                File.WriteAllBytes(kept, bytes);
                Assert.Fail($"seed {seed}, file {i} (kept as {kept}): {e}");
            }
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - allocatedBefore, 0, MostBytesToOpen);
        }
        Assert.True(refused > files / 10 && read > files / 100,
            $"{refused} refused and {read} read of {files}: the damage is too strong or too weak to test anything");
    }

    private static IEnumerable<StoredTensor> OpenSafetensors(string path)
    {
        using var file = SafetensorsFile.Open(path);
        foreach (var name in file.Entries.Keys)
        {
            Assert.Equal(file.Entries[name].ByteLength, file.Bytes(name).Length);
            yield return file.Find(name);
        }
    }

    private static IEnumerable<StoredTensor> OpenTorch(string path)
    {
        using var file = TorchArchive.Open(path, allowInertObjects: true);
        foreach (var tensor in Tensors(file.Root))
            yield return tensor;
    }

    /// <summary>
    /// Recursion is safe: the reader bounds depth and refuses cycles. Shared parts are walked again, so the number is bounded.
    /// </summary>
    private static IEnumerable<PickledTensor> Tensors(object? value) => (value switch
    {
        PickledTensor tensor => [tensor],
        OrderedDictionary<object, object?> dictionary => dictionary.Values.SelectMany(Tensors),
        List<object?> list => list.SelectMany(Tensors),
        object?[] tuple => tuple.SelectMany(Tensors),
        PickledObject inert => Tensors(inert.State),
        _ => [],
    }).Take(1000);

    private static byte[] Damage(SeedFile seed, Random random)
    {
        var bytes = seed.Bytes.ToList();
        for (var rounds = random.Next(1, 4); rounds > 0; rounds--)
        {
            var (begin, end) = seed.Decisive[random.Next(seed.Decisive.Length)];
            end = Math.Min(end, bytes.Count);
            if (begin >= end)
                break;
            var at = random.Next(begin, end);
            switch (random.Next(8))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 2:
                    Overwrite(bytes, at, Interesting[random.Next(Interesting.Length)], 1 << random.Next(4));
                    break;
                case 3:
                    bytes.RemoveRange(at, Math.Min(random.Next(1, 40), bytes.Count - at));
                    break;
                case 4:
                    bytes.InsertRange(at, bytes.GetRange(at, Math.Min(random.Next(1, 200), bytes.Count - at)));
                    break;
                case 5:
                    var from = random.Next(begin, end);
                    for (var i = 0; i < random.Next(1, 20) && Math.Max(at, from) + i < bytes.Count; i++)
                        bytes[at + i] = bytes[from + i];
                    break;
                case 6:
                    // Another number where a number stands keeps text well-formed and reaches the checks behind the parser.
                    var digit = bytes.FindIndex(at, b => b is >= (byte)'0' and <= (byte)'9');
                    if (digit >= 0)
                        bytes[digit] = (byte)random.Next('0', '9' + 1);
                    break;
                default:
                    if (random.Next(4) == 0)
                        bytes.RemoveRange(at, bytes.Count - at);
                    else
                        bytes[at]++;
                    break;
            }
        }
        return [.. bytes];
    }

    private static void Overwrite(List<byte> bytes, int at, long value, int length)
    {
        var raw = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(raw, value);
        for (var i = 0; i < length && at + i < bytes.Count; i++)
            bytes[at + i] = raw[i];
    }

    private static SeedFile[] SafetensorsSeeds()
    {
        var entries = $"{Entry("a", "F32", "2,3", "0,24")},{Entry("b", "BF16", "4", "24,32")},{Entry("c", "BOOL", "", "32,33")}";
        var small = Bytes($"{{\"__metadata__\":{{\"format\":\"pt\"}},{entries}}}", 33);
        var real = File.ReadAllBytes(Fixture.Path("models/gpt2/model.safetensors"));
        return [Safetensors(small), Safetensors(real)];

        static SeedFile Safetensors(byte[] bytes)
        {
            var header = (8, 8 + (int)BitConverter.ToInt64(bytes));
            return new(bytes, [(0, 8), header, header]);
        }
    }

    private static SeedFile[] TorchSeeds()
    {
        var pickle = new ForgedPickle().Op('}').Op('(')
            .Text("a").Tensor("0", 6, 0, [2, 3], [3, 1]).Text("b").Tensor("1", 4, 1, [3], [1], "ByteStorage")
            .Text("c").Op(']').Op('q', 0).Op('(').Int(1).Op('N').Op(0x88).Text("text").Op('e').Text("d").Op('h', 0)
            .Text("e").Global("some.module", "Config").Op(')').Op(0x81).Op('}').Text("k").Int(3).Op('s').Op('b')
            .Op('u').Stop();
        byte[][] storages = [new byte[24], new byte[4]];
        var legacyState = new ForgedPickle().Op('}').Op('(')
            .Text("w").LegacyTensor("94", 6, [2, 3], [3, 1]).Text("b").LegacyTensor("17", 2, [2], [1]).Op('u').Stop();
        var legacy = ForgedLegacy.Bytes(legacyState, ("94", new byte[24]), ("17", new byte[8]));
        return
        [
            Torch(ForgedZip.Bytes(ForgedZip.TorchMembers(pickle, storages))),
            Torch(ForgedZip.Bytes(ForgedZip.TorchMembers(pickle, storages), zip64: true)),
            Torch(File.ReadAllBytes(Fixture.Path("models/gpt2/pytorch_model.bin"))),
            Torch(File.ReadAllBytes(Fixture.Path("mend/gpt2/default.checkpoint.pt"))),
            new(legacy, [(0, legacy.Length)]),
        ];

        static SeedFile Torch(byte[] bytes)
        {
            var directory = bytes.AsSpan().IndexOf("PK\u0001\u0002"u8);
            var pickleEnd = bytes.AsSpan().IndexOf(".PK"u8);
            var head = (0, pickleEnd > 0 ? pickleEnd : 6000);
            return new(bytes, [head, head, (directory, bytes.Length), (0, bytes.Length)]);
        }
    }

    /// <summary>A good file, and the ranges in which damage matters.</summary>
    private sealed record SeedFile(byte[] Bytes, (int Begin, int End)[] Decisive);
}
