namespace MendCluster.Engine.Tokenizers;

public interface ITokenizer
{
    IReadOnlyList<int> Encode(string text, bool addSpecialTokens = true);

    string Decode(IEnumerable<int> ids, bool skipSpecialTokens = true);
}
