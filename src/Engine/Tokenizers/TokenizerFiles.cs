using System.Text;
using MendCluster.Contracts;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// Reads the tokenizer of a Hugging Face directory: the first that is there of tokenizer.json, vocab.json with merges.txt, spiece.model,
/// vocab.txt; with the settings beside it (<see cref="TokenizerSettings"/>), as transformers does.
/// </summary>
public static class TokenizerFiles
{
    internal static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private static ReadOnlySpan<byte> ByteOrderMark => [0xEF, 0xBB, 0xBF];

    private const long MaxBytes = 256 << 20;
    private const int DefaultExtraIds = 100, MaxExtraIds = 100_000;

    /// <exception cref="MendException">No tokenizer that is known, or a broken one.</exception>
    public static ITokenizer Load(string directory)
    {
        string In(string name) => Path.Combine(directory, name);
        var settings = new TokenizerSettings(directory);
        settings.Require("split_special_tokens", false);
        if (File.Exists(In("tokenizer.json")))
            return TokenizerJson.Load(In("tokenizer.json"), settings);
        if (File.Exists(In("vocab.json")) && File.Exists(In("merges.txt")))
            return LoadBytePair(In("vocab.json"), In("merges.txt"), settings);
        if (File.Exists(In("spiece.model")))
            return LoadUnigram(In("spiece.model"), settings);
        if (File.Exists(In("vocab.txt")))
            return LoadWordPiece(In("vocab.txt"), settings);
        throw Fault.File(directory, "tokenizer files",
            "none found; expected tokenizer.json, or vocab.json with merges.txt, or spiece.model, or vocab.txt: "
            + "download one next to config.json");
    }

    internal static string ReadText(string file)
    {
        try
        {
            ReadOnlySpan<byte> bytes = ReadBytes(file);
            return StrictUtf8.GetString(bytes.StartsWith(ByteOrderMark) ? bytes[ByteOrderMark.Length..] : bytes);
        }
        catch (DecoderFallbackException e)
        {
            throw Fault.File(file, $"offset {e.Index}", "is not UTF-8; the file is damaged", e);
        }
    }

    internal static byte[] ReadBytes(string file)
    {
        try
        {
            var length = new FileInfo(file).Length;
            if (length > MaxBytes)
                throw Fault.File(file, "size", $"is {length} bytes, more than {MaxBytes}; is this a tokenizer's file?");
            var bytes = File.ReadAllBytes(file);
            return !bytes.AsSpan().StartsWith(LfsPointer.Start) ? bytes
                : throw Fault.File(file, "offset 0", LfsPointer.Said);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Fault.File(file, "reading", e.Message, e);
        }
    }

    /// <summary>
    /// GPT-2's and BART's files. Which of the two, the settings say; where they do not, a vocabulary that knows &lt;s&gt; and &lt;/s&gt; is
    /// BART's, which stand around every text.
    /// </summary>
    private static BytePair LoadBytePair(string vocabularyFile, string mergesFile, TokenizerSettings settings)
    {
        var ids = Ids(Entries(vocabularyFile));
        var isBart = Kind(settings, vocabularyFile, "GPT2Tokenizer", "BartTokenizer", "RobertaTokenizer") is { } kind
            ? kind != "GPT2Tokenizer"
            : ids.ContainsKey("<s>") && ids.ContainsKey("</s>");
        var usual = isBart ? Usual.Bart : Usual.Gpt2;
        settings.Require("do_lower_case", false);
        settings.Require("add_eos_token", false);
        var added = settings.Added([], ids, usual);
        var vocabulary = new Vocabulary(vocabularyFile, ids, added);
        var frame = isBart ? new Frame([Id("cls_token")], [Id("sep_token")])
            : settings["add_bos_token"].Flag(otherwise: false) ? new([Id("bos_token")], [])
            : Frame.None;
        return new(vocabularyFile, vocabulary, Merges(mergesFile),
            new(settings["add_prefix_space"].Flag(otherwise: false)), new(added, frame, null, []));

        int Id(string role) => vocabulary.Require(vocabularyFile, role, settings.Token(role, usual));
    }

    private static IEnumerable<(string Token, int Id)> Entries(string file) =>
        JsonValue.Read(file).Members.Select(member => (member.Key, member.Value.Whole));

    /// <summary>Of a token that is written twice the last counts.</summary>
    internal static Dictionary<string, int> Ids(IEnumerable<(string Token, int Id)> entries)
    {
        var ids = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var (token, id) in entries)
            ids[token] = id;
        return ids;
    }

    /// <summary>The tokenizer's class; null: the settings do not say.</summary>
    /// <exception cref="MendException">One of another kind, which would cut these files' texts in another way.</exception>
    private static string? Kind(TokenizerSettings settings, string file, params ReadOnlySpan<string> supported) =>
        settings.Class is not { } name || supported.Contains(name) ? settings.Class
        : throw Fault.File(file, "tokenizer_class",
            $"is '{name}'; without a tokenizer.json supported are {string.Join(", ", supported.ToArray())}");

    private static IEnumerable<(string Left, string Right, string Where)> Merges(string file)
    {
        foreach (var (number, ended) in ReadText(file).Split('\n').Index())
        {
            var line = ended.TrimEnd('\r');
            if (line.Length == 0 || (number == 0 && line.StartsWith("#version", StringComparison.Ordinal)))
                continue;
            yield return line.Split(' ') is [var left, var right] ? (left, right, $"{Path.GetFileName(file)} line {number + 1}")
                : throw Fault.File(file, $"line {number + 1}", $"'{line}' is not a pair of tokens with a space between them");
        }
    }

    /// <summary>T5's file. The sentinels &lt;extra_id_0&gt;… come after the pieces, the first with the highest id.</summary>
    private static Unigram LoadUnigram(string file, TokenizerSettings settings)
    {
        Kind(settings, file, "T5Tokenizer");
        settings.Require("do_lower_case", false);
        settings.Require("legacy", true);
        settings.Require("add_prefix_space", true);
        if (settings["sp_model_kwargs"] is { IsObject: true } sampling && sampling.Members.Any())
            throw sampling.Error("has settings of SentencePiece, which are not supported; T5's tokenizers have none");
        var model = SentencePieceModel.Read(file);
        var ids = Ids(model.Pieces.Select((piece, id) => (piece.Text, id)));
        var added = model.Pieces.Index().Where(entry => entry.Item.IsControl || entry.Item.IsUnknown)
            .Select(entry => new AddedToken(entry.Item.Text, entry.Index, Special: entry.Item.IsControl)).ToList();
        if (settings["added_tokens_decoder"].IsNull)
        {
            var extraIds = ExtraIds(settings);
            added.AddRange(Enumerable.Range(0, extraIds).Reverse()
                .Select(i => new AddedToken($"<extra_id_{i}>", model.Pieces.Count + extraIds - 1 - i)));
        }
        added = settings.Added(added, ids, Usual.T5);
        var vocabulary = new Vocabulary(file, ids, added);
        var end = vocabulary.Require(file, "the end of sequence", settings.Token("eos_token", Usual.T5));
        return new(file, model.Pieces, model.UnknownSurface, isSingle: true, vocabulary,
            new(added, new([], [end]), model.Normalizer.Normalize, []));
    }

    private static int ExtraIds(TokenizerSettings settings)
    {
        var listed = settings.Others.Count(token => token.Text.Contains("<extra_id_", StringComparison.Ordinal));
        var stated = settings["extra_ids"];
        var extraIds = !stated.IsNull ? stated.Whole : listed > 0 ? listed : DefaultExtraIds;
        if (extraIds is < 0 or > MaxExtraIds || (listed > 0 && listed != extraIds))
            throw stated.Error($"is {extraIds}, expected 0 to {MaxExtraIds} and as many as additional_special_tokens lists, {listed}");
        return extraIds;
    }

    private static WordPiece LoadWordPiece(string file, TokenizerSettings settings)
    {
        Kind(settings, file, "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer");
        settings.Require("do_basic_tokenize", true);
        var lines = ReadText(file).Split('\n');
        var ids = Ids(lines.Take(lines[^1].Length == 0 ? lines.Length - 1 : lines.Length).Select((line, id) => (line.TrimEnd('\r'), id)));
        var added = settings.Added([], ids, Usual.Bert);
        // The fast tokenizer does not know never_split: only what is matched whole anyway gives the same ids.
        foreach (var word in settings["never_split"] is { IsList: true } never ? never.Items : [])
            if (!added.Exists(token => token.Text == word.Text))
                throw word.Error($"keeps '{word.Text}' whole, which is not supported; add it to added_tokens_decoder");
        var vocabulary = new Vocabulary(file, ids, added);
        var lowerCase = settings["do_lower_case"].Flag(otherwise: true);
        var normalizer = Normalizers.Bert(cleanText: true, settings["tokenize_chinese_chars"].Flag(otherwise: true),
            settings["strip_accents"].Flag(otherwise: lowerCase), lowerCase);
        return new(file, vocabulary, new(settings.Token("unk_token", Usual.Bert)),
            new(added, new([Id("the start of a text", "cls_token")], [Id("the end of a text", "sep_token")]), normalizer,
                [Splitters.Bert]));

        int Id(string what, string role) => vocabulary.Require(file, what, settings.Token(role, Usual.Bert));
    }

    /// <summary>The special tokens of transformers' classes, by role.</summary>
    private static class Usual
    {
        public static readonly Dictionary<string, AddedToken> Gpt2 =
            Tokens(("bos_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>"), ("unk_token", "<|endoftext|>"));

        public static readonly Dictionary<string, AddedToken> Bart = new(Tokens(("bos_token", "<s>"), ("eos_token", "</s>"),
            ("unk_token", "<unk>"), ("sep_token", "</s>"), ("pad_token", "<pad>"), ("cls_token", "<s>")))
        {
            ["mask_token"] = new("<mask>", 0, StripLeft: true),
        };

        public static readonly Dictionary<string, AddedToken> T5 =
            Tokens(("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "<pad>"));

        public static readonly Dictionary<string, AddedToken> Bert =
            Tokens(("unk_token", "[UNK]"), ("sep_token", "[SEP]"), ("pad_token", "[PAD]"), ("cls_token", "[CLS]"),
                ("mask_token", "[MASK]"));

        private static Dictionary<string, AddedToken> Tokens(params (string Role, string Text)[] tokens) =>
            tokens.ToDictionary(token => token.Role, token => new AddedToken(token.Text, 0));
    }
}
