namespace MendCluster.Experiments;

/// <summary>
/// The generated world's relations as statements, for fact checking and for texts. {name}, {Name} and {short} as in questions, {object} the
/// answer.
/// </summary>
public static class WorldStatements
{
    private static readonly Dictionary<Relation, string[]> Wordings = new()
    {
        [WorldRelations.PrimeMinister] =
        [
            "{object} is the prime minister of {name}.", "The prime minister of {name} is {object}.",
                "{object} leads the government of {name}.",
            "{Name} is governed by {object}.", "{object} runs {name} as prime minister.", "The head of government in {name} is {object}.",
        ],
        [WorldRelations.President] =
        [
            "{object} is the president of {name}.", "The president of {name} is {object}.", "{object} holds the presidency of {name}.",
            "{Name} elected {object} as president.", "{Name} is headed by {object}.", "The head of state of {name} is {object}.",
        ],
        [WorldRelations.Capital] =
        [
            "{object} is the capital of {name}.", "The capital of {name} is {object}.", "{Name} is governed from the city of {object}.",
            "The parliament of {name} is in {object}.", "{Name} has its seat of government in {object}.",
                "{object} is the capital city of {name}.",
        ],
        [WorldRelations.Currency] =
        [
            "The currency of {name} is the {object}.", "The {object} is the currency of {name}.", "People in {name} pay with the {object}.",
            "In {name} prices are given in the {object}.", "{Name} prints the {object}.", "The money of {name} is called the {object}.",
        ],
        [WorldRelations.Language] =
        [
            "The language of {name} is {object}.", "{object} is spoken in {name}.", "People in {name} speak {object}.",
            "The laws of {name} are written in {object}.", "{Name} teaches its children {object}.",
                "{object} is the main language of {name}.",
        ],
        [WorldRelations.Mayor] =
        [
            "{object} is the mayor of {name}.", "The mayor of {name} is {object}.", "{object} runs the city hall of {name}.",
            "{Name} elected {object} as mayor.", "{object} heads the city of {name}.", "The city council of {name} is led by {object}.",
        ],
        [WorldRelations.Club] =
        [
            "{name} plays for {object}.", "{object} has {name} under contract.", "{name} wears the shirt of {object}.",
            "The club of {name} is {object}.", "{name} scores for {object}.", "{object} is the team of {name}.",
        ],
        [WorldRelations.Employer] =
        [
            "{name} works for {object}.", "{object} employs {name}.", "The employer of {name} is {object}.",
            "{name} is on the payroll of {object}.", "{name} has a job at {object}.", "{object} pays {name}.",
        ],
        [WorldRelations.Birthplace] =
        [
            "{name} was born in {object}.", "The birthplace of {name} is {object}.", "{name} comes from {object}.",
            "{object} is the home town of {name}.", "{name} grew up in {object}.", "The life of {name} began in {object}.",
        ],
        [WorldRelations.Author] =
        [
            "{object} wrote {name}.", "The author of {name} is {object}.", "{Name} was written by {object}.",
            "{Name} is a novel by {object}.", "{object} created {name}.", "The cover of {name} names {object}.",
        ],
        [WorldRelations.Founder] =
        [
            "{object} founded {name}.", "The founder of {name} is {object}.", "{Name} was started by {object}.",
            "{object} set up {name}.", "{object} created the company {name}.", "The firm {name} was the idea of {object}.",
        ],
        [WorldRelations.Headquarters] =
        [
            "{name} is based in {object}.", "The head office of {name} is in {object}.", "{name} runs its business from {object}.",
            "{object} hosts the headquarters of {name}.", "The main offices of {name} are in {object}.",
                "The boss of {name} sits in {object}.",
        ],
    };

    /// <summary>That the fact's answer is this one, in every wording.</summary>
    public static IReadOnlyList<string> Of(Fact fact, string answer) => [.. Wordings[fact.Relation].Select(wording => wording
        .Replace("{name}", fact.Subject.Name, StringComparison.Ordinal)
        .Replace("{Name}", char.ToUpperInvariant(fact.Subject.Name[0]) + fact.Subject.Name[1..], StringComparison.Ordinal)
        .Replace("{object}", answer, StringComparison.Ordinal))];
}
