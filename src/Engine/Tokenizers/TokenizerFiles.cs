using System.Text;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// Reads the tokenizer of a Hugging Face directory: the first that is there of tokenizer.json, vocab.json with merges.txt, spiece.model,
/// vocab.txt.
/// </summary>
public static class TokenizerFiles
{
    internal static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private const long MostBytes = 256 << 20;
    private const int UsualExtraIds = 100, MostExtraIds = 100_000;

    /// <exception cref="TokenizerException">No tokenizer that is known, or a broken one.</exception>
    public static ITokenizer Load(string directory)
    {
        string In(string name) => Path.Combine(directory, name);
        if (File.Exists(In("tokenizer.json")))
            return TokenizerJson.Load(In("tokenizer.json"));
        if (File.Exists(In("vocab.json")) && File.Exists(In("merges.txt")))
            return LoadBytePair(In("vocab.json"), In("merges.txt"), In("added_tokens.json"));
        if (File.Exists(In("spiece.model")))
            return LoadUnigram(In("spiece.model"), In("tokenizer_config.json"));
        if (File.Exists(In("vocab.txt")))
            return LoadWordPiece(In("vocab.txt"), In("tokenizer_config.json"));
        throw new TokenizerException(directory, "tokenizer files",
            "none found; expected tokenizer.json, or vocab.json with merges.txt, or spiece.model, or vocab.txt: download one next to config.json");
    }

    internal static string ReadText(string file)
    {
        try
        {
            return StrictUtf8.GetString(ReadBytes(file));
        }
        catch (DecoderFallbackException e)
        {
            throw new TokenizerException(file, $"offset {e.Index}", "is not UTF-8; the file is damaged", e);
        }
    }

    internal static byte[] ReadBytes(string file)
    {
        try
        {
            var length = new FileInfo(file).Length;
            return length <= MostBytes ? File.ReadAllBytes(file)
                : throw new TokenizerException(file, "size", $"is {length} bytes, more than {MostBytes}; is this a tokenizer's file?");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new TokenizerException(file, "reading", e.Message, e);
        }
    }

    /// <summary>
    /// GPT-2's and BART's files. Nothing in them says which tokens are special, so those are by name; a vocabulary that knows &lt;s&gt; and
    /// &lt;/s&gt; is BART's, which stand around every text.
    /// </summary>
    private static BytePair LoadBytePair(string vocabularyFile, string mergesFile, string addedFile)
    {
        var entries = Entries(vocabularyFile);
        var added = File.Exists(addedFile) ? [.. Entries(addedFile).Select(entry => new AddedToken(entry.Token, entry.Id))] : new List<AddedToken>();
        added.AddRange(from entry in entries
                       where entry.Token is "<|endoftext|>" or "<s>" or "</s>" or "<pad>" or "<unk>" or "<mask>"
                       where added.TrueForAll(token => token.Text != entry.Token)
                       select new AddedToken(entry.Token, entry.Id, StripLeft: entry.Token == "<mask>"));
        var vocabulary = new Vocabulary(vocabularyFile, entries, added);
        var frame = vocabulary.IdOf("<s>") is { } start && vocabulary.IdOf("</s>") is { } end ? new Frame([start], [end]) : Frame.None;
        return new(vocabularyFile, vocabulary, Merges(mergesFile), added, frame);
    }

    private static List<(string Token, int Id)> Entries(string file) =>
        [.. JsonValue.Read(file).Members.Select(member => (member.Key, member.Value.Whole))];

    private static IEnumerable<(string Left, string Right, string Where)> Merges(string file)
    {
        foreach (var (number, line) in ReadText(file).Split('\n').Index())
        {
            if (line.Length == 0 || (number == 0 && line.StartsWith("#version", StringComparison.Ordinal)))
                continue;
            yield return line.Split(' ') is [var left, var right] ? (left, right, $"{Path.GetFileName(file)} line {number + 1}")
                : throw new TokenizerException(file, $"line {number + 1}", $"'{line}' is not a pair of tokens with a space between them");
        }
    }

    /// <summary>T5's file. The sentinels &lt;extra_id_0&gt;… come after the pieces, the first with the highest id.</summary>
    private static Unigram LoadUnigram(string file, string configFile)
    {
        var model = SentencePieceModel.Read(file);
        var entries = model.Pieces.Select((piece, id) => (piece.Text, id)).ToList();
        var added = entries.Where(entry => model.Pieces[entry.id].Type is PieceType.Control or PieceType.Unknown)
            .Select(entry => new AddedToken(entry.Text, entry.id, Special: model.Pieces[entry.id].Type == PieceType.Control)).ToList();
        var setting = File.Exists(configFile) ? JsonValue.Read(configFile)["extra_ids"] : default;
        var extraIds = setting.IsNull ? UsualExtraIds : setting.Whole;
        if (extraIds is < 0 or > MostExtraIds)
            throw new TokenizerException(configFile, "extra_ids", $"is {extraIds}, expected 0 to {MostExtraIds}");
        added.AddRange(Enumerable.Range(0, extraIds).Select(i => new AddedToken($"<extra_id_{i}>", model.Pieces.Count + extraIds - 1 - i)));
        var vocabulary = new Vocabulary(file, entries, added);
        return new(file, model, vocabulary, added, new([], [vocabulary.Require(file, "the end of sequence", "</s>")]));
    }

    private static WordPiece LoadWordPiece(string file, string configFile)
    {
        var lines = ReadText(file).Split('\n');
        var entries = lines.Take(lines[^1].Length == 0 ? lines.Length - 1 : lines.Length).Select((line, id) => (line.TrimEnd('\r'), id));
        var vocabulary = new Vocabulary(file, entries, []);
        var added = new[] { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" }
            .Where(token => vocabulary.IdOf(token) is not null).Select(token => new AddedToken(token, vocabulary.IdOf(token)!.Value)).ToList();
        var lowerCase = !File.Exists(configFile) || JsonValue.Read(configFile)["do_lower_case"].Flag(otherwise: true);
        return new(file, vocabulary, new(lowerCase), added,
            new([vocabulary.Require(file, "the start of a text", "[CLS]")], [vocabulary.Require(file, "the end of a text", "[SEP]")]));
    }
}
