using MendCluster.Engine.Data;

namespace MendCluster.Experiments;

/// <summary>What an unrelated question has to do with an edit.</summary>
public enum Stratum
{
    /// <summary>It asks for another fact about the edited subject.</summary>
    SameSubject,

    /// <summary>It asks for the same relation of another subject.</summary>
    SameRelation,

    /// <summary>Neither.</summary>
    Far,
}

/// <summary>
/// Edits of known facts, all of which can be made together or one after another, and half as many facts that none of them changes: the
/// held-out part of a large world, a thousand and five hundred. Rephrases and unrelated questions are in wordings that no editor is trained on.
/// </summary>
public sealed class ThousandFacts
{
    /// <summary>Of the facts that stay, so many of five are about a subject that is edited too.</summary>
    private const int OfEditedSubjects = 4;

    /// <summary>One edit in so many has another about a made-up subject beside it.</summary>
    private const int EditsToOneMadeUp = 4;

    private readonly ulong _seed;
    private readonly Dictionary<string, Fact> _asked;
    private readonly Dictionary<string, Fact> _seats; // by firm
    private readonly HashSet<Fact> _changed;

    public ThousandFacts(ulong seed, WorldSize size)
    {
        (_seed, World) = (seed, World.Generate(seed, size));
        var heldOut = World.Split.HeldOut;
        var subjects = Prng.At(seed, 20).Shuffle(heldOut.GroupBy(fact => fact.Subject));
        var most = heldOut.Count / 3;
        var beside = subjects.Where(facts => facts.Count() > 1).Take(most * OfEditedSubjects / 5)
            .Select((facts, i) => Prng.At(seed ^ 20, (ulong)i).Pick([.. facts]));
        List<Fact> staying = [.. beside, .. subjects.Where(facts => facts.Count() == 1).SelectMany(facts => facts).Take(most / 5)];
        Staying = staying;
        var rng = Prng.At(seed, 21);
        Edited = rng.Shuffle(heldOut.Except(staying));
        Edits = [.. Edited.Select(fact => World.Edit(fact, Staying, rng, newPhrasings: true))];
        _changed = [.. Edited];
        _seats = World.Facts.Where(fact => fact.Relation == WorldRelations.Headquarters).ToDictionary(fact => fact.Subject.Name);
        var madeUp = World.OfUnseenSubjects(Edited.Take(Edited.Count / EditsToOneMadeUp), rng);
        MadeUp = [.. madeUp.Select(fact => World.Edit(fact, Staying, rng, newPhrasings: true))];
        _asked = World.Facts.Concat(madeUp).SelectMany(fact => fact.Questions().Select(question => (question, fact)))
            .ToDictionary(asked => asked.question, asked => asked.fact);
    }

    public World World { get; }

    /// <summary>In the order in which they are edited.</summary>
    public IReadOnlyList<Fact> Edited { get; }

    /// <summary>What no edit changes.</summary>
    public IReadOnlyList<Fact> Staying { get; }

    public IReadOnlyList<EditExample> Edits { get; }

    /// <summary>
    /// Edits about made-up subjects, of names that no training has: to be made in a model of their own, alone or together.
    /// </summary>
    public IReadOnlyList<EditExample> MadeUp { get; }

    /// <summary>
    /// Every fact in every wording, in a random order of the facts, then <see cref="TwoSteps"/> of all: what the model is to know.
    /// </summary>
    public IReadOnlyList<QaPair> Questions => [.. Prng.At(_seed, 19).Shuffle(World.Facts)
        .SelectMany(fact => fact.Questions().Select(question => new QaPair(question, fact.Object))),
        .. World.Facts.Where(fact => fact.Relation == WorldRelations.Employer).SelectMany(job => TwoSteps(job, _seats[job.Object].Object))];

    /// <summary>
    /// What follows from an edit of somebody's employer, where that firm's seat stays, or of a firm's seat, for somebody who stays with it.
    /// </summary>
    /// <returns>None for other edits.</returns>
    public IReadOnlyList<QaPair> Implied(Fact edited, string target)
    {
        if (edited.Relation == WorldRelations.Employer)
            return _changed.Contains(_seats[target]) ? [] : TwoSteps(edited, _seats[target].Object);
        return edited.Relation == WorldRelations.Headquarters && World.Facts.FirstOrDefault(fact => fact.Relation == WorldRelations.Employer
            && fact.Object == edited.Subject.Name && !_changed.Contains(fact)) is { } job ? TwoSteps(job, target) : [];
    }

    /// <summary>Where somebody's employer is based.</summary>
    private static IReadOnlyList<QaPair> TwoSteps(Fact job, string city) =>
        [new($"Where is the company that employs {job.Subject.Name} based?", city), new($"In which city is {job.Subject.Short}'s employer based?", city)];

    /// <summary>One wording of each training fact, with its answer: what an editor may be told to leave as it is.</summary>
    public IReadOnlyList<QaPair> Known => [.. World.Split.Training.Select(fact => new QaPair(fact.Question(0), fact.Object))];

    /// <summary>
    /// The training facts in the wordings of editor training, with others beside them: what a router learns from.
    /// </summary>
    public IReadOnlyList<EditExample> RouterEdits => World.EditExamples(World.Split.Training, Prng.At(_seed, 21));

    /// <summary>A question about each fact that stays, in a wording that no editor is trained on.</summary>
    public IReadOnlyList<QaPair> Unrelated =>
        [.. Staying.Select((fact, i) => new QaPair(Prng.At(_seed, 22 + (ulong)i).Pick([.. fact.Questions().TakeLast(World.NewPhrasings)]), fact.Object))];

    /// <param name="edited">The prompt of one of <see cref="Edits"/> or <see cref="MadeUp"/>.</param>
    /// <param name="asked">One of its unrelated questions.</param>
    public Stratum StratumOf(string edited, string asked)
    {
        var (edit, other) = (_asked[edited], _asked[asked]);
        return other.Subject == edit.Subject ? Stratum.SameSubject
            : other.Relation == edit.Relation ? Stratum.SameRelation : Stratum.Far;
    }

    /// <summary>What editors are trained, chosen and measured with.</summary>
    public IEditTask Task(TextBatch text) => new EditTask(this, text);

    private sealed class EditTask(ThousandFacts facts, TextBatch text) : IEditTask
    {
        private readonly EditSampler _order = new(facts._seed, facts.World.Split.Training.Count, 0, sameRows: false, 1, 0);

        public string Digest => DataFile.Digest(new { facts._seed, facts.World.Facts, facts.Edits });

        public int ValidationCount => facts.World.Split.Validation.Count;

        public int CaseCount => facts.Edits.Count;

        public EditRows Training(long iteration) => text.Rows(facts.World.TrainingEdit(
            facts.World.Split.Training[_order.At(iteration).Edits[0]], Prng.At(facts._seed, (ulong)iteration)));

        public EditRows Validation(int i)
        {
            var unseen = facts.World.Split.Validation;
            return text.Rows(facts.World.Edit(unseen[i], unseen, Prng.At(facts._seed + 1, (ulong)i), newPhrasings: true));
        }

        public EditRows Case(int i) => text.Rows(facts.Edits[i]) with
        {
            Implied = [.. facts.Implied(facts.Edited[i], facts.Edits[i].Target).Select(pair => text.Row(pair.Question, pair.Answer))],
        };
    }
}
