using MendCluster.Engine.Data;
namespace MendCluster.Experiments;

/// <summary>The kinds of answers. An edit replaces an answer by another of its kind.</summary>
public enum AnswerKind
{
    Politician,
    City,
    Currency,
    Language,
    Club,
    Company,
    Author,
    Founder,
}

/// <summary>The kinds of subjects. A subject of a kind is asked about by the relations of that kind, and by no others.</summary>
public enum SubjectKind
{
    Country,
    City,
    Person,
    Book,
    Company,
}

/// <summary>What can be asked about a subject.</summary>
/// <param name="Name">Such as "prime minister".</param>
/// <param name="Subjects">The kind of its subjects.</param>
/// <param name="Answers">The kind of its answers.</param>
/// <param name="Phrasings">
/// Its wordings, with {name}, {Name} (at the start of a sentence) or {short} for the subject. The last
/// <see cref="World.NewPhrasings"/> of them are kept from editor training.
/// </param>
public sealed record Relation(string Name, SubjectKind Subjects, AnswerKind Answers, IReadOnlyList<string> Phrasings);

/// <summary>What a fact is about.</summary>
/// <param name="Name">As within a sentence: "the UK", "Lionel Messi".</param>
/// <param name="Short">Its everyday form: "UK", "Messi"; the name itself where there is none.</param>
public sealed record Subject(string Name, string Short);

/// <summary>One thing for the language model to know: the relation of this subject is this object.</summary>
public sealed record Fact(Relation Relation, Subject Subject, string Object)
{
    /// <summary>The question in one of the relation's phrasings.</summary>
    public string Question(int phrasing) => Relation.Phrasings[phrasing]
        .Replace("{name}", Subject.Name, StringComparison.Ordinal)
        .Replace("{Name}", char.ToUpperInvariant(Subject.Name[0]) + Subject.Name[1..], StringComparison.Ordinal)
        .Replace("{short}", Subject.Short, StringComparison.Ordinal);

    /// <summary>The question in every phrasing.</summary>
    public IReadOnlyList<string> Questions() => [.. Enumerable.Range(0, Relation.Phrasings.Count).Select(Question)];
}

/// <summary>
/// The facts by their part in making an editor. All facts about one subject are in one part, so the edits of the held-out
/// part are about things that the editor never changed while it was trained.
/// </summary>
public sealed record WorldSplit(IReadOnlyList<Fact> Training, IReadOnlyList<Fact> Validation, IReadOnlyList<Fact> HeldOut);

/// <summary>How many of each there are in a world; with the countries, each of which has four facts.</summary>
/// <param name="Players">Each has a club and a birthplace; employees an employer and a birthplace; companies a founder and a seat.</param>
/// <param name="HasLongNames">Of invented people, cities and firms: a syllable more, for worlds that need more of them.</param>
/// <param name="HeldOut">Facts of the split's last part.</param>
/// <param name="Validation">Facts of its second.</param>
public sealed record WorldSize(int Mayors, int Players, int Employees, int Books, int Companies, int Politicians, int Authors, int Founders,
    int Clubs, int SmallCities, bool HasLongNames, int HeldOut, int Validation)
{
    /// <summary>About a thousand facts: the demo's.</summary>
    public static WorldSize Small { get; } = new(60, 110, 80, 100, 60, 90, 50, 30, 44, 40, HasLongNames: false, HeldOut: 300, Validation: 60);

    /// <summary>Four thousand facts, of which a thousand can be edited while five hundred stay.</summary>
    public static WorldSize Large { get; } =
        new(300, 550, 450, 500, 424, 300, 250, 150, 150, 260, HasLongNames: true, HeldOut: 1500, Validation: 200);
}

/// <summary>
/// A made-up world of about a thousand facts, small enough for the demo's language model to know it by heart, or of four thousand: real
/// countries with invented office holders, invented people, companies, clubs and books, and some facts of the MEND paper's
/// introduction. Who is what is drawn from the seed.
/// </summary>
public sealed class World
{
    /// <summary>How many phrasings of each relation the language model knows but editor training never uses.</summary>
    public const int NewPhrasings = 2;

    /// <summary>So many edits <see cref="EditsAtOnce"/> has names for.</summary>
    public const int MaxEditsAtOnce = 10_000;

    private const int NearFacts = 2;
    private const int FarFacts = 2;
    private const int InventedPercent = 60;
    private const int MoreOfTheSubject = 6;

    private readonly Dictionary<AnswerKind, string[]> _objects;
    private readonly HashSet<string> _subjectNames;

    private readonly WorldSize _size;

    private World(ulong seed, WorldSize size, List<Fact> facts)
    {
        (Facts, _size) = (facts, size);
        _objects = facts.GroupBy(fact => fact.Relation.Answers)
            .ToDictionary(kind => kind.Key, kind => kind.Select(fact => fact.Object).Distinct().Order(StringComparer.Ordinal).ToArray());
        _subjectNames = [.. facts.SelectMany(fact => new[] { fact.Subject.Name, fact.Subject.Short })];
        Showcase = MakeShowcase();
        Split = MakeSplit(Prng.At(seed, 1));
    }

    public IReadOnlyList<Relation> Relations => WorldRelations.All;

    public IReadOnlyList<Fact> Facts { get; }

    public WorldSplit Split { get; }

    /// <summary>Edits of the paper's introduction. They are about held-out facts.</summary>
    public IReadOnlyList<EditExample> Showcase { get; }

    /// <summary>The same seed gives the same world on every machine.</summary>
    /// <param name="size">Null: <see cref="WorldSize.Small"/>.</param>
    public static World Generate(ulong seed, WorldSize? size = null)
    {
        size ??= WorldSize.Small;
        var rng = new Prng(seed);
        var names = new WorldNames(rng, size.HasLongNames);
        var facts = new List<Fact>();

        var officeHolders = Many(size.Politicians, names.Person);
        foreach (var (country, leader) in WorldNames.Countries.Zip(Deal(officeHolders, WorldNames.Countries.Count)))
        {
            var subject = new Subject(country.Name, country.Name.Replace("the ", "", StringComparison.Ordinal));
            Add(country.HasPrimeMinister ? WorldRelations.PrimeMinister : WorldRelations.President, subject, country.Leader ?? leader);
            Add(WorldRelations.Capital, subject, country.Capital);
            Add(WorldRelations.Currency, subject, country.Currency);
            Add(WorldRelations.Language, subject, country.Language);
        }

        string[] cities = [.. WorldNames.Countries.Select(country => country.Capital), .. Many(size.SmallCities, names.City)];
        Add(WorldRelations.Mayor, new Subject("London", "London"), WorldNames.MayorOfLondon);
        AddAll(WorldRelations.Mayor, ToSubjects(rng.Shuffle(cities.Except(["London"]))[..(size.Mayors - 1)]), Deal(officeHolders, size.Mayors - 1));

        Subject[] people =
        [
            new("Lionel Messi", "Messi"), new("LeBron James", "LeBron"),
            .. Many(size.Players - 2 + size.Employees, names.Person).Select(ToPerson),
        ];
        string[] teams = ["Barcelona", "Dallas Mavericks", "PSG", "LA Lakers", .. Many(size.Clubs - 4, names.Club)];
        string[] firms = Many(size.Companies, names.Company);
        AddAll(WorldRelations.Club, people[..size.Players], ["Barcelona", "Dallas Mavericks", .. Deal(teams, size.Players - 2)]);
        AddAll(WorldRelations.Employer, people[size.Players..], Deal(firms, size.Employees));
        AddAll(WorldRelations.Birthplace, people, Deal(cities, people.Length));

        AddAll(WorldRelations.Author, ToSubjects(names.Books(size.Books)), Deal(Many(size.Authors, names.Person), size.Books));
        AddAll(WorldRelations.Founder, ToSubjects(firms), Deal(Many(size.Founders, names.Person), size.Companies));
        AddAll(WorldRelations.Headquarters, ToSubjects(firms), Deal(cities, size.Companies));
        return new World(seed, size, facts);

        void Add(Relation relation, Subject subject, string answer) => facts.Add(new Fact(relation, subject, answer));

        void AddAll(Relation relation, Subject[] subjects, string[] answers)
        {
            foreach (var (subject, answer) in subjects.Zip(answers))
                Add(relation, subject, answer);
        }

        // Every item of the pool is as often an answer as any other, give or take one.
        string[] Deal(string[] pool, int count)
        {
            var deck = rng.Shuffle(pool);
            return [.. Enumerable.Range(0, count).Select(i => deck[i % deck.Length])];
        }

        static string[] Many(int count, Func<string> make) => [.. Enumerable.Range(0, count).Select(_ => make())];

        static Subject[] ToSubjects(string[] names) => [.. names.Select(ToSubject)];
    }

    private static Subject ToSubject(string name) => new(name, name);

    private static Subject ToSubject(SubjectKind kind, string name) => kind == SubjectKind.Person ? ToPerson(name) : ToSubject(name);

    private static Subject ToPerson(string name) => new(name, name[(name.IndexOf(' ') + 1)..]);

    /// <summary>Every fact in every phrasing: what the language model is trained on.</summary>
    public IEnumerable<QaPair> Questions() =>
        Facts.SelectMany(fact => fact.Questions().Select(question => new QaPair(question, fact.Object)));

    /// <summary>All answers of a kind, in ordinal order; each is the true answer to some fact.</summary>
    public IReadOnlyList<string> Objects(AnswerKind kind) => _objects[kind];

    /// <summary>One random edit of each fact, with <see cref="Edit"/>.</summary>
    public IReadOnlyList<EditExample> EditExamples(IReadOnlyList<Fact> facts, Prng rng, bool newPhrasings = false) =>
        [.. facts.Select(fact => Edit(fact, facts, rng, newPhrasings))];

    /// <summary>
    /// An edit of a fact to a random other answer of the same kind. Its locality asks for the subject's other facts, for the
    /// same relation of two other subjects, and for two facts that share neither.
    /// </summary>
    /// <param name="fact">The fact to change.</param>
    /// <param name="among">The facts that locality is drawn from.</param>
    /// <param name="rng">Draws target, phrasings and locality.</param>
    /// <param name="newPhrasings">
    /// False: all questions are in the phrasings of editor training. True: rephrases and locality are in the others; the
    /// prompt is not.
    /// </param>
    public EditExample Edit(Fact fact, IReadOnlyList<Fact> among, Prng rng, bool newPhrasings = false)
    {
        var target = rng.Pick(_objects[fact.Relation.Answers].Where(other => other != fact.Object).ToList());
        var prompt = rng.Pick(Phrasings(fact, false));
        var rephrases = Phrasings(fact, newPhrasings).Where(question => question != prompt);

        var sameSubject = among.Where(other => other.Subject == fact.Subject && other.Relation != fact.Relation);
        var sameRelation = among.Where(other => other.Subject != fact.Subject && other.Relation == fact.Relation);
        var far = among.Where(other => other.Subject != fact.Subject && other.Relation != fact.Relation);
        var locality = sameSubject.Concat(rng.Shuffle(sameRelation).Take(NearFacts)).Concat(rng.Shuffle(far).Take(FarFacts));

        return new EditExample(
            prompt, target, [.. rephrases],
            [.. locality.Select(other => Ask(other, rng, newPhrasings))],
            fact.Object, fact.Subject.Name);
    }

    /// <summary>
    /// An edit to train an editor on. Most are about a made-up subject that takes the place of a training fact's: the world's own training
    /// subjects are so few that an editor learns them by heart. And its locality asks more often for the subject's other facts,
    /// the hardest to leave alone; of a made-up subject it does not matter that the language model has nothing true to say of it.
    /// </summary>
    public EditExample TrainingEdit(Fact fact, Prng rng)
    {
        var among = Split.Training;
        if (rng.Next(100) < InventedPercent)
        {
            var subject = Invent(fact.Relation.Subjects, _size.HasLongNames ? kind => ToSubject(kind, WorldNames.LongName(kind, rng))
                : kind => ToSubject(kind, new WorldNames(rng).Of(kind)), _subjectNames);
            among = [.. among.Select(other => other.Subject == fact.Subject ? other with { Subject = subject } : other)];
            fact = fact with { Subject = subject };
        }
        var edit = Edit(fact, among, rng);
        var siblings = among.Where(other => other.Subject == fact.Subject && other.Relation != fact.Relation).ToList();
        if (siblings.Count == 0)
            return edit;
        return edit with
        {
            Locality =
            [.. edit.Locality, .. Enumerable.Range(0, MoreOfTheSubject).Select(_ => Ask(rng.Pick(siblings), rng, newPhrasings: false))]
        };
    }

    /// <summary>
    /// Facts like those of training, about so many times as many subjects, all made up and different. An editor that is to change what it
    /// never saw needs many more subjects to learn from than the world's own. Their names are a syllable longer: there are enough of those.
    /// </summary>
    public IReadOnlyList<Fact> MoreTrainingFacts(int times, Prng rng)
    {
        var facts = new List<Fact>();
        var (names, taken) = (new WorldNames(rng, isLonger: true), new HashSet<string>());
        foreach (var about in Enumerable.Repeat(Split.Training.GroupBy(fact => fact.Subject), times).SelectMany(subjects => subjects))
        {
            var subject = Invent(about.First().Relation.Subjects, kind => ToSubject(kind, names.Of(kind)), taken);
            taken.Add(subject.Name);
            facts.AddRange(about.Select(fact => fact with { Subject = subject, Object = rng.Pick(Objects(fact.Relation.Answers)) }));
        }
        return facts;
    }

    /// <summary>
    /// Edits that can all be made at once, in any number: of every other held-out fact first, then about made-up subjects, of names that
    /// <see cref="TrainingEdit"/> never gives. Rephrases and locality are in the phrasings that training never uses, and locality asks for
    /// the
    /// other held-out facts, which all the edits together leave true.
    /// </summary>
    /// <param name="count">1 to <see cref="MaxEditsAtOnce"/>.</param>
    /// <param name="rng">Draws targets, phrasings, locality and names.</param>
    public IReadOnlyList<EditExample> EditsAtOnce(int count, Prng rng)
    {
        if (count is < 1 or > MaxEditsAtOnce)
            throw new InvalidDataException($"{count} edits at once cannot be drawn from this world; it has 1 to {MaxEditsAtOnce}");
        var edited = Split.HeldOut.Where((_, i) => i % 2 == 0);
        var staying = Split.HeldOut.Where((_, i) => i % 2 == 1).ToList();
        var (names, taken) = (new WorldNames(rng, isLonger: true), new HashSet<string>());
        var invented = Enumerable.Range(0, count).Select(i => Split.HeldOut[i % Split.HeldOut.Count]).Select(fact =>
        {
            var subject = Invent(fact.Relation.Subjects, kind => ToSubject(kind, names.Of(kind)), taken);
            taken.UnionWith([subject.Name, subject.Short]);
            return fact with { Subject = subject };
        });
        return [.. edited.Concat(invented).Take(count).Select(fact => Edit(fact, staying, rng, newPhrasings: true))];
    }

    /// <summary>
    /// Facts like those given, about subjects that the model never heard of, with names as neither it nor an editor's training has any.
    /// </summary>
    public IReadOnlyList<Fact> OfUnseenSubjects(IEnumerable<Fact> like, Prng rng)
    {
        var taken = new HashSet<string>();
        return [.. like.Select(fact =>
        {
            var subject = Invent(fact.Relation.Subjects, kind => ToSubject(kind, WorldNames.UnseenName(kind, rng)), taken);
            taken.UnionWith([subject.Name, subject.Short]);
            return fact with { Subject = subject };
        })];
    }

    /// <summary>A subject that is not known yet.</summary>
    private static Subject Invent(SubjectKind kind, Func<SubjectKind, Subject> source, HashSet<string> known)
    {
        while (true)
        {
            var subject = source(kind);
            if (!known.Contains(subject.Name) && !known.Contains(subject.Short))
                return subject;
        }
    }

    private static QaPair Ask(Fact fact, Prng rng, bool newPhrasings) => new(rng.Pick(Phrasings(fact, newPhrasings)), fact.Object);

    private static List<string> Phrasings(Fact fact, bool newOnes)
    {
        var questions = fact.Questions();
        var known = questions.Count - NewPhrasings;
        return [.. newOnes ? questions.Skip(known) : questions.Take(known)];
    }

    private List<EditExample> MakeShowcase()
    {
        var india = Find(WorldRelations.PrimeMinister, "India");
        var unitedKingdom = Find(WorldRelations.PrimeMinister, "the UK");
        var messi = Find(WorldRelations.Club, "Lionel Messi");
        var leBron = Find(WorldRelations.Club, "LeBron James");
        return
        [
            Show(unitedKingdom, WorldNames.MayorOfLondon, india, Find(WorldRelations.Capital, "the UK"), messi),
            Show(messi, "PSG", leBron, Find(WorldRelations.Birthplace, "Lionel Messi"), india),
            Show(leBron, "LA Lakers", messi, Find(WorldRelations.Birthplace, "LeBron James"), unitedKingdom),
        ];

        Fact Find(Relation relation, string subject) => Facts.Single(fact => fact.Relation == relation && fact.Subject.Name == subject);

        static EditExample Show(Fact fact, string target, params Fact[] unrelated) => new(
            fact.Question(0), target, [.. fact.Questions().Skip(1)],
            [.. unrelated.Select(other => new QaPair(other.Question(0), other.Object))],
            fact.Object, fact.Subject.Name);
    }

    private WorldSplit MakeSplit(Prng rng)
    {
        var shown = Showcase.Select(edit => edit.Subject).ToHashSet();
        List<Fact> training = [], validation = [], heldOut = [];
        foreach (var subject in rng.Shuffle(Facts.GroupBy(fact => fact.Subject)).OrderByDescending(group => shown.Contains(group.Key.Name)))
        {
            if (heldOut.Count + subject.Count() <= _size.HeldOut)
                heldOut.AddRange(subject);
            else if (validation.Count + subject.Count() <= _size.Validation)
                validation.AddRange(subject);
            else
                training.AddRange(subject);
        }
        return new WorldSplit(training, validation, heldOut);
    }
}
