namespace MendCluster.Engine.Models;

/// <summary>What GPT-2, GPT-Neo and GPT-J have in common: one stack of blocks, by the names of GPT-2's checkpoints.</summary>
/// <param name="blocks">How many.</param>
/// <param name="mlp">The names of a block's MLP matrices, in the order of the paper's configurations.</param>
public abstract class Gpt(int blocks, IReadOnlyList<string> mlp) : ModelFamily
{
    private const int EditedBlocks = 3;

    public override bool IsEncoderDecoder => false;

    public override bool ShiftsLabels => true;

    public override string WordEmbeddings => "transformer.wte.weight";

    public override int? DecoderStartId => null;

    public override IReadOnlyList<string> LayerNames { get; } =
        ["transformer.wte", .. Enumerable.Range(0, blocks).Select(i => $"transformer.h.{i}"), "lm_head"];

    /// <summary>The MLP matrices of the last three blocks.</summary>
    public override IReadOnlyList<string> DefaultEditableWeights { get; } =
        [.. Enumerable.Range(0, blocks).TakeLast(EditedBlocks).SelectMany(i => mlp.Select(name => $"transformer.h.{i}.mlp.{name}.weight"))];
}
