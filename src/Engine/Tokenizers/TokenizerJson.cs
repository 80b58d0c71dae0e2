namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// Reads tokenizer.json, the form of Hugging Face's tokenizers library: a pipeline of normalizer, pre-tokenizer, model and post-processor,
/// each named. The combinations of GPT-2 (Neo, J), BART, T5 and BERT are read; any other kind or setting is refused by its name, as it
/// would give other ids. "truncation" and "padding" are the caller's business and are not looked at.
/// </summary>
internal static class TokenizerJson
{
    public static ITokenizer Load(string file)
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
            "BPE" => BytePair(root, model),
            "Unigram" => Unigram(root, model),
            "WordPiece" => WordPiece(root, model),
            _ => throw type.Error($"is '{kind}'; supported are BPE, Unigram and WordPiece"),
        };
    }

    private static BytePair BytePair(JsonValue root, JsonValue model)
    {
        RefuseUnless(root["normalizer"].IsNull, root["normalizer"], "a byte-level BPE has none");
        foreach (var key in (ReadOnlySpan<string>)["continuing_subword_prefix", "end_of_word_suffix"])
            RefuseUnless(model[key].IsNull || model[key].Text.Length == 0, model[key], "a byte-level BPE has none");
        RefuseUnless(model["dropout"].IsNull || model["dropout"].Float == 0, model["dropout"], "encoding must not be random");
        foreach (var key in (ReadOnlySpan<string>)["byte_fallback", "ignore_merges"])
            RefuseUnless(!model[key].Flag(otherwise: false), model[key], "GPT-2's and BART's are off");
        var words = root["pre_tokenizer"];
        Require(words, "ByteLevel");
        RefuseUnless(!words["add_prefix_space"].Flag(otherwise: true), words["add_prefix_space"], "GPT-2's and BART's are false");
        RefuseUnless(words["use_regex"].Flag(otherwise: true), words["use_regex"], "GPT-2's and BART's are true");
        Require(root["decoder"], "ByteLevel");

        var added = Added(root);
        var vocabulary = new Vocabulary(root.File, Entries(model["vocab"]), added);
        return new(root.File, vocabulary, model["merges"].Items.Select(Merge), added, Frame(root, vocabulary));
    }

    /// <summary>"left right" in most files, ["left", "right"] in newer ones.</summary>
    private static (string Left, string Right, string Where) Merge(JsonValue merge)
    {
        string[] parts = merge.IsList ? [.. merge.Items.Select(part => part.Text)] : merge.Text.Split(' ');
        return parts is [var left, var right] ? (left, right, merge.Where)
            : throw merge.Error($"has {parts.Length} parts, expected a pair of tokens");
    }

    /// <summary>
    /// T5's. Its white space rules are spread over normalizer and pre-tokenizer in several ways that all say what SentencePiece does by itself.
    /// </summary>
    private static Unigram Unigram(JsonValue root, JsonValue model)
    {
        RefuseUnless(!model["byte_fallback"].Flag(otherwise: false), model["byte_fallback"], "T5's is off");
        var charsMap = CharsMap.Empty;
        foreach (var step in Steps(root["normalizer"], "normalizers"))
            switch (step["type"].Text)
            {
                case "Precompiled":
                    charsMap = Precompiled(step["precompiled_charsmap"]);
                    break;
                case "Strip":
                case "Replace" when step["pattern"]["Regex"] is { IsText: true, Text: " {2,}" } && step["content"].Text is " " or "\u2581":
                    break;
                default:
                    throw Unsupported(step, "Precompiled, Strip, and Replace of runs of spaces");
            }
        var hasMetaspace = false;
        foreach (var step in Steps(root["pre_tokenizer"], "pretokenizers"))
            switch (step["type"].Text)
            {
                case "WhitespaceSplit":
                    break;
                case "Metaspace":
                    hasMetaspace = true;
                    RefuseUnless(step["replacement"].Text is "\u2581", step["replacement"], "T5's is \u2581");
                    var prepends = step["prepend_scheme"];
                    var always = prepends.IsNull ? step["add_prefix_space"].Flag(otherwise: true) : prepends.Text == "always";
                    RefuseUnless(always, prepends, "T5's is always");
                    break;
                default:
                    throw Unsupported(step, "WhitespaceSplit and Metaspace");
            }
        RefuseUnless(hasMetaspace, root["pre_tokenizer"], "a T5 tokenizer has a Metaspace");
        foreach (var step in Steps(root["decoder"], "decoders"))
            Require(step, "Metaspace");

        var unknown = model["unk_id"].Whole;
        var pieces = model["vocab"].Items.Select((entry, id) => entry.Items.ToList() is [var text, var score]
            ? new Piece(text.Text, score.Float, id == unknown ? PieceType.Unknown : PieceType.Normal)
            : throw entry.Error("is not a pair of a piece and its score")).ToList();
        // As SentencePiece decodes: an unknown token is shown, not left out.
        var added = Added(root).ConvertAll(token => token with { Special = token.Special && token.Id != unknown });
        var vocabulary = new Vocabulary(root.File, pieces.Select((piece, id) => (piece.Text, id)), added);
        return new(root.File, new(pieces, new(charsMap), " \u2047 "), vocabulary, added, Frame(root, vocabulary));
    }

    private static CharsMap Precompiled(JsonValue base64)
    {
        try
        {
            return CharsMap.Parse(base64.File, base64.Where, Convert.FromBase64String(base64.Text));
        }
        catch (FormatException e)
        {
            throw base64.Error("is not base64; the file is damaged", e);
        }
    }

    private static WordPiece WordPiece(JsonValue root, JsonValue model)
    {
        var normalizer = root["normalizer"];
        Require(normalizer, "BertNormalizer");
        foreach (var key in (ReadOnlySpan<string>)["clean_text", "handle_chinese_chars"])
            RefuseUnless(normalizer[key].Flag(otherwise: true), normalizer[key], "BERT's is true");
        var lowerCase = normalizer["lowercase"].Flag(otherwise: true);
        RefuseUnless(normalizer["strip_accents"].Flag(otherwise: lowerCase) == lowerCase, normalizer["strip_accents"], "BERT's follows lowercase");
        Require(root["pre_tokenizer"], "BertPreTokenizer");
        Require(root["decoder"], "WordPiece");

        var usual = new WordPieceOptions();
        var options = new WordPieceOptions(
            lowerCase,
            model["unk_token"] is { IsNull: false } unknown ? unknown.Text : usual.Unknown,
            model["continuing_subword_prefix"] is { IsNull: false } prefix ? prefix.Text : usual.Continuation,
            model["max_input_chars_per_word"] is { IsNull: false } longest ? longest.Whole : usual.LongestWord);
        RefuseUnless(options.Continuation.Length > 0, model["continuing_subword_prefix"], "BERT's is ##");
        var added = Added(root);
        var vocabulary = new Vocabulary(root.File, Entries(model["vocab"]), added);
        return new(root.File, vocabulary, options, added, Frame(root, vocabulary));
    }

    private static IEnumerable<(string Token, int Id)> Entries(JsonValue vocabulary) =>
        vocabulary.Members.Select(member => (member.Key, member.Value.Whole));

    private static List<AddedToken> Added(JsonValue root) => root["added_tokens"].IsNull ? [] : [.. root["added_tokens"].Items.Select(token =>
    {
        RefuseUnless(!token["single_word"].Flag(otherwise: false), token["single_word"], "the supported models' are false");
        // A token that is matched in the normalised text would need the text to be normalised piece by piece.
        RefuseUnless(!token["normalized"].Flag(otherwise: false) || root["normalizer"].IsNull, token["normalized"],
            "the supported models' are false where there is a normalizer");
        return new AddedToken(token["content"].Text, token["id"].Whole, token["special"].Flag(otherwise: false),
            token["lstrip"].Flag(otherwise: false), token["rstrip"].Flag(otherwise: false));
    })];

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
                    frame = new([.. parts.Take(text).Select(Special)], [.. parts.Skip(text + 1).Select(Special)]);
                    break;
                default:
                    throw Unsupported(step, "ByteLevel, RobertaProcessing, BertProcessing and TemplateProcessing");
            }
        return frame;

        int Pair(JsonValue pair) => pair.Items.ToList() is [var token, _] ? Id(token) : throw pair.Error("is not a pair of a token and its id");

        int Special(JsonValue part) => Id(part["SpecialToken"]["id"]);

        int Id(JsonValue token) => vocabulary.Require(token.File, token.Where, token.Text);
    }

    /// <summary>The steps of a "Sequence", or the one step that stands alone, or none.</summary>
    private static IEnumerable<JsonValue> Steps(JsonValue step, string key) =>
        step.IsNull ? [] : step["type"].Text == "Sequence" ? step[key].Items : [step];

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

    private static TokenizerException Unsupported(JsonValue step, string supported) =>
        step.Error($"is {(step.IsNull ? "missing" : $"'{step["type"].Text}'")}; supported here: {supported}");
}
