using System.Globalization;
using MendCluster.Contracts;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// What stands beside a tokenizer's own files: tokenizer_config.json, and where that has no added_tokens_decoder (transformers before 4.34)
/// the older special_tokens_map.json and added_tokens.json.
/// </summary>
internal sealed class TokenizerSettings
{
    private static readonly string[] Roles = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

    /// <summary>Names that say nothing about the kind of tokenizer.</summary>
    private static readonly string[] AnyClass = ["PreTrainedTokenizer", "TokenizersBackend", "PythonBackend"];

    private readonly string _directory;
    private readonly JsonValue _config, _map, _added;

    public TokenizerSettings(string directory)
    {
        _directory = directory;
        _config = Read("tokenizer_config.json");
        var isOlder = _config["added_tokens_decoder"].IsNull;
        _map = isOlder ? Read("special_tokens_map.json") : default;
        _added = isOlder ? Read("added_tokens.json") : default;
    }

    public JsonValue this[string key] => _config[key];

    /// <summary>The tokenizer's class without "Fast", by tokenizer_config.json or config.json; null: neither says.</summary>
    public string? Class
    {
        get
        {
            if (NameOf(_config) is { } own)
                return own;
            var model = Read("config.json");
            return NameOf(model) ?? (model["model_type"] is { IsText: true } type ? type.Text : null) switch
            {
                "gpt2" or "gpt_neo" or "gptj" => "GPT2Tokenizer",
                "bart" => "BartTokenizer",
                "t5" => "T5Tokenizer",
                "bert" => "BertTokenizer",
                _ => null,
            };

            static string? NameOf(JsonValue settings)
            {
                var name = settings["tokenizer_class"] is { IsNull: false } stated ? stated.Text : null;
                name = name?.EndsWith("Fast", StringComparison.Ordinal) == true ? name[..^"Fast".Length] : name;
                return AnyClass.Contains(name) ? null : name;
            }
        }
    }

    /// <summary>The token that plays a role, such as <c>eos_token</c>.</summary>
    public string Token(string role, IReadOnlyDictionary<string, AddedToken> usual) => Said(role) is { } said ? said.Text
        : usual[role].Text;

    /// <summary>Refuses a setting that gives other ids in a way that is not built.</summary>
    public void Require(string key, bool expected)
    {
        if (_config[key].Flag(otherwise: expected) != expected)
            throw _config[key].Error($"is {(expected ? "false" : "true")}, which is not supported for these files: save the tokenizer as a tokenizer.json that says what it does");
    }

    /// <summary>All tokens that are matched whole, those known already and those of the settings; the new ones get the next ids.</summary>
    /// <param name="known">With their ids.</param>
    /// <param name="ids">The model's vocabulary.</param>
    /// <param name="usual">By role, where the settings do not say; only if the vocabulary has them.</param>
    /// <exception cref="MendException">A token is said to have another id than its place gives it.</exception>
    public List<AddedToken> Added(IReadOnlyList<AddedToken> known, IReadOnlyDictionary<string, int> ids,
        IReadOnlyDictionary<string, AddedToken>? usual = null)
    {
        var added = new List<AddedToken>();
        foreach (var token in known.DistinctBy(token => token.Text)) // of one that is there twice the library takes the first
            Add(token, $"added token {token.Id}");
        foreach (var (id, value) in _config["added_tokens_decoder"].MembersIfAny
            .Select(member => (Id: IdOf(member.Key, member.Value), member.Value)).OrderBy(entry => entry.Id))
            Add(TokenOf(value, value["special"].Flag(otherwise: false)) with { Id = id }, value.Where, value.File);
        var named = Roles.Select(role => Said(role)).Concat(Others).OfType<AddedToken>().ToList();
        foreach (var (text, value) in _added.MembersIfAny.OrderBy(member => member.Value.Whole))
            Add(named.Find(token => token.Text == text) is { } role ? role with { Id = value.Whole }
                : new(text, value.Whole, Special: false, Normalized: true), value.Where, value.File);
        foreach (var token in named.Concat(Roles.Where(role => usual?.ContainsKey(role) == true && Said(role) is null)
            .Select(role => usual![role]).Where(token => ids.ContainsKey(token.Text))))
            Add(token with { Id = Unstated }, token.Text);
        return added;

        void Add(AddedToken token, string where, string? file = null)
        {
            if (token.Text.Length == 0)
                throw Fault.File(file ?? _directory, where, "is the empty text, which would match everywhere; remove it");
            if (added.Find(other => other.Text == token.Text) is { } same)
            {
                if (token.Id != Unstated && token.Id != same.Id)
                    throw Fault.File(file ?? _directory, where,
                        $"gives '{token.Text}' the id {token.Id}, another file {same.Id}; the files belong to different tokenizers");
                return;
            }
            var id = ids.TryGetValue(token.Text, out var own) ? own
                : Math.Max(ids.Count, added.Count == 0 ? 0 : added.Max(other => other.Id) + 1);
            if (token.Id != Unstated && token.Id != id)
                throw Fault.File(file ?? _directory, where,
                    $"gives '{token.Text}' the id {token.Id}; its place in the vocabulary gives it {id}");
            added.Add(token with { Id = id });
        }
    }

    /// <summary>Special tokens without a role.</summary>
    public IEnumerable<AddedToken> Others => new[] { "additional_special_tokens", "extra_special_tokens" }
        .Select(key => _config[key] is { IsNull: false } own ? own : _map[key]).Where(tokens => !tokens.IsNull)
        .SelectMany(tokens => tokens.IsObject ? tokens.Members.Select(member => member.Value) : tokens.Items)
        .Select(token => TokenOf(token, isSpecial: true));

    private const int Unstated = -1;

    private AddedToken? Said(string role) => (_config[role] is { IsNull: false } own ? own : _map[role]) is { IsNull: false } said
        ? TokenOf(said, isSpecial: true) : null;

    /// <summary>A text, or an object with its settings. A special token is by itself not looked for in the normalised text.</summary>
    private static AddedToken TokenOf(JsonValue value, bool isSpecial) => value.IsText
        ? new(value.Text, Unstated, isSpecial, Normalized: !isSpecial)
        : new(value["content"].Text, Unstated, isSpecial, value["lstrip"].Flag(otherwise: false), value["rstrip"].Flag(otherwise: false),
            value["normalized"].Flag(otherwise: !isSpecial), value["single_word"].Flag(otherwise: false));

    private static int IdOf(string key, JsonValue value) =>
        int.TryParse(key, CultureInfo.InvariantCulture, out var id) ? id : throw value.Error($"'{key}' is not a token's id");

    private JsonValue Read(string name)
    {
        var file = Path.Combine(_directory, name);
        return File.Exists(file) ? JsonValue.Read(file) : new(file, "$", default);
    }
}
