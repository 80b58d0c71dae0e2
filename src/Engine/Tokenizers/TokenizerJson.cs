using System.Text.RegularExpressions;
using MendCluster.Contracts;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// Reads tokenizer.json, the form of Hugging Face's tokenizers library: a pipeline of normalizer, pre-tokenizer, model and post-processor,
/// each named. What is not built is refused by its name, as it would give other ids. "truncation" and "padding" are the caller's business
/// and are not looked at. Where tokenizer_config.json says otherwise, it is followed, as transformers does.
/// </summary>
internal static partial class TokenizerJson
{
    public static ITokenizer Load(string file, TokenizerSettings settings)
    {
        var root = JsonValue.Read(file);
        var model = root["model"];
        RefuseUnless(model.IsObject, model, "a tokenizer has one");
        var type = model["type"];
        // The oldest files do not name the type; then the form of the vocabulary tells it.
        var kind = !type.IsNull ? type.Text
            : model["vocab"].IsList ? "Unigram"
            : model["merges"].IsList ? "BPE"
            : "WordPiece";
        return kind switch
        {
            "BPE" => BytePair(root, model, settings),
            "Unigram" => Unigram(root, model, settings),
            "WordPiece" => WordPiece(root, model, settings),
            _ => throw type.Error($"is '{kind}'; supported are BPE, Unigram and WordPiece"),
        };
    }

    /// <summary>Of GPT-2's kind: every byte has its symbol, so that settings about unknown characters have nothing to act on.</summary>
    private static BytePair BytePair(JsonValue root, JsonValue model, TokenizerSettings settings)
    {
        foreach (var key in (ReadOnlySpan<string>)["continuing_subword_prefix", "end_of_word_suffix"])
            RefuseUnless(model[key].IsNull || model[key].Text.Length == 0, model[key], "a byte-level BPE has none");
        RefuseUnless(model["dropout"].IsNull || model["dropout"].Float == 0, model["dropout"], "encoding must not be random");
        var steps = Steps(root["pre_tokenizer"], "pretokenizers").ToList();
        if (steps.Count == 0)
            throw Unsupported(root["pre_tokenizer"], "ByteLevel, also at the end of a Sequence");
        var bytes = steps[^1];
        Require(bytes, "ByteLevel");
        Require(root["decoder"], "ByteLevel");
        var addsSpace = (settings["add_prefix_space"] is { IsNull: false } stated ? stated : bytes["add_prefix_space"])
            .Flag(otherwise: true);
        var options = new BytePairOptions(addsSpace, bytes["use_regex"].Flag(otherwise: true),
            model["ignore_merges"].Flag(otherwise: false));
        var (vocabulary, pipeline) = Around(root, TokenizerFiles.Ids(Entries(model["vocab"])), settings, steps[..^1]);
        return new(root.File, vocabulary, model["merges"].Items.Select(Merge), options, pipeline);
    }

    /// <summary>"left right" in most files, ["left", "right"] in newer ones.</summary>
    private static (string Left, string Right, string Where) Merge(JsonValue merge)
    {
        string[] parts = merge.IsList ? [.. merge.Items.Select(part => part.Text)] : merge.Text.Split(' ');
        return parts is [var left, var right] ? (left, right, merge.Where)
            : throw merge.Error($"has {parts.Length} parts, expected a pair of tokens");
    }

    private static Unigram Unigram(JsonValue root, JsonValue model, TokenizerSettings settings)
    {
        RefuseUnless(!model["byte_fallback"].Flag(otherwise: false), model["byte_fallback"], "T5's is off");
        settings.Require("add_prefix_space", true);
        var steps = Steps(root["pre_tokenizer"], "pretokenizers").ToList();
        RefuseUnless(steps.Exists(step => step["type"].Text == "Metaspace"), root["pre_tokenizer"], "a T5 tokenizer has a Metaspace");
        foreach (var step in Steps(root["decoder"], "decoders"))
            Require(step, "Metaspace");

        var unknown = model["unk_id"].Whole;
        var pieces = model["vocab"].Items.Select((entry, id) => entry.Items.ToList() is [var text, var score]
            ? new Piece(text.Text, score.Double, IsUnknown: id == unknown)
            : throw entry.Error("is not a pair of a piece and its score")).ToList();
        var (vocabulary, pipeline) = Around(root, TokenizerFiles.Ids(pieces.Select((piece, id) => (piece.Text, id))), settings, steps);
        // As SentencePiece decodes: an unknown token is shown, not left out.
        var added = pipeline.Added.Select(token => token with { Special = token.Special && token.Id != unknown }).ToList();
        return new(root.File, pieces, " \u2047 ", isSingle: false, vocabulary, pipeline with { Added = added });
    }

    private static WordPiece WordPiece(JsonValue root, JsonValue model, TokenizerSettings settings)
    {
        Require(root["decoder"], "WordPiece");
        var usual = new WordPieceOptions("[UNK]");
        var options = new WordPieceOptions(
            model["unk_token"] is { IsNull: false } unknown ? unknown.Text : usual.Unknown,
            model["continuing_subword_prefix"] is { IsNull: false } prefix ? prefix.Text : usual.Continuation,
            model["max_input_chars_per_word"] is { IsNull: false } longest ? longest.Whole : usual.LongestWord);
        RefuseUnless(options.Continuation.Length > 0, model["continuing_subword_prefix"], "BERT's is ##");
        var (vocabulary, pipeline) =
            Around(root, TokenizerFiles.Ids(Entries(model["vocab"])), settings, Steps(root["pre_tokenizer"], "pretokenizers"));
        return new(root.File, vocabulary, options, pipeline);
    }

    /// <summary>All but the model.</summary>
    private static (Vocabulary, Pipeline) Around(JsonValue root, Dictionary<string, int> ids, TokenizerSettings settings,
        IEnumerable<JsonValue> splitters)
    {
        var added = settings.Added(root["added_tokens"].IsNull ? [] : [.. root["added_tokens"].Items.Select(AddedToken)], ids);
        var vocabulary = new Vocabulary(root.File, ids, added);
        Normalizer[] normalizers = [.. Steps(root["normalizer"], "normalizers").Select(step => Normalizer(step, settings))];
        var frame = Frame(root, vocabulary);
        foreach (var (key, role, at) in ((string, string, int[])[])[("add_bos_token", "bos_token", frame.Before),
            ("add_eos_token", "eos_token", frame.After)])
            RefuseUnless(!settings[key].Flag(otherwise: false) || at.Length > 0, settings[key],
                $"the post_processor of tokenizer.json adds no {role}");
        return (vocabulary, new(added, frame, normalizers.Length == 0 ? null : Normalizers.Sequence(normalizers),
            [.. splitters.Select(Splitter)]));
    }

    private static AddedToken AddedToken(JsonValue token) =>
        new(token["content"].Text, token["id"].Whole, token["special"].Flag(otherwise: false),
        token["lstrip"].Flag(otherwise: false), token["rstrip"].Flag(otherwise: false), token["normalized"].Flag(otherwise: false),
        token["single_word"].Flag(otherwise: false));

    private static Normalizer Normalizer(JsonValue step, TokenizerSettings settings)
    {
        switch (step["type"].Text)
        {
            case "Sequence":
                return Normalizers.Sequence([.. step["normalizers"].Items.Select(inner => Normalizer(inner, settings))]);
            case "BertNormalizer":
                bool Of(string key, string setting, bool otherwise) =>
                    (settings[setting] is { IsNull: false } stated ? stated : step[key]).Flag(otherwise);
                var lowerCase = Of("lowercase", "do_lower_case", otherwise: true);
                return Normalizers.Bert(step["clean_text"].Flag(otherwise: true),
                    Of("handle_chinese_chars", "tokenize_chinese_chars", otherwise: true),
                    Of("strip_accents", "strip_accents", otherwise: lowerCase), lowerCase);
            case "NFC" or "NFKC" or "NFD" or "NFKD":
                var (composes, compatible) = (step["type"].Text[^1] == 'C', step["type"].Text.Length > 3);
                return text => composes ? UnicodeTables.Compose(text, compatible) : UnicodeTables.Decompose(text, compatible);
            case "Lowercase":
                return UnicodeTables.Lower;
            case "StripAccents":
                return Normalizers.StripAccents;
            case "Strip":
                return Normalizers.Strip(step["strip_left"].Flag(otherwise: true), step["strip_right"].Flag(otherwise: true));
            case "Nmt":
                return Normalizers.Nmt;
            case "Prepend":
                return Normalizers.Prepend(step["prepend"].Text);
            case "Precompiled":
                return Normalizers.Precompiled(CharsMapOf(step["precompiled_charsmap"]));
            case "Replace" when step["pattern"]["String"] is { IsText: true, Text.Length: > 0 } plain:
                return Normalizers.Replace(plain.Text, step["content"].Text);
            case "Replace" when step["pattern"]["Regex"] is { IsText: true } regex && SamePattern().IsMatch(regex.Text):
                return Normalizers.Replace(new Regex(regex.Text, RegexOptions.CultureInvariant), step["content"].Text);
            default:
                throw Unsupported(step, "BertNormalizer, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Nmt, Prepend, Precompiled, "
                    + "Replace of a text or of repeated letters, and Sequence");
        }
    }

    private static Splitter Splitter(JsonValue step)
    {
        switch (step["type"].Text)
        {
            case "BertPreTokenizer":
                return Splitters.Bert;
            case "WhitespaceSplit":
                return Splitters.Spaces;
            case "Digits":
                return Splitters.Digits(step["individual_digits"].Flag(otherwise: false));
            case "Metaspace":
                RefuseUnless(step["replacement"].Text is "\u2581", step["replacement"], "T5's is \u2581");
                var scheme = step["prepend_scheme"];
                var prepended = scheme.IsNull ? step["add_prefix_space"].Flag(otherwise: true) ? Prepended.Always : Prepended.Never
                    : Enum.TryParse<Prepended>(scheme.Text, ignoreCase: true, out var stated) ? stated
                    : throw scheme.Error($"is '{scheme.Text}', expected always, first or never");
                return Splitters.Metaspace(prepended, step["split"].Flag(otherwise: true));
            default:
                throw Unsupported(step, "BertPreTokenizer, WhitespaceSplit, Digits, Metaspace, Sequence, and ByteLevel at the end of a BPE's");
        }
    }

    private static CharsMap CharsMapOf(JsonValue base64)
    {
        try
        {
            return base64.IsNull ? CharsMap.Empty : CharsMap.Parse(base64.File, base64.Where, Convert.FromBase64String(base64.Text));
        }
        catch (FormatException e)
        {
            throw base64.Error("is not base64; the file is damaged", e);
        }
    }

    private static IEnumerable<(string Token, int Id)> Entries(JsonValue vocabulary) =>
        vocabulary.Members.Select(member => (member.Key, member.Value.Whole));

    /// <summary>What the post-processor puts around a single text.</summary>
    private static Frame Frame(JsonValue root, Vocabulary vocabulary)
    {
        var frame = Tokenizers.Frame.None;
        foreach (var step in Steps(root["post_processor"], "processors"))
            switch (step["type"].Text)
            {
                case "ByteLevel": // changes offsets only
                    break;
                case "RobertaProcessing" or "BertProcessing":
                    frame = new([Pair(step["cls"])], [Pair(step["sep"])]);
                    break;
                case "TemplateProcessing":
                    var parts = step["single"].Items.ToList();
                    var text = parts.FindIndex(part => !part["Sequence"].IsNull);
                    var last = parts.FindLastIndex(part => !part["Sequence"].IsNull);
                    RefuseUnless(text >= 0 && text == last, step["single"], "the text must stand in it once");
                    frame = new([.. parts.Take(text).SelectMany(Special)], [.. parts.Skip(text + 1).SelectMany(Special)]);

                    IEnumerable<int> Special(JsonValue part)
                    {
                        var token = part["SpecialToken"]["id"];
                        var ids = step["special_tokens"][token.Text]["ids"];
                        return ids.IsNull ? [vocabulary.Require(token.File, token.Where, token.Text)] : ids.Items.Select(Known);
                    }

                    break;
                default:
                    throw Unsupported(step, "ByteLevel, RobertaProcessing, BertProcessing and TemplateProcessing");
            }
        return frame;

        int Pair(JsonValue pair) => pair.Items.ToList() is [_, var id] ? Known(id)
            : throw pair.Error("is not a pair of a token and its id");

        int Known(JsonValue id) => vocabulary.TokenOf(id.Whole) is not null ? id.Whole
            : throw id.Error($"is {id.Whole}, which no token has");
    }

    /// <summary>The steps of a "Sequence", or the one step that stands alone, or none.</summary>
    private static IEnumerable<JsonValue> Steps(JsonValue step, string key) =>
        step.IsNull ? [] : step["type"].Text == "Sequence" ? step[key].Items.SelectMany(inner => Steps(inner, key)) : [step];

    private static void Require(JsonValue step, string type)
    {
        if (step.IsNull || step["type"].Text != type)
            throw Unsupported(step, type);
    }

    private static void RefuseUnless(bool supported, JsonValue setting, string expected)
    {
        if (!supported)
            throw setting.Error($"is {(setting.IsNull ? "missing" : setting.Element.GetRawText())}, which is not supported: {expected}");
    }

    private static MendException Unsupported(JsonValue step, string supported) =>
        step.Error($"is {(step.IsNull ? "missing" : $"'{step["type"].Text}'")}; supported here: {supported}");

    /// <summary>Patterns that mean the same to Oniguruma and to .NET: letters, digits and spaces, repeated or not.</summary>
    [GeneratedRegex(@"^([A-Za-z0-9 ](\{\d{1,3},?\d{0,3}\}|\+)?)+$", RegexOptions.CultureInvariant)]
    private static partial Regex SamePattern();
}
