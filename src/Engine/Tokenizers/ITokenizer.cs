namespace MendCluster.Engine.Tokenizers;

/// <summary>Text to token ids and back. Safe to use from several threads.</summary>
public interface ITokenizer
{
    /// <summary>One more than the highest id. A model's embedding may have more rows (T5 pads its own to a multiple of 128).</summary>
    int VocabularySize { get; }

    /// <param name="addSpecialTokens">Whether what the model expects around a text is added: T5's end of sequence, BERT's [CLS] and [SEP].</param>
    IReadOnlyList<int> Encode(string text, bool addSpecialTokens = true);

    /// <summary>Encodes and cuts the text's own tokens at the end, so that with the special ones around them there are at most so many ids.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Not even the special tokens fit.</exception>
    IReadOnlyList<int> EncodeAtMost(string text, int length);

    /// <summary>Ids that have no token (spare rows of an embedding) stand for no text.</summary>
    /// <param name="skipSpecialTokens">Whether padding, end of sequence and the like are left out.</param>
    /// <exception cref="ArgumentOutOfRangeException">A negative id.</exception>
    string Decode(IEnumerable<int> ids, bool skipSpecialTokens = true);

    int? IdOf(string token);

    string? TokenOf(int id);
}
