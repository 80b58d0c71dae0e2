using MendCluster.Contracts;
using MendCluster.Distributed.Editing;

namespace MendCluster.Distributed;

/// <summary>
/// Tells an answer piece by piece while its tokens are chosen. A token is not always a whole character, and spaces at the end may turn out
/// to be none of the answer: those wait for the next token. All pieces together are the answer.
/// </summary>
/// <param name="restarts">The answer was begun before, and its pieces do not count.</param>
internal sealed class AnswerParts(ModelText text, ModelVersion version, Action<AnswerPart> told, bool restarts)
{
    private const char Broken = '\ufffd'; // what a decoder makes of half a character

    private string _told = "";
    private bool _restarts = restarts;

    /// <param name="tokens">Of the answer so far.</param>
    /// <param name="isDone">There will be no more.</param>
    public void Tell(IReadOnlyList<int> tokens, bool isDone)
    {
        var whole = tokens.Count == 0 ? "" : text.Decode(tokens);
        var sure = isDone ? whole : whole.TrimEnd(Broken).TrimEnd();
        if (!sure.StartsWith(_told, StringComparison.Ordinal))
            (_told, _restarts, sure) = isDone ? ("", true, whole) : (_told, _restarts, _told); // a tokenizer may join what was apart
        told(new(sure[_told.Length..], version, tokens.Count, _restarts));
        (_told, _restarts) = (sure, false);
    }
}
