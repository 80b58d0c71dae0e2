using System.Text;

namespace MendCluster.Engine.Tests.Tokenizers;

/// <summary>Texts of all scripts, odd spaces, quotes and code points, from a seed.</summary>
internal static class RandomText
{
    private static readonly (int First, int Last)[] Blocks =
    [
        (' ', '~'), (' ', '~'), ('a', 'z'), (' ', ' '), (0, 0x1F), ('\'', '\''), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x5FF),
            (0x900, 0xFFF),
        (0x2000, 0x206F), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x2FA1F),
            (0, 0x10FFFF),
    ];

    public static string Next(Random random)
    {
        var text = new StringBuilder();
        for (var left = random.Next(60); left > 0; left--)
        {
            var (first, last) = Blocks[random.Next(Blocks.Length)];
            for (var run = random.Next(1, 5); run > 0; run--)
                if (Rune.TryCreate(random.Next(first, last + 1), out var rune))
                    text.Append(rune.ToString());
        }
        return text.ToString();
    }
}
