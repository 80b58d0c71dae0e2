using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using static TorchSharp.torch;

namespace MendCluster.Testing;

/// <summary>A random model of a few thousand weights, and a tokenizer of one token a letter.</summary>
public static class TinyModel
{
    private const string Gpt2 = """
        {"model_type": "gpt2", "vocab_size": 130, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 2, "eos_token_id": 128, "pad_token_id": 129}
        """;

    private const string GptNeo = """
        {"model_type": "gpt_neo", "vocab_size": 130, "max_position_embeddings": 64, "hidden_size": 32, "num_layers": 3, "num_heads": 2, "window_size": 4,
         "attention_types": [[["global", "local"], 1], [["local"], 1]], "eos_token_id": 128, "pad_token_id": 129}
        """;

    private const string GptJ = """
        {"model_type": "gptj", "vocab_size": 130, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 2, "rotary_dim": 8, "eos_token_id": 128, "pad_token_id": 129}
        """;

    private const string T5 = """
        {"model_type": "t5", "vocab_size": 130, "d_model": 32, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_decoder_layers": 3, "num_heads": 2,
         "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
        """;

    private const string Bart = """
        {"model_type": "bart", "vocab_size": 130, "d_model": 32, "max_position_embeddings": 64, "encoder_layers": 3, "decoder_layers": 3, "encoder_ffn_dim": 48,
         "decoder_ffn_dim": 96, "encoder_attention_heads": 2, "decoder_attention_heads": 4, "bos_token_id": 128, "pad_token_id": 129, "eos_token_id": 127,
         "decoder_start_token_id": 127}
        """;

    private const string Bert = """
        {"model_type": "bert", "vocab_size": 130, "hidden_size": 32, "max_position_embeddings": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
         "intermediate_size": 24, "pad_token_id": 129}
        """;

    public static readonly IReadOnlyList<string> Families = ["gpt2", "gpt_neo", "gptj", "t5", "bart"];

    /// <summary>Large weights, so that answers differ from question to question and edits move them.</summary>
    public static Stage Load(string family)
    {
        return Stage.LoadWhole(Family(family), new RandomWeights(7, ScalarType.Float32, (_, _) => 0.3));
    }

    public static ModelFamily Family(string family, int positions = 64) => ModelFamily.FromConfig(
        ConfigFile.Parse(family, Config(family).Replace(": 64", $": {positions}", StringComparison.Ordinal)));

    public static string Config(string family) => family switch
    {
        "gpt_neo" => GptNeo,
        "gptj" => GptJ,
        "t5" => T5,
        "bart" => Bart,
        "bert" => Bert,
        _ => Gpt2,
    };

    public static TextBatch Text(Stage stage) => new(stage.Family, new Letters(stage.Family.IsEncoderDecoder ? [stage.Family.EosIds[0]] : []));

    public static ITokenizer Letter(params int[] end) => new Letters(end);

    private sealed class Letters(int[] end) : ITokenizer
    {
        public int VocabularySize => 128;

        public IReadOnlyList<int> Encode(string text, bool addSpecialTokens = true) => [.. text.Select(letter => (int)letter), .. end];

        public string Decode(IEnumerable<int> ids, bool skipSpecialTokens = true) => string.Concat(ids.Select(id => (char)id));

        public int? IdOf(string token) => token.Length == 1 ? token[0] : null;

        public string? TokenOf(int id) => ((char)id).ToString();
    }
}
