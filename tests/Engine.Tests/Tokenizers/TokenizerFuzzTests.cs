using MendCluster.Contracts;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Tokenizers;

/// <summary>
/// Good files with seeded damage. What is damaged is either refused as ModelUnusable, or it loads and encodes and decodes any
/// text; never another exception, never much memory.
/// </summary>
public sealed class TokenizerFuzzTests
{
    private const long MostBytesToLoad = 64 << 20;

    public static TheoryData<string, string> Files => new()
    {
        { "tiny_bpe", "vocab.json" },
        { "tiny_bpe", "merges.txt" },
        { "unigram", "spiece.model" },
        { "wordpiece", "vocab.txt" },
        { "BPE", "tokenizer.json" },
        { "Unigram", "tokenizer.json" },
        { "WordPiece", "tokenizer.json" },
    };

    [Theory]
    [MemberData(nameof(Files))]
    public void DamagedFiles_AreRefusedOrEncode(string source, string name) => Fuzz(source, name, seed: 1, files: 150);

    [Theory]
    [Trait("Category", "Slow")]
    [MemberData(nameof(Files))]
    public void ManyDamagedFiles_AreRefusedOrEncode(string source, string name) =>
        Parallel.For(0, 4, part => Fuzz(source, name, seed: 2 + part, files: 1_500));

    private static void Fuzz(string source, string name, int seed, int files)
    {
        using var folder = new TemporaryFolder();
        byte[] good;
        if (name == "tokenizer.json")
            good = System.Text.Encoding.UTF8.GetBytes(TokenizerFilesTests.Published(source));
        else
        {
            var whole = TokenizerFilesTests.Source(source);
            foreach (var file in Directory.EnumerateFiles(whole))
                File.Copy(file, folder[Path.GetFileName(file)]);
            good = File.ReadAllBytes(Path.Combine(whole, name));
        }

        var random = new Random(seed);
        int refused = 0, read = 0;
        for (var i = 0; i < files; i++)
        {
            var bytes = Damage(good, random);
            folder.Write(name, bytes);
            var text = RandomText.Next(random);
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                var tokenizer = TokenizerFiles.Load(folder.Path);
                foreach (var part in (string[])[text, "the capital of France", "\U0001F600 \u00BD\uFB01 \u4E2D\u6587 don't 123"])
                {
                    var ids = tokenizer.Encode(part);
                    Assert.All(ids, id => Assert.NotNull(tokenizer.TokenOf(id)));
                    tokenizer.Decode(ids, skipSpecialTokens: i % 2 == 0);
                }
                read++;
            }
            catch (MendException e) when (e.Error == MendError.ModelUnusable)
            {
                refused++;
            }
            catch (Exception e)
            {
                var kept = Path.Combine(Path.GetTempPath(), $"mend-fuzz-{seed}-{i}-{name}");
                File.WriteAllBytes(kept, bytes);
                Assert.Fail($"{source}, seed {seed}, file {i} (kept as {kept}): {e}");
            }
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, MostBytesToLoad);
        }
        Assert.True(refused > files / 20 && read > files / 50,
            $"{refused} refused and {read} read of {files}: the damage is too strong or too weak to test anything");
    }

    /// <summary>Half of the damage lies in the first 3000 bytes, where the larger files take their decisions.</summary>
    private static byte[] Damage(byte[] good, Random random)
    {
        var bytes = good.ToList();
        for (var rounds = random.Next(1, 3); rounds > 0 && bytes.Count > 0; rounds--)
        {
            var at = random.Next(random.Next(2) == 0 ? bytes.Count : Math.Min(bytes.Count, 3000));
            switch (random.Next(8))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 2:
                    bytes.RemoveRange(at, Math.Min(random.Next(1, 40), bytes.Count - at));
                    break;
                case 3:
                    bytes.InsertRange(at, bytes.GetRange(at, Math.Min(random.Next(1, 200), bytes.Count - at)));
                    break;
                case 4:
                    var digit = bytes.FindIndex(at, b => b is >= (byte)'0' and <= (byte)'9');
                    if (digit >= 0)
                        bytes.InsertRange(digit, Enumerable.Range(0, random.Next(1, 9)).Select(_ => (byte)random.Next('0', '9' + 1)));
                    break;
                case 5:
                    // Little is wrong with the text then: what was one value is another one, or white space.
                    var space = bytes.FindIndex(at, b => b is (byte)' ' or (byte)'\n' or (byte)',' or (byte)':');
                    if (space >= 0)
                        bytes.Insert(space + 1, (byte)" \n\t"[random.Next(3)]);
                    break;
                case 6:
                    foreach (var value in "\"\\uD8"u8)
                        if (at < bytes.Count)
                            bytes[at++] = value;
                    break;
                default:
                    if (random.Next(4) == 0)
                        bytes.RemoveRange(at, bytes.Count - at);
                    else
                        bytes[at] = bytes[random.Next(bytes.Count)];
                    break;
            }
        }
        return [.. bytes];
    }
}
