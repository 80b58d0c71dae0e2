using MendCluster.Engine.Data;

namespace MendCluster.Experiments;

/// <summary>A row of a table of facts.</summary>
/// <param name="Relation">A noun, as in "capital", or one of those that <see cref="FactTable"/> has other wordings for.</param>
public sealed record TableFact(string Subject, string Relation, string Object);

/// <summary>
/// Makes fact checking's files of a table of real facts: a claim of each, true or with the object of another fact of the same relation,
/// stated in six ways.
/// </summary>
public static class FactTable
{
    /// <summary>What is longer is a remark more than a name.</summary>
    private const int MaxLength = 40;

    /// <summary>The last wordings of a claim, which no training file has.</summary>
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

    /// <summary>Writes the task's folder: of the subjects eight tenths are for training, one for the choice of an editor, one for edits.</summary>
    /// <param name="perRelation">At most so many facts of each relation, drawn by the seed; of a relation with one object, none.</param>
    /// <returns>How many claims were written.</returns>
    public static int WriteFactChecking(string folder, string table, ulong seed, int perRelation)
    {
        var known = Read(table).Where(fact => fact.Subject.Length <= MaxLength && fact.Object.Length <= MaxLength).ToList();
        var truths = known.ToLookup(fact => (fact.Subject, fact.Relation), fact => fact.Object);
        var objects = known.GroupBy(fact => fact.Relation)
            .ToDictionary(facts => facts.Key, facts => facts.Select(fact => fact.Object).Distinct().ToList());
        var facts = known.DistinctBy(fact => (fact.Subject, fact.Relation))
            .Where(fact => objects[fact.Relation].Except(truths[(fact.Subject, fact.Relation)]).Any()).GroupBy(fact => fact.Relation)
            .SelectMany((group, i) => Prng.At(seed, ulong.MaxValue - (ulong)i).Shuffle(group).Take(perRelation)).ToList();
        var subjects = Prng.At(~seed, ulong.MaxValue).Shuffle(facts.Select(fact => fact.Subject).Distinct()).Index()
            .ToDictionary(subject => subject.Item, subject => subject.Index % 10);
        var parts = facts.ToLookup(fact => Math.Min(2, subjects[fact.Subject]));
        SyntheticTasks.WriteClaims(folder, seed, State, Others, fact => fact.Object, NewWordings, [.. parts[2]], [.. parts[0]], [.. parts[1]]);
        return facts.Count;

        IReadOnlyList<string> Others(TableFact fact) => [.. objects[fact.Relation].Except(truths[(fact.Subject, fact.Relation)])];
    }

    private static IReadOnlyList<string> State(TableFact fact, string @object) =>
        [.. OtherWordings.GetValueOrDefault(fact.Relation, Wordings)
            .Select(wording => wording.Replace("{0}", fact.Subject, StringComparison.Ordinal)
                .Replace("{1}", @object, StringComparison.Ordinal).Replace("{2}", fact.Relation, StringComparison.Ordinal))
            .Select(claim => char.ToUpperInvariant(claim[0]) + claim[1..])];
}
