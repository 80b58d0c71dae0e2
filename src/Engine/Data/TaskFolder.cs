namespace MendCluster.Engine.Data;

/// <summary>The tasks of the paper.</summary>
public enum EditTaskKind
{
    /// <summary>Question answering: zsRE, with Natural Questions for locality.</summary>
    Qa,

    /// <summary>Fact checking: FEVER.</summary>
    Fc,

    /// <summary>Generation: Wikitext.</summary>
    Gen,
}

/// <summary>A folder with a task's files under their published names.</summary>
public static class TaskFolder
{
    public const string ZsReTraining = "structured_zeroshot-train-new_annotated_final.jsonl";
    public const string ZsReValidation = "structured_zeroshot-dev-new_annotated_final.jsonl";

    /// <summary>Optional.</summary>
    public const string NqValidation = "nq/validation.json";
    public const string FeverTraining = "fever-train-kilt.jsonl";
    public const string FeverValidation = "fever-dev-kilt.jsonl";
    public const string ContinuationsTraining = "self_sample/train.json";
    public const string ContinuationsValidation = "self_sample/valid.json";

    /// <summary>Optional, and none of the published: what a model that is trained from scratch is to know, in all wordings.</summary>
    public const string KnownQuestions = "known-questions.tsv", KnownClaims = "known-claims.tsv";

    /// <summary>
    /// Optional, and none of the published: edits that choose the editor which a training keeps, in the published forms. Without them
    /// those of validation choose it, on which it is measured too, as in the authors' code.
    /// </summary>
    public const string ChoiceQuestions = "choice-questions.jsonl", ChoiceClaims = "choice-claims.jsonl",
        ContinuationsChoice = "self_sample/choice.json";

    /// <summary>Used for locality where both are.</summary>
    public const string WebText = "openwebtext-10k.jsonl";
    public const string WikitextTraining = "wiki.train.raw";
    public const string WikitextValidation = "wiki.valid.raw";

    /// <summary>Tokens of an unrelated text from OpenWebText; those of Wikitext are read whole.</summary>
    private const int WebTextTokens = 200;

    /// <summary>Wikitext-103 is large: the paper trains on its first tenth. A small file is read whole.</summary>
    private const long SmallFile = 50_000_000;

    /// <summary>Reads the folder for one model.</summary>
    /// <exception cref="InvalidDataException">A file is missing or not in its form.</exception>
    public static IEditTask Open(string folder, EditTaskKind kind, TextBatch text, ulong seed, LocalityRows? locality = null)
    {
        if (kind == EditTaskKind.Gen)
            return OpenPassages(folder, text, seed, locality);
        var (training, cases) = ReadEdits(folder, kind, seed);
        return new QuestionTask(text, training, ReadChoice(folder, kind, seed) ?? cases, seed, locality,
            halfUnchanged: kind == EditTaskKind.Fc, OtherQuestions(folder, kind), cases);
    }

    private static PassageTask OpenPassages(string folder, TextBatch text, ulong seed, LocalityRows? locality)
    {
        var training = Edits(ContinuationsTraining);
        var unread = Texts(folder, training: false);
        return new(text, (training, Texts(folder, training: true)),
            (Edits(Has(folder, ContinuationsChoice) ? ContinuationsChoice : ContinuationsValidation), unread), seed, locality,
            Has(folder, WebText) ? WebTextTokens : int.MaxValue, (Edits(ContinuationsValidation), unread));

        Continuations Edits(string file) => Wikitext.ReadContinuations(Find(folder, file, EditTaskKind.Gen));
    }

    private static IReadOnlyList<EditExample>? ReadChoice(string folder, EditTaskKind kind, ulong seed)
    {
        var file = kind == EditTaskKind.Qa ? ChoiceQuestions : ChoiceClaims;
        return !Has(folder, file) ? null
            : kind == EditTaskKind.Qa ? ZsRe.ReadPaper(Path.Combine(folder, file), Prng.At(seed, 2)) : Fever.Read(Path.Combine(folder, file));
    }

    /// <summary>The edits of question answering or fact checking.</summary>
    /// <param name="seed">Picks a question's target among its alternatives.</param>
    public static (IReadOnlyList<EditExample> Training, IReadOnlyList<EditExample> Validation) ReadEdits(string folder, EditTaskKind kind,
        ulong seed) => kind switch
        {
            EditTaskKind.Qa => (ZsRe.ReadPaper(Find(folder, ZsReTraining, kind), Prng.At(seed, 0)),
                ZsRe.ReadPaper(Find(folder, ZsReValidation, kind), Prng.At(seed, 1))),
            EditTaskKind.Fc => (Fever.Read(Find(folder, FeverTraining, kind)), Fever.Read(Find(folder, FeverValidation, kind))),
            _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "has texts, not questions"),
        };

    /// <summary>What question answering asks at validation; null: nothing else than the folder's edits.</summary>
    public static IReadOnlyList<QaPair>? OtherQuestions(string folder, EditTaskKind kind) =>
        kind == EditTaskKind.Qa && Has(folder, NqValidation) ? NaturalQuestions.Read(Path.Combine(folder, NqValidation)) : null;

    /// <summary>The generation task's unrelated texts.</summary>
    public static IReadOnlyList<string> Texts(string folder, bool training)
    {
        if (Has(folder, WebText))
            return Wikitext.ReadWebText(Path.Combine(folder, WebText), training);
        var file = Find(folder, training ? WikitextTraining : WikitextValidation, EditTaskKind.Gen);
        return Wikitext.ReadParagraphs(file, training && new FileInfo(file).Length > SmallFile ? 0.1 : 1);
    }

    /// <summary>What a model that is trained from scratch is to answer beside the folder's edits; empty where no file says it.</summary>
    public static IReadOnlyList<QaPair> MoreQuestions(string folder) => Has(folder, KnownQuestions)
        ? ZsRe.ReadTsv(Path.Combine(folder, KnownQuestions)) : [];

    /// <summary>The same of claims.</summary>
    public static IReadOnlyList<KnownClaim> MoreClaims(string folder) => Has(folder, KnownClaims)
        ? Fever.ReadKnown(Path.Combine(folder, KnownClaims)) : [];

    private static bool Has(string folder, string file) => File.Exists(Path.Combine(folder, file));

    private static string Find(string folder, string file, EditTaskKind kind) => Has(folder, file)
        ? Path.Combine(folder, file)
        : throw new InvalidDataException(
            $"{folder}: has no {file}. Put the published file there, or make a set like it: mend data generate --task {kind.ToString().ToLowerInvariant()} --out {folder}");
}
