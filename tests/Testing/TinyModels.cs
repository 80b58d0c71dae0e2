using System.Text.Json;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Testing;

/// <summary>Model directories of a few thousand random weights, with a tokenizer and an editor that moves answers.</summary>
public static class TinyModels
{
    /// <summary>Hidden size.</summary>
    public const int Width = 24;

    public static readonly IReadOnlyList<string> Families = ["gpt2", "gpt_neo", "gptj", "t5", "bart"];

    /// <summary>A classifier, of a family of its own.</summary>
    public const string Classifier = "bert";

    private static readonly string[] Text =
        ["who is the mayor of the old town", "the mayor is a woman from the south", "what is red", "blue"];

    /// <summary>Writes config, weights, tokenizer and <c>editor.safetensors</c>.</summary>
    public static void Write(string directory, string family, ulong seed = 7, int width = Width)
    {
        WriteTokenizer(directory, family);
        var vocabulary = TokenizerFiles.Load(directory).VocabularySize;
        File.WriteAllText(Path.Combine(directory, "config.json"), Config(family, vocabulary, width));
        using var stage = Stage.LoadWhole(ModelFamily.FromDirectory(directory),
            new RandomWeights((long)seed, ScalarType.Float32, (_, _) => 0.3));
        SafetensorsWriter.Write(Path.Combine(directory, "model.safetensors"),
            stage.Weights.Loaded.Select(weight => TensorBytes.ToWrite(weight.Key, weight.Value.AsStored())));
        WriteEditor(Path.Combine(directory, "editor.safetensors"), stage, new TextBatch(stage.Family, TokenizerFiles.Load(directory)));
    }

    private static void WriteTokenizer(string directory, string family)
    {
        if (family == "bert")
        {
            File.WriteAllLines(Path.Combine(directory, "vocab.txt"), ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
                .. Text.SelectMany(line => line.Split(' ')).Distinct().Order(StringComparer.Ordinal)]);
            return;
        }
        const string start = "<s>", pad = "<pad>", end = "</s>";
        if (family == "bart")
        {
            var trained = BytePairTrainer.Train(Text, 280, [start, pad, end]);
            File.WriteAllText(Path.Combine(directory, "vocab.json"),
                JsonSerializer.Serialize(trained.Tokens.Index().ToDictionary(token => token.Item, token => token.Index)));
            File.WriteAllLines(Path.Combine(directory, "merges.txt"),
                ["#version: 0.2", .. trained.Merges.Select(merge => $"{merge.Left} {merge.Right}")]);
            return;
        }
        BytePairTrainer.Train(Text, 280, [pad, end]).Save(directory, family == "t5" ? end : null);
    }

    private static string Config(string family, int vocabulary, int width) => family switch
    {
        "gpt2" => $$"""
            {"model_type": "gpt2", "vocab_size": {{vocabulary}}, "n_positions": 64, "n_embd": {{width}}, "n_layer": 4, "n_head": 2, "eos_token_id": 1, "pad_token_id": 0}
            """,
        "gpt_neo" => $$"""
            {"model_type": "gpt_neo", "vocab_size": {{vocabulary}}, "max_position_embeddings": 64, "hidden_size": {{width}}, "num_layers": 4, "num_heads": 2,
             "attention_types": [[["global", "local"], 2]], "window_size": 5, "eos_token_id": 1, "pad_token_id": 0}
            """,
        "gptj" => $$"""
            {"model_type": "gptj", "vocab_size": {{vocabulary}}, "n_positions": 64, "n_embd": {{width}}, "n_layer": 4, "n_head": 2, "rotary_dim": 4, "eos_token_id": 1, "pad_token_id": 0}
            """,
        "t5" => $$"""
            {"model_type": "t5", "vocab_size": {{vocabulary}}, "d_model": {{width}}, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 2,
             "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
            """,
        "bart" => $$"""
            {"model_type": "bart", "vocab_size": {{vocabulary}}, "d_model": {{width}}, "max_position_embeddings": 64, "encoder_layers": 3, "decoder_layers": 2,
             "encoder_ffn_dim": 32, "decoder_ffn_dim": 40, "encoder_attention_heads": 2, "decoder_attention_heads": 3, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
            """,
        "bert" => $$"""
            {"model_type": "bert", "vocab_size": {{vocabulary}}, "hidden_size": {{width}}, "max_position_embeddings": 64, "num_hidden_layers": 4, "num_attention_heads": 2,
             "intermediate_size": 32, "id2label": {"0": "REFUTES", "1": "SUPPORTS"}, "pad_token_id": 0}
            """,
        _ => throw new ArgumentOutOfRangeException(nameof(family), family, "has no tiny model"),
    };

    private static void WriteEditor(string path, Stage stage, TextBatch text)
    {
        using var mend = new Mend(new() { Rank = 6, EditLr = 0.5 }, EditorTraining.EditableWeights(stage), 1);
        using var optimiser = new EditorOptimiser(mend, 0.03, 0.01, 1, 100);
        for (var i = 0; i < 4; i++)
        {
            using var scope = NewDisposeScope();
            var answer = stage.Family.Labels?[i % 2] ?? Text[i % 2 + 2];
            var batch = new EditBatch(text.Of([(Text[0], answer)]), text.Of([(Text[1], answer)]),
                text.Of([(Text[2], stage.Family.Labels?[0] ?? Text[3])]));
            optimiser.Take(TrainingStep.Run(stage, mend, batch, new(), optimiser.Parameters).Gradients);
        }
        EditorCheckpoint.SaveEditor(path, mend);
    }
}
