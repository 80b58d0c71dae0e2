namespace MendCluster.Engine.Tokenizers;

/// <summary>Text to token ids and back. Safe to use from several threads.</summary>
public interface ITokenizer
{
    /// <summary>One more than the highest id. A model's embedding may have more rows (T5 pads its own to a multiple of 128).</summary>
    int VocabularySize { get; }

    /// <param name="addSpecialTokens">
    /// Whether what the model expects around a text is added: T5's end of sequence, BERT's [CLS] and [SEP].
    /// </param>
    IReadOnlyList<int> Encode(string text, bool addSpecialTokens = true);

    /// <summary>Ids that have no token (spare rows of an embedding) stand for no text.</summary>
    /// <param name="skipSpecialTokens">Whether padding, end of sequence and the like are left out.</param>
    /// <exception cref="ArgumentOutOfRangeException">A negative id.</exception>
    string Decode(IEnumerable<int> ids, bool skipSpecialTokens = true);

    int? IdOf(string token);

    string? TokenOf(int id);
}
