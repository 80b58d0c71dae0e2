using System.Globalization;
using System.Text.Json.Nodes;
using MendCluster.Contracts;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Models;

/// <summary>
/// Every key of transformers' configuration classes, versions 4 and 5: it changes the model, or is refused by its name, or changes nothing
/// there either. docs/models.md lists them.
/// </summary>
public class ConfigKeysTests
{
    private const string All = "gpt2 gpt_neo gptj t5 bart bert", Gpts = "gpt2 gpt_neo gptj", Others = "t5 bart bert",
        Generating = "gpt2 gpt_neo gptj t5 bart";

    private static readonly (string Families, string Key, string[] Values, Outcome Outcome)[] Rows =
    [
        (All, "vocab_size", ["140"], Outcome.Honoured),
        (Generating, "eos_token_id", ["7", "[7, 8]"], Outcome.Honoured),
        (Generating, "eos_token_id", ["[]", "-1", "\"7\""], Outcome.Refused),
        (All, "quantization_config", ["""{"quant_method": "gptq"}"""], Outcome.Refused),
        (All, "pruned_heads", ["""{"1": [0]}"""], Outcome.Refused),
        (All, "pruned_heads", ["{}"], Outcome.NoEffect),
        (All, "per_layer_config", ["""{"0": {"n_head": 1}}"""], Outcome.Refused),
        (All, "transformers_weights", ["\"other.safetensors\""], Outcome.Refused), // what transformers 5 reads instead of model.safetensors
        (All, "tie_encoder_decoder", ["true"], Outcome.Refused),
        (All, "add_cross_attention", ["true"], Outcome.Refused),
        (Gpts + " bert", "is_encoder_decoder", ["true"], Outcome.Refused),
        ("t5 bart", "is_encoder_decoder", ["false"], Outcome.Refused),
        (Others, "is_decoder", ["true"], Outcome.Refused),
        (Gpts, "is_decoder", ["true"], Outcome.NoEffect),
        ("gpt2 gpt_neo bart", "tie_word_embeddings", ["false"], Outcome.Refused),
        ("gptj", "tie_word_embeddings", ["true"], Outcome.Refused),
        (All, "pad_token_id", ["5", "-1", "1000"], Outcome.NoEffect),
        (All, "pad_token_id", ["\"5\""], Outcome.Refused),

        ("gpt2 gptj", "n_positions", ["70"], Outcome.Honoured),
        ("gpt2 gptj", "n_embd", ["48"], Outcome.Honoured),
        ("gpt2 gptj", "n_layer", ["2"], Outcome.Honoured),
        ("gpt2 gptj", "n_head", ["4"], Outcome.Honoured),
        ("gpt2 gptj", "n_head", ["3"], Outcome.Refused),
        ("gpt2 gptj", "n_inner", ["20"], Outcome.Honoured),
        ("gpt2 gptj", "n_ctx", ["70"], Outcome.NoEffect),
        ("gpt2 gptj", "hidden_size", ["48"], Outcome.Refused),
        ("gpt2 gptj", "hidden_size", ["32"], Outcome.NoEffect),
        ("gpt2 gptj", "max_position_embeddings", ["70"], Outcome.Refused),
        ("gpt2 gptj", "num_attention_heads", ["4"], Outcome.Refused),
        ("gpt2 gptj", "num_hidden_layers", ["4"], Outcome.Refused),
        (Gpts, "activation_function", ["\"relu\"", "\"gelu\""], Outcome.Honoured),
        (Gpts + " bart", "activation_function", ["\"quick_gelu\""], Outcome.Refused),
        (Gpts, "layer_norm_epsilon", ["0.5"], Outcome.Honoured),
        ("gpt2 gptj", "scale_attn_weights", ["false"], Outcome.Refused),
        ("gpt2", "scale_attn_by_inverse_layer_idx", ["true"], Outcome.Refused),
        ("gpt2", "reorder_and_upcast_attn", ["true"], Outcome.NoEffect),
        ("gpt2 gptj", "resid_pdrop", ["0.9"], Outcome.NoEffect),
        ("gpt2 gptj", "embd_pdrop", ["0.9"], Outcome.NoEffect),
        ("gpt2 gptj", "attn_pdrop", ["0.9"], Outcome.NoEffect),
        (Gpts, "summary_type", ["\"mean\""], Outcome.NoEffect),
        (Gpts, "summary_use_proj", ["false"], Outcome.NoEffect),
        (Gpts, "summary_activation", ["\"tanh\""], Outcome.NoEffect),
        (Gpts, "summary_proj_to_labels", ["false"], Outcome.NoEffect),
        (Gpts, "summary_first_dropout", ["0.9"], Outcome.NoEffect),

        ("gptj", "rotary_dim", ["12"], Outcome.Honoured),
        ("gptj", "rotary_dim", ["7", "18"], Outcome.Refused),
        ("gptj", "rotary", ["false"], Outcome.Refused),
        ("gptj", "rope_theta", ["500000.0"], Outcome.Refused),
        ("gptj", "rope_theta", ["10000"], Outcome.NoEffect),
        ("gptj", "rope_parameters", ["""{"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}"""],
            Outcome.NoEffect),
        ("gptj", "rope_parameters.rope_theta", ["500000.0"], Outcome.Refused),
        ("gptj", "rope_parameters.rope_type", ["\"linear\""], Outcome.Refused),
        ("gptj", "rope_parameters.partial_rotary_factor", ["0.25"], Outcome.Refused),
        ("gptj", "rope_parameters.factor", ["2.0"], Outcome.Refused),
        ("gptj", "rope_scaling.type", ["\"dynamic\""], Outcome.Refused),

        ("gpt_neo", "max_position_embeddings", ["70"], Outcome.Honoured),
        ("gpt_neo", "hidden_size", ["48"], Outcome.Honoured),
        ("gpt_neo", "num_heads", ["4"], Outcome.Honoured),
        ("gpt_neo", "num_heads", ["3"], Outcome.Refused),
        ("gpt_neo", "num_attention_heads", ["4"], Outcome.Refused),
        ("gpt_neo", "num_hidden_layers", ["4"], Outcome.Refused),
        ("gpt_neo", "num_layers", ["0"], Outcome.Refused),
        ("gpt_neo", "intermediate_size", ["20"], Outcome.Honoured),
        ("gpt_neo", "window_size", ["3"], Outcome.Honoured),
        ("gpt_neo", "attention_types", ["""[[["local", "global"], 1], [["local"], 1]]"""], Outcome.Honoured),
        ("gpt_neo", "attention_layers", ["""["global", "local", "local"]"""], Outcome.NoEffect), // what attention_types makes
        ("gpt_neo", "attention_layers", ["""["global", "local", "global"]""", """["global"]""", """["global", "local", "sparse"]"""],
            Outcome.Refused),
        ("gpt_neo", "resid_dropout", ["0.9"], Outcome.NoEffect),
        ("gpt_neo", "embed_dropout", ["0.9"], Outcome.NoEffect),
        ("gpt_neo bart", "attention_dropout", ["0.9"], Outcome.NoEffect),

        ("t5 bart", "d_model", ["48"], Outcome.Honoured),
        ("t5 bart", "hidden_size", ["48"], Outcome.Refused),
        ("t5", "d_kv", ["12"], Outcome.Honoured),
        ("t5", "head_dim", ["12"], Outcome.Refused),
        ("t5", "d_ff", ["20"], Outcome.Honoured),
        ("t5", "num_layers", ["2"], Outcome.Honoured),
        ("t5", "num_hidden_layers", ["2"], Outcome.Refused),
        ("t5", "num_decoder_layers", ["2"], Outcome.Honoured),
        ("t5", "num_heads", ["4"], Outcome.Honoured),
        ("t5", "num_attention_heads", ["4"], Outcome.Refused),
        ("t5", "relative_attention_num_buckets", ["16"], Outcome.Honoured),
        ("t5", "relative_attention_max_distance", ["10"], Outcome.Honoured),
        ("t5", "layer_norm_epsilon", ["0.5"], Outcome.Honoured),
        ("t5", "feed_forward_proj", ["\"relu\"", "\"gated-relu\""], Outcome.Honoured),
        ("t5", "feed_forward_proj", ["\"gated-silu\"", "\"swiglu\""], Outcome.Refused),
        ("t5", "is_gated_act", ["false"], Outcome.Refused),
        ("t5", "is_gated_act", ["true"], Outcome.NoEffect),
        ("t5", "dense_act_fn", ["\"relu\""], Outcome.Refused),
        ("t5", "dense_act_fn", ["\"gelu_new\""], Outcome.NoEffect),
        ("t5", "tie_word_embeddings", ["true"], Outcome.Honoured),
        ("t5", "scale_decoder_outputs", ["true"], Outcome.Honoured),
        ("t5", "scale_decoder_outputs", ["false"], Outcome.NoEffect), // as it is in a model that is not tied
        ("t5 bart", "decoder_start_token_id", ["5"], Outcome.Honoured),
        ("t5 bart", "decoder_start_token_id", ["130"], Outcome.Refused),
        ("t5", "forced_bos_token_id", ["5"], Outcome.Refused),
        ("t5", "dropout_rate", ["0.9"], Outcome.NoEffect),
        ("t5 bart bert", "classifier_dropout", ["0.9"], Outcome.NoEffect),
        ("t5", "initializer_factor", ["0.5"], Outcome.NoEffect),
        ("t5", "n_positions", ["70"], Outcome.NoEffect),
        ("t5", "output_past", ["true"], Outcome.NoEffect),

        ("bart", "max_position_embeddings", ["70"], Outcome.Honoured),
        ("bart", "encoder_layers", ["2"], Outcome.Honoured),
        ("bart", "num_hidden_layers", ["2"], Outcome.Refused),
        ("bart", "decoder_layers", ["2"], Outcome.Honoured),
        ("bart", "encoder_ffn_dim", ["20"], Outcome.Honoured),
        ("bart", "decoder_ffn_dim", ["20"], Outcome.Honoured),
        ("bart", "encoder_attention_heads", ["4"], Outcome.Honoured),
        ("bart", "num_attention_heads", ["4"], Outcome.Refused),
        ("bart", "decoder_attention_heads", ["2"], Outcome.Honoured),
        ("bart", "activation_function", ["\"relu\""], Outcome.Honoured),
        ("bart", "scale_embedding", ["true"], Outcome.Honoured),
        ("bart", "forced_bos_token_id", ["5"], Outcome.Honoured),
        ("bart", "forced_bos_token_id", ["130"], Outcome.Refused),
        ("bart", "force_bos_token_to_be_generated", ["true"], Outcome.Honoured),
        ("bart", "normalize_before", ["true"], Outcome.Refused),
        ("bart", "normalize_embedding", ["false"], Outcome.Refused),
        ("bart", "add_final_layer_norm", ["true"], Outcome.Refused),
        ("bart", "static_position_embeddings", ["true"], Outcome.Refused),
        ("bart", "do_blenderbot_90_layernorm", ["true"], Outcome.Refused),
        ("bart", "add_bias_logits", ["true"], Outcome.Refused),
        ("bart", "extra_pos_embeddings", ["3"], Outcome.Refused),
        ("bart", "init_std", ["0.5"], Outcome.NoEffect),
        ("bart", "dropout", ["0.9"], Outcome.NoEffect),
        ("bart", "activation_dropout", ["0.9"], Outcome.NoEffect),
        ("bart", "encoder_layerdrop", ["0.9"], Outcome.NoEffect),
        ("bart", "decoder_layerdrop", ["0.9"], Outcome.NoEffect),

        ("bert", "hidden_size", ["48"], Outcome.Honoured),
        ("bert", "num_hidden_layers", ["2"], Outcome.Honoured),
        ("bert", "num_attention_heads", ["4"], Outcome.Honoured),
        ("bert", "intermediate_size", ["20"], Outcome.Honoured),
        ("bert", "hidden_act", ["\"relu\""], Outcome.Honoured),
        ("bert", "hidden_act", ["\"silu\""], Outcome.Refused),
        ("bert", "max_position_embeddings", ["70"], Outcome.Honoured),
        ("bert", "type_vocab_size", ["3"], Outcome.Honoured),
        ("bert", "layer_norm_eps", ["0.1"], Outcome.Honoured),
        ("bert", "architectures", ["""["BertForSequenceClassification"]"""], Outcome.Honoured),
        ("bert", "id2label", ["""{"0": "no", "1": "yes"}"""], Outcome.Honoured),
        ("bert", "id2label", ["""{"0": "a", "1": "b", "2": "c"}"""], Outcome.Refused),
        ("bert", "position_embedding_type", ["\"relative_key\""], Outcome.Refused),
        ("bert", "problem_type", ["\"regression\"", "\"multi_label_classification\""], Outcome.Refused),
        ("bert", "hidden_dropout_prob", ["0.9"], Outcome.NoEffect),
        ("bert", "attention_probs_dropout_prob", ["0.9"], Outcome.NoEffect),
        ("bert", "pooler_fc_size", ["7"], Outcome.NoEffect),

        .. NoEffect(Generating, "architectures=[\"X\"] id2label={\"0\":\"a\"} num_labels=3 problem_type=\"regression\""),
        .. NoEffect(All, "transformers_version=\"5.17.0\" torch_dtype=\"float16\" dtype=\"bfloat16\" _name_or_path=\"x\" name_or_path=\"x\" return_dict=false "
            + "output_hidden_states=true output_attentions=true torchscript=true use_bfloat16=true use_cache=false gradient_checkpointing=true "
            + "chunk_size_feed_forward=2 initializer_range=0.5 label2id={\"a\":0} finetuning_task=\"x\" task_specific_params={\"x\":{\"prefix\":\"y\"}} "
            + "tokenizer_class=\"X\" prefix=\"x\" bos_token_id=3 sep_token_id=3 attn_implementation=\"sdpa\" auto_map={\"AutoModel\":\"x.Y\"} "
            + "tf_legacy_loss=true cross_attention_hidden_size=7"),
        .. NoEffect(Generating, "max_length=7 min_length=3 do_sample=true early_stopping=true num_beams=4 num_beam_groups=2 diversity_penalty=0.5 "
            + "temperature=0.5 top_k=3 top_p=0.5 typical_p=0.5 repetition_penalty=2.0 length_penalty=2.0 no_repeat_ngram_size=3 "
            + "encoder_no_repeat_ngram_size=3 bad_words_ids=[[5]] num_return_sequences=2 output_scores=true return_dict_in_generate=true "
            + "forced_eos_token_id=5 remove_invalid_values=true exponential_decay_length_penalty=[1,1.5] suppress_tokens=[5] begin_suppress_tokens=[5]"),
    ];

    public enum Outcome
    {
        Honoured,
        Refused,
        NoEffect,
    }

    public static TheoryData<string, string, string, Outcome> Cases()
    {
        var cases = new TheoryData<string, string, string, Outcome>();
        foreach (var (families, key, values, outcome) in Rows)
            foreach (var family in families.Split(' '))
                foreach (var value in values)
                    cases.Add(family, key, value, outcome);
        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void AKeyOfTheConfiguration_IsHonouredOrRefusedByItsName_OrChangesNothing(string family, string key, string value,
        Outcome outcome)
    {
        var config = With(family, key, value);
        if (outcome == Outcome.Refused)
            Assert.Equal(key, Refusal.Of(MendError.ModelUnusable, () => Model(config)).What.Split(": ")[1]);
        else if (outcome == Outcome.Honoured)
            Assert.NotEqual(Model(TinyModel.Config(family)), Model(config));
        else
            Assert.Equal(Model(TinyModel.Config(family)), Model(config));
    }

    [Fact]
    public void EveryKey_IsInTheDocumentation()
    {
        var text = File.ReadAllText(Path.Combine(FixtureFolder.Repository, "docs", "models.md"));
        Assert.All(Rows, row => Assert.Contains($"`{row.Key}`", text, StringComparison.Ordinal));
    }

    /// <summary>A key may stand under transformers' general name alone.</summary>
    [Theory]
    [InlineData("gpt2", "n_embd", "hidden_size")]
    [InlineData("gptj", "n_layer", "num_hidden_layers")]
    [InlineData("gpt_neo", "num_heads", "num_attention_heads")]
    [InlineData("t5", "d_kv", "head_dim")]
    [InlineData("bart", "encoder_layers", "num_hidden_layers")]
    public void AnotherNameOfAKey_IsReadAsTheKey(string family, string key, string alias)
    {
        var config = JsonNode.Parse(TinyModel.Config(family))!.AsObject();
        config[alias] = config[key]!.DeepClone();
        config.Remove(key);
        Assert.Equal(Model(TinyModel.Config(family)), Model(config.ToJsonString()));
    }

    [Fact]
    public void AttentionLayersAlone_AreEnough()
    {
        var config = JsonNode.Parse(TinyModel.Config("gpt_neo"))!.AsObject();
        config.Remove("attention_types");
        config["attention_layers"] = new JsonArray("global", "local", "local");
        Assert.Equal(Model(TinyModel.Config("gpt_neo")), Model(config.ToJsonString()));
    }

    /// <summary>Python's json module writes and reads them; JSON has them not.</summary>
    [Fact]
    public void NumbersThatAreNone_AreInNobodysWay_ButWhereTheyAreRead()
    {
        var config = TinyModel.Config("gpt2");
        var more = config[..config.LastIndexOf('}')]
            + """, "x": NaN, "limits": [0.0, Infinity, -Infinity], "NaN": "say \"NaN\", Infinity" }""";
        Assert.Equal(Model(config), Model(more));
        foreach (var none in new[] { "NaN", "Infinity", "-Infinity" })
        {
            var read = config.Replace("\"n_layer\": 3", $"\"n_layer\": 3, \"layer_norm_epsilon\": {none}", StringComparison.Ordinal);
            var refusal = Refusal.Of(MendError.ModelUnusable, () => Model(read));
            Assert.Equal("layer_norm_epsilon", refusal.What.Split(": ")[1]);
            Assert.Contains($"is \"{none}\", expected a number", refusal.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void AnAnswer_EndsWithAnyOfItsEnds()
    {
        var family = ModelFamily.FromConfig(ConfigFile.Parse("config.json", With("gpt2", "eos_token_id", "[128, 7]")));
        foreach (var end in new[] { 128, 7 })
        {
            var generation = new Generation(family, [5], new(MaxTokens: 9));
            generation.Take(6);
            Assert.False(generation.IsDone);
            generation.Take(end);
            Assert.True(generation.IsDone);
            Assert.Equal([6], generation.Tokens);
        }
    }

    /// <summary>Transformers generates by this file where it is there.</summary>
    [Fact]
    public void GenerationConfig_GivesTheEndsAndTheStart()
    {
        using var folder = new TemporaryFolder();
        var config = JsonNode.Parse(TinyModel.Config("t5"))!.AsObject();
        config.Remove("decoder_start_token_id");
        folder.Write("config.json", config.ToJsonString());
        folder.Write("generation_config.json", """{"eos_token_id": [9, 8], "decoder_start_token_id": 6}""");
        var family = ModelFamily.FromDirectory(folder.Path);
        Assert.Equal([9, 8], family.EosIds);
        Assert.Equal([6], family.DecoderPrefix);
    }

    private static string With(string family, string key, string value)
    {
        var config = JsonNode.Parse(TinyModel.Config(family))!.AsObject();
        var keys = key.Split('.');
        var parent = keys.Length == 1 ? config : (config[keys[0]] = new JsonObject()).AsObject();
        parent[keys[^1]] = JsonNode.Parse(value);
        return config.ToJsonString();
    }

    /// <summary>All that a model does, as a text: its logits on some tokens, what it begins and ends with, its limits.</summary>
    private static string Model(string config)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        var family = ModelFamily.FromConfig(ConfigFile.Parse("config.json", config));
        using var stage = Stage.LoadWhole(family, new RandomWeights(7, ScalarType.Float32, (_, _) => 0.3));
        long[] ids = [5, 9, 33, 70, 8, 21, 40, 3, 11, 12, 64, 2, 90, 91];
        var decoder = family.IsEncoderDecoder ? tensor(ids[..4], [1, 4]) : null;
        var top = stage.Forward(Activations.None,
            new ForwardContext(new(tensor(ids, [1, ids.Length]), ones([1, ids.Length], ScalarType.Int64), decoder)));
        var logits = stage.Logits(top, NewTensor.Arange(0, top.Hidden!.shape[1], ScalarType.Int64));
        return string.Create(CultureInfo.InvariantCulture,
            $"{string.Join(' ', logits.data<float>().ToArray())} {logits.shape[1]} {family.MaxPositions} ")
            + $"{string.Join(' ', family.EosIds)} {string.Join(' ', family.DecoderPrefix)} {string.Join(' ', family.Labels ?? [])} {string.Join(' ', family.LayerNames)} "
            + string.Join(' ', stage.Weights.Loaded.Select(weight => $"{weight.Key}[{string.Join(',', weight.Value.Value.shape)}]"));
    }

    private static IEnumerable<(string, string, string[], Outcome)> NoEffect(string families, string settings) =>
        settings.Split(' ').Select(setting => setting.Split('=', 2))
        .Select(parts => (families, parts[0], new[] { parts[1] }, Outcome.NoEffect));
}
