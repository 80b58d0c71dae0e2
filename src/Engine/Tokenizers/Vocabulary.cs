using MendCluster.Contracts;
namespace MendCluster.Engine.Tokenizers;

/// <summary>Tokens by id and ids by token; no token and no id twice.</summary>
internal sealed class Vocabulary
{
    private readonly Dictionary<string, int> _ids;
    private readonly string?[] _tokens;
    private readonly HashSet<int> _addedOnly;

    /// <param name="file">Named in errors.</param>
    /// <param name="ids">Of the model.</param>
    /// <param name="added">Tokens on top; those that the model has too must have the same id there.</param>
    public Vocabulary(string file, IReadOnlyDictionary<string, int> ids, IEnumerable<AddedToken> added)
    {
        _ids = new(ids, StringComparer.Ordinal);
        var all = ids.Select(entry => (Token: entry.Key, Id: entry.Value)).ToList();
        var onTop = added.Where(token => !ids.ContainsKey(token.Text)).Select(token => (Token: token.Text, token.Id)).ToList();
        _addedOnly = [.. onTop.Select(token => token.Id)];
        all.AddRange(onTop);

        // Ids may have gaps, but one wild id must not make a table of gigabytes.
        var most = 4L * all.Count + 1024;
        foreach (var (token, id) in all)
        {
            if (id < 0 || id > most)
                throw Fault.File(file, $"token '{token}'",
                    $"has id {id}; {all.Count} tokens should have ids from 0 to about {all.Count - 1}");
            _ids[token] = id;
        }
        _tokens = new string?[all.Count == 0 ? 0 : all.Max(entry => entry.Id) + 1];
        foreach (var (token, id) in all)
            if (_tokens[id] is { } other)
                throw Fault.File(file, $"id {id}", $"stands for '{other}' and '{token}'; an id has one token");
            else
                _tokens[id] = token;
    }

    public int Size => _tokens.Length;

    public int? IdOf(string token) => _ids.TryGetValue(token, out var id) ? id : null;

    /// <summary>The id of a token of the model, not of one on top of it.</summary>
    public int? IdInModel(string token) => IdOf(token) is { } id && !_addedOnly.Contains(id) ? id : null;

    public string? TokenOf(int id) => id >= 0 && id < _tokens.Length ? _tokens[id] : null;

    /// <param name="role">What the token is needed for, named in the error.</param>
    /// <exception cref="MendException">There is no such token.</exception>
    public int Require(string file, string role, string token) => IdOf(token)
        ?? throw Fault.File(file, role,
            $"'{token}' is not in the vocabulary of {_ids.Count} tokens; the files belong to different tokenizers or were cut");
}
