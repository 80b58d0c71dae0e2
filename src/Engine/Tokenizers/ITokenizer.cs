namespace MendCluster.Engine.Tokenizers;

/// <summary>Text to token ids and back. Safe to use from several threads.</summary>
public interface ITokenizer
{
    /// <summary>Ids from 0 to this.</summary>
    int VocabularySize { get; }

    /// <param name="addSpecialTokens">Whether what the model expects around a text is added: T5's end of sequence, BERT's [CLS] and [SEP].</param>
    IReadOnlyList<int> Encode(string text, bool addSpecialTokens = true);

    /// <param name="skipSpecialTokens">Whether padding, end of sequence and the like are left out.</param>
    string Decode(IEnumerable<int> ids, bool skipSpecialTokens = true);

    int? IdOf(string token);

    string? TokenOf(int id);
}

/// <summary>A tokenizer's file is missing, broken, or of a kind that is not supported.</summary>
/// <param name="file">Path.</param>
/// <param name="where">Line, key or offset.</param>
/// <param name="problem">What was found, what was expected, what to do.</param>
public sealed class TokenizerException(string file, string where, string problem, Exception? inner = null)
    : Exception($"{file}: {where}: {problem}", inner);
