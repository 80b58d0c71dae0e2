using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Tokenizers;

/// <summary>Hugging Face's own tokenizers library (by the package Tokenizers.DotNet) on a tokenizer.json.</summary>
internal static class Oracle
{
    private const int RandomTexts = 5_400;

    private static readonly string[] Fragments =
    [
        "Who is the mayor of the old town?", "  leading", "trailing  ", "tab\tand\nnewline\r\n", "don't we'll I'VE 's", "\u00E9",
            "cafe\u0301 \u00C0\u00C1", "\u4E2D\u6587 \u554F\u984C",
        "\u65E5\u672C\u8A9E\u30C6\u30B9\u30C8", "\uD55C\uAD6D\uC5B4", "\U0001F600", "\U0001F469\u200D\U0001F469", "<|endoftext|>", "<sep>",
            " <mask> ", "[MASK][SEP]", "<extra_id_0>", "</s> x",
        "\uFB01\u2460\u00BD\u2167\uFF21", "\u0130stanbul \u03A3\u0391\u03A3", "1234 56,7", "\u00A0\u3000\u2003", "\u200B\uFEFF\u00AD",
            "\u0000\u0007\u0085", "{json}_b.c(1)!?", "a<sep>b  New York",
    ];

    /// <summary>Whether the package's native library is there.</summary>
    public static bool IsHere => OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture == Architecture.X64;

    /// <summary>Every two of the fragments, one after the other, and random texts.</summary>
    public static IEnumerable<string> Texts(int seed)
    {
        foreach (var first in Fragments)
            foreach (var second in Fragments)
                yield return first + second;
        var random = new Random(seed);
        for (var i = 0; i < RandomTexts; i++)
            yield return RandomText.Next(random) + (i % 7 == 0 ? Fragments[random.Next(Fragments.Length)] + RandomText.Next(random) : "");
    }

    /// <summary>Whether both give the same ids for all texts.</summary>
    /// <param name="json">The tokenizer.json that the library reads.</param>
    /// <param name="files">The files that ours is loaded from, by name.</param>
    public static void AssertSame(JsonNode json, IReadOnlyDictionary<string, byte[]> files, int seed, Func<string, bool>? isLeftOut = null)
    {
        using var folder = new TemporaryFolder();
        using var theirs = new global::Tokenizers.DotNet.Tokenizer(folder.Write("oracle.json", json.ToJsonString()));
        foreach (var (name, bytes) in files)
            folder.Write(name, bytes);
        var ours = TokenizerFiles.Load(folder.Path);
        var compared = 0;
        foreach (var text in Texts(seed).Where(text => isLeftOut?.Invoke(text) != true))
        {
            int[] expected = [.. theirs.Encode(text).Select(id => (int)id)];
            int[] found = [.. ours.Encode(text)];
            var same = expected.Zip(found).TakeWhile(pair => pair.First == pair.Second).Count();
            Assert.True(expected.AsSpan().SequenceEqual(found),
                $"{System.Text.Json.JsonSerializer.Serialize(text)}: from token {same}\nexpected {Show(expected, same)}\nfound    {Show(found, same)}");
            compared++;
        }
        Assert.True(compared >= 5_500, $"{compared} texts only");

        string Show(int[] ids, int same) => string.Join(' ', ids.Skip(same - 5).Take(15).Select(id => $"{id}:{ours.TokenOf(id)}"));
    }
}

/// <summary>Run where the library is.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class OracleTheoryAttribute : TheoryAttribute
{
    public OracleTheoryAttribute() => Skip = Oracle.IsHere ? null
        : "Tokenizers.DotNet's native library is referenced for Linux on x64 alone";
}
