using MendCluster.Contracts;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;

namespace MendCluster.Bench;

/// <summary>
/// The models of the GPU kit and of the comparison with PyTorch: published shapes with random weights, an editor of rank 1920, a token for
/// each byte.
/// </summary>
internal static class GeneratedModels
{
    public const string Gpt2Small = "gpt2-small", T5Small = "t5-small", Gpt2Xl = "gpt2-xl", GptJ = "gpt-j-6b", T5Xxl = "t5-xxl-11b";

    /// <param name="small">The same families in thousandths of the size: whether the kit runs, not how fast.</param>
    public static void Make(string name, string directory, DType dtype, bool small = false)
    {
        LargeCheckpoint.Make(directory, dtype, Config(name, small), small ? 32 : 1920);
        BytePairTrainer.Train(["a"], 258, ["<pad>", "</s>"]).Save(directory, name is T5Small or T5Xxl ? "</s>" : null);
    }

    public static ModelFamily Family(string name) => ModelFamily.FromConfig(ConfigFile.Parse(name, Config(name, small: false)));

    private static string Config(string name, bool small) => name switch
    {
        Gpt2Small => """
            {"model_type": "gpt2", "vocab_size": 50258, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "eos_token_id": 1,
             "pad_token_id": 0}
            """,
        T5Small => """
            {"model_type": "t5", "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8,
             "num_heads": 6, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false, "decoder_start_token_id": 0, "eos_token_id": 1,
             "pad_token_id": 0}
            """,
        Gpt2Xl => $$"""
            {"model_type": "gpt2", "vocab_size": {{(small ? 300 : 50258)}}, "n_positions": 1024, "n_embd": {{(small ? 64 : 1600)}}, "n_layer": {{(small ? 6 : 48)}},
             "n_head": {{(small ? 4 : 25)}}, "eos_token_id": 1, "pad_token_id": 0}
            """,
        GptJ => $$"""
            {"model_type": "gptj", "vocab_size": {{(small ? 300 : 50400)}}, "n_positions": 2048, "n_embd": {{(small ? 64 : 4096)}}, "n_layer": {{(small ? 5 : 28)}},
             "n_head": {{(small ? 4 : 16)}}, "rotary_dim": {{(small ? 8 : 64)}}, "activation_function": "gelu_new", "tie_word_embeddings": false,
             "eos_token_id": 1, "pad_token_id": 0}
            """,
        T5Xxl => $$"""
            {"model_type": "t5", "vocab_size": {{(small ? 300 : 32128)}}, "d_model": {{(small ? 64 : 4096)}}, "d_kv": {{(small ? 16 : 64)}}, "d_ff": {{(small ? 160 : 10240)}},
             "num_layers": {{(small ? 4 : 24)}}, "num_decoder_layers": {{(small ? 4 : 24)}}, "num_heads": {{(small ? 4 : 64)}}, "feed_forward_proj": "gated-gelu",
             "tie_word_embeddings": false, "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
            """,
        _ => throw new ArgumentException($"no model '{name}'; there are {Gpt2Small}, {T5Small}, {Gpt2Xl}, {GptJ} and {T5Xxl}"),
    };
}
