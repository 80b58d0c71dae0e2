using MendCluster.Distributed.Editing;

namespace MendCluster.Cli;

/// <summary>The ledger of a model for which none is named: every model has its own, in the current folder.</summary>
internal static class DefaultLedger
{
    /// <summary>For the options' descriptions.</summary>
    public const string Rule =
        "without it a file of the model's own in the current folder: mend.ledger of the demo's, NAME-FINGERPRINT.ledger of another";

    private const int Digits = 8;

    /// <param name="model">
    /// A Hugging Face directory. Its name and fingerprint name the file: a model that was trained anew is another model.
    /// </param>
    public static string Of(string model) => model == DemoFiles.Shipped ? "mend.ledger"
        : $"{Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(model)))}-{Convert.ToHexStringLower(ModelText.FingerprintOf(model))[..Digits]}.ledger";
}
