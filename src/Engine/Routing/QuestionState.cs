using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Routing;

/// <summary>
/// What a model makes of a question before the first token of its answer, as <see cref="EditRouter"/> compares it: the mean over the
/// question's tokens of the highest layer that reads them, and what the head is given for that token. The one holds more of the words, the
/// other of the answer: facts with one answer are told apart by the first, and wordings that no fact was seen in by the second.
/// </summary>
public static class QuestionState
{
    /// <param name="tokens">Of an encoder-decoder model the encoder's output, else what the head is given up to there. [T, C].</param>
    /// <param name="last">[C].</param>
    /// <returns>[2 C] float32, on the host.</returns>
    public static Tensor Of(Tensor tokens, Tensor last) =>
        cat([tokens.mean([0]), last], 0).to_type(ScalarType.Float32).Host();
}
