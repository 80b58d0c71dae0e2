using MendCluster.Engine.Data;

namespace MendCluster.Experiments;

/// <summary>A row of a table of facts.</summary>
/// <param name="Relation">A noun, as in "capital", or one of those that <see cref="FactTable"/> has other wordings for.</param>
public sealed record TableFact(string Subject, string Relation, string Object);

/// <summary>
/// Makes files of a table of real facts. Of fact checking: a claim of each, true or with the object of another fact of the same relation,
/// stated in six ways. Of question answering: a question for each, in eight wordings.
/// </summary>
public static class FactTable
{
    /// <summary>What is longer is a remark more than a name.</summary>
    private const int MaxLength = 40;

    /// <summary>The last wordings of a claim or of a question, which no training file has.</summary>
    private const int NewWordings = 2;

    /// <summary>With the subject as {0}, the object as {1}, the relation as {2}.</summary>
    private static readonly string[] Wordings =
    [
        "The {2} of {0} is {1}.", "{0}'s {2} is {1}.", "{1} is the {2} of {0}.", "{0} has {1} as {2}.", "For {0}, the {2} is {1}.",
        "If you ask about the {2} of {0}, it is {1}.",
    ];

    private static readonly Dictionary<string, string[]> OtherWordings = new()
    {
        ["instance of"] = ["{0} is an instance of {1}.", "{0} is a kind of {1}.", "{0} was a kind of {1}.", "{0} is called a kind of {1}.",
            "One kind of {1} is {0}.", "As an example of {1}, there is {0}."],
        ["part of"] = ["{0} is part of {1}.", "{0} belongs to {1}.", "{0} is a part of {1}.", "{1} includes {0}.", "{0} lies in {1}.",
            "One of the parts of {1} is {0}."],
        ["city served"] = ["The city served by {0} is {1}.", "{0} serves {1}.", "{1} is served by {0}.", "The city of {0} is {1}.",
            "{0} is the airport for {1}.", "Who flies to {0} comes to {1}."],
    };

    /// <summary>With the subject as {0}, the relation as {1}.</summary>
    private static readonly string[] Questions =
    [
        "What is the {1} of {0}?", "What is {0}'s {1}?", "Name the {1} of {0}.", "Which {1} does {0} have?", "Tell me the {1} of {0}.",
        "As to {0}, what is the {1}?", "The {1} of {0} is what?", "What would you call the {1} of {0}?",
    ];

    private static readonly string[] QuestionsForAPerson =
    [
        "Who is the {1} of {0}?", "Who is {0}'s {1}?", "Name the {1} of {0}.", "{0} has whom as its {1}?", "Tell me the {1} of {0}.",
        "As to {0}, who is the {1}?", "The {1} of {0} is who?", "Which person serves {0} as {1}?",
    ];

    private static readonly Dictionary<string, string[]> OtherQuestions = new()
    {
        ["head of state"] = QuestionsForAPerson,
        ["head of government"] = QuestionsForAPerson,
        ["instance of"] = ["What is {0} an instance of?", "What kind of thing is {0}?", "What was {0}?", "{0} is an example of what?",
            "Of what kind is {0}?", "Tell me what {0} is.", "As what is {0} classed?", "{0} is which kind of thing?"],
        ["part of"] = ["What is {0} part of?", "{0} is a part of what?", "To what does {0} belong?", "What includes {0}?", "Name what {0} is part of.",
            "Tell me what {0} belongs to.", "{0} lies in what?", "Of what is {0} one part?"],
        ["year of birth"] = ["When was {0} born?", "In which year was {0} born?", "What is {0}'s year of birth?", "{0} was born in which year?",
            "Name the year of {0}'s birth.", "Tell me when {0} was born.", "The birth of {0} was in what year?", "In what year did {0} come into the world?"],
        ["year of death"] = ["When did {0} die?", "In which year did {0} die?", "What is {0}'s year of death?", "{0} died in which year?",
            "Name the year of {0}'s death.", "Tell me when {0} died.", "The death of {0} was in what year?", "In what year did {0} pass away?"],
        ["city served"] = ["Which city is served by {0}?", "What city does {0} serve?", "{0} is the airport for which city?", "Name the city of {0}.",
            "For which city was {0} built?", "Tell me the city that {0} serves.", "Who flies to {0} comes to which city?", "{0} is near what city?"],
    };

    /// <summary>The facts of a file: tab-separated, with a head that names the columns subject, relation and object.</summary>
    /// <exception cref="InvalidDataException">It is in no such form; names the line.</exception>
    public static IReadOnlyList<TableFact> Read(string path)
    {
        var facts = new List<TableFact>();
        int[]? columns = null;
        var width = 0;
        foreach (var (number, line) in DataFile.Lines(path))
        {
            var fields = line.Split('\t', StringSplitOptions.TrimEntries);
            if (columns is null)
            {
                (columns, width) = ([.. new[] { "subject", "relation", "object" }.Select(name => Array.IndexOf(fields, name))], fields.Length);
                if (columns.Contains(-1))
                    throw new InvalidDataException($"{path}, line {number}: \"{line}\"; wanted a head with the columns subject, relation and object.");
            }
            else if (fields.Length != width || columns.Any(column => fields[column].Length == 0))
                throw new InvalidDataException($"{path}, line {number}: \"{line}\"; wanted {width} columns, with subject, relation and object. Mend the line or delete it.");
            else
                facts.Add(new(fields[columns[0]], fields[columns[1]], fields[columns[2]]));
        }
        return DataFile.NotEmpty(path, facts);
    }

    /// <summary>
    /// Writes the folder of fact checking: of the subjects eight tenths are for training, one for the choice of an editor, one for edits.
    /// </summary>
    /// <param name="perRelation">At most so many facts of each relation, drawn by the seed; of a relation with one object, none.</param>
    /// <returns>How many claims were written.</returns>
    public static int WriteFactChecking(string folder, string table, ulong seed, int perRelation)
    {
        var drawn = Draw(table, seed, perRelation, ofOneObject: false);
        var parts = drawn.Facts.ToLookup(fact => Math.Min(2, drawn.Subjects[fact.Subject] % 10));
        SyntheticTasks.WriteClaims(folder, seed, State, drawn.Others, fact => fact.Object, NewWordings, [.. parts[2]], [.. parts[0]], [.. parts[1]]);
        return drawn.Facts.Count;
    }

    /// <summary>
    /// Writes the folder of question answering. All facts of a subject are in one part: of the subjects that have the edited relation, half
    /// are for edits, one in ten for the choice of an editor; all others are for training. Whether the other facts of edited subjects stay is
    /// asked.
    /// </summary>
    /// <param name="perRelation">As of <see cref="WriteFactChecking"/>; what has two objects is left out.</param>
    /// <param name="edited">The relation that choice and edits change.</param>
    /// <returns>How many facts there are, and how many of them are edited.</returns>
    /// <exception cref="InvalidDataException">Too few facts of that relation, or none that could stay.</exception>
    public static (int Facts, int Edited) WriteQuestionAnswering(string folder, string table, ulong seed, int perRelation, string edited)
    {
        var drawn = Draw(table, seed, perRelation, ofOneObject: true);
        var part = drawn.Facts.Where(fact => fact.Relation == edited).OrderBy(fact => drawn.Subjects[fact.Subject]).Index()
            .ToDictionary(fact => fact.Item.Subject, fact => (fact.Index % 10) switch { < 5 => Part.Edited, 5 => Part.Choice, _ => Part.Training });
        var shuffled = Prng.At(~seed, 0).Shuffle(drawn.Facts);
        var facts = shuffled.ToLookup(fact => (part.GetValueOrDefault(fact.Subject), fact.Relation == edited));
        List<TableFact> changed = [.. facts[(Part.Edited, true)]], staying = [.. facts[(Part.Edited, false)]], choice = [.. facts[(Part.Choice, true)]];
        if (choice.Count < 2 || staying.Count == 0)
            throw new InvalidDataException($"{table}: {part.Count} facts have the relation \"{edited}\" and can be asked for, and {staying.Count} others are "
                + "about the subjects of those that would be edited. Name a relation of at least 20 subjects, most of which have facts of other relations too.");
        SyntheticTasks.WriteQuestions(folder, seed, Ask, fact => fact.Object, drawn.Others, NewWordings,
            [.. shuffled.Where(fact => part.GetValueOrDefault(fact.Subject) == Part.Training)], changed, choice, staying,
            shuffled.SelectMany(fact => Ask(fact).Select(question => new QaPair(question, fact.Object))));
        return (drawn.Facts.Count, changed.Count);
    }

    private enum Part
    {
        Training,
        Choice,
        Edited,
    }

    /// <param name="Subjects">In a random order, each with its place.</param>
    /// <param name="Others">What else a fact's object could be, and is not.</param>
    private sealed record DrawnFacts(IReadOnlyList<TableFact> Facts, IReadOnlyDictionary<string, int> Subjects,
        Func<TableFact, IReadOnlyList<string>> Others);

    /// <param name="ofOneObject">Leaves out what has two objects: a claim can name either, a question has one answer.</param>
    private static DrawnFacts Draw(string table, ulong seed, int perRelation, bool ofOneObject)
    {
        var known = Read(table).Where(fact => fact.Subject.Length <= MaxLength && fact.Object.Length <= MaxLength).ToList();
        var truths = known.ToLookup(fact => (fact.Subject, fact.Relation), fact => fact.Object);
        var objects = known.GroupBy(fact => fact.Relation)
            .ToDictionary(facts => facts.Key, facts => facts.Select(fact => fact.Object).Distinct().ToList());
        var facts = known.DistinctBy(fact => (fact.Subject, fact.Relation))
            .Where(fact => Others(fact).Count > 0 && !(ofOneObject && truths[(fact.Subject, fact.Relation)].Distinct().Skip(1).Any()))
            .GroupBy(fact => fact.Relation)
            .SelectMany((group, i) => Prng.At(seed, ulong.MaxValue - (ulong)i).Shuffle(group).Take(perRelation)).ToList();
        var subjects = Prng.At(~seed, ulong.MaxValue).Shuffle(facts.Select(fact => fact.Subject).Distinct()).Index()
            .ToDictionary(subject => subject.Item, subject => subject.Index);
        return new(facts, subjects, Others);

        IReadOnlyList<string> Others(TableFact fact) => [.. objects[fact.Relation].Except(truths[(fact.Subject, fact.Relation)])];
    }

    private static IReadOnlyList<string> Ask(TableFact fact) =>
        [.. OtherQuestions.GetValueOrDefault(fact.Relation, Questions).Select(wording => Begun(wording
            .Replace("{0}", fact.Subject, StringComparison.Ordinal).Replace("{1}", fact.Relation, StringComparison.Ordinal)))];

    private static IReadOnlyList<string> State(TableFact fact, string @object) =>
        [.. OtherWordings.GetValueOrDefault(fact.Relation, Wordings)
            .Select(wording => wording.Replace("{0}", fact.Subject, StringComparison.Ordinal)
                .Replace("{1}", @object, StringComparison.Ordinal).Replace("{2}", fact.Relation, StringComparison.Ordinal))
            .Select(Begun)];

    private static string Begun(string text) => char.ToUpperInvariant(text[0]) + text[1..];
}
