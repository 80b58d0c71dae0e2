using System.Text.Encodings.Web;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using static TorchSharp.torch;

namespace MendCluster.Experiments;

/// <summary>
/// Writes sets for the three tasks in the published file forms, about the facts of the generated <see cref="World"/>: everything then runs
/// where the published data cannot be had. The training files are about the world's training subjects, the validation files about the
/// others, partly in wordings that no training file has. Predictions are the true answers: what a model that knows the world says.
/// </summary>
public static class SyntheticTasks
{
    private const int Alternatives = 3, TrainingTexts = 4000, ValidationTexts = 400, TrainingSamples = 2000, ValidationSamples = 200, ChoiceSamples = 100;
    private const int SampledTokens = 10, MoreSubjects = 6, MinPassage = 20, MaxPassage = 60;

    private const ulong MaxDraws = 20;

    private static readonly JsonSerializerOptions Json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>
    /// Any number of edits for the world of a seed, to be made together or one after another (<see cref="World.EditsAtOnce"/>).
    /// </summary>
    public static IReadOnlyList<EditExample> ManyEdits(ulong seed, int count) =>
        World.Generate(seed).EditsAtOnce(count, Prng.At(seed, 1000));

    /// <summary>
    /// Of a world's training facts, which no measured edit is about: a question about each of some, to probe with, and all wordings that
    /// editors are trained on of the others, to replay.
    /// </summary>
    public static (IReadOnlyList<Probe> Probes, IReadOnlyList<Probe> Replay) Known(World world, ulong seed, int probes)
    {
        var facts = Prng.At(seed, 16).Shuffle(world.Split.Training);
        return ([.. facts.Take(probes).Select(fact => new Probe(fact.Question(0), fact.Object))],
            [.. facts.Skip(probes).SelectMany(fact => fact.Questions().SkipLast(World.NewPhrasings)
            .Select(question => new Probe(question, fact.Object)))]);
    }

    /// <summary>Questions in zsRE's form, and others about the world in that of Natural Questions.</summary>
    public static void WriteQuestionAnswering(string folder, ulong seed)
    {
        var world = World.Generate(seed);
        // Every other fact between training and validation, so that the others can be asked whether they stay.
        WriteQuestions(folder, seed, fact => fact.Questions(), fact => fact.Object,
            fact => [.. world.Objects(fact.Relation.Answers).Where(other => other != fact.Object)], World.NewPhrasings,
            world.Split.Training, world.Split.HeldOut, [.. world.Split.Validation.Where((_, i) => i % 2 == 0)], world.Split.Validation,
            world.Questions());
    }

    /// <param name="ask">All wordings of the question for a fact.</param>
    /// <param name="others">What else a fact's object could be, and is not.</param>
    /// <param name="newWordings">How many of the last wordings are for the rephrases of validation and choice alone.</param>
    /// <param name="staying">What is asked as unrelated.</param>
    /// <param name="known">What a model is to know.</param>
    internal static void WriteQuestions<T>(string folder, ulong seed, Func<T, IReadOnlyList<string>> ask, Func<T, string> objectOf,
        Func<T, IReadOnlyList<string>> others, int newWordings, IReadOnlyList<T> training, IReadOnlyList<T> validation,
        IReadOnlyList<T> choice, IReadOnlyList<T> staying, IEnumerable<QaPair> known)
    {
        WriteRows(Path.Combine(folder, TaskFolder.ZsReTraining),
            training.SelectMany((fact, i) => Rows(fact, inNewWordings: false, Prng.At(seed, (ulong)i))));
        WriteRows(Path.Combine(folder, TaskFolder.ZsReValidation),
            validation.SelectMany((fact, i) => Rows(fact, inNewWordings: true, Prng.At(~seed, (ulong)i)).Take(1)));
        // first of each a wording, then another
        WriteRows(Path.Combine(folder, TaskFolder.ChoiceQuestions),
            choice.Select((fact, i) => Rows(fact, inNewWordings: true, Prng.At(seed ^ ulong.MaxValue >> 1, (ulong)i)).Index())
            .SelectMany(rows => rows).OrderBy(row => row.Index).Select(row => row.Item));
        var asked = Prng.At(seed, ulong.MaxValue).Shuffle(staying);
        Write(Path.Combine(folder, TaskFolder.NqValidation), JsonSerializer.Serialize(new
        {
            questions = asked.Select(fact => char.ToLowerInvariant(ask(fact)[0][0]) + ask(fact)[0].TrimEnd('?')[1..]),
            answers = asked.Select(fact => new[] { objectOf(fact) }),
        }, Json));
        WriteTable(Path.Combine(folder, TaskFolder.KnownQuestions), known.Select(pair => new[] { pair.Question, pair.Answer }));

        // As published, every wording of a question is a row of its own.
        IEnumerable<object> Rows(T fact, bool inNewWordings, Prng rng)
        {
            var trained = ask(fact).SkipLast(newWordings).ToList();
            var rephrases = inNewWordings ? ask(fact).TakeLast(newWordings) : trained;
            foreach (var question in rng.Shuffle(trained))
                yield return Row(question, objectOf(fact), rng.Shuffle(others(fact)).Take(Alternatives), rephrases, objectOf(fact));
        }
    }

    /// <summary>
    /// Claims in FEVER's form: one of every fact, half of them true. Training's are also about subjects that are made up for it: FEVER has
    /// a hundred thousand claims to learn from, the world some hundred.
    /// </summary>
    public static void WriteFactChecking(string folder, ulong seed)
    {
        var world = World.Generate(seed);
        WriteClaims(folder, seed, WorldStatements.Of, fact => [.. world.Objects(fact.Relation.Answers).Where(other => other != fact.Object)],
            fact => fact.Object, World.NewPhrasings,
            [.. world.Split.Training, .. world.MoreTrainingFacts(MoreSubjects, Prng.At(seed, ulong.MaxValue))], world.Split.HeldOut,
            world.Split.Validation);
    }

    /// <summary>A true or a false claim of every fact.</summary>
    /// <param name="state">All wordings of a claim that the fact has an object.</param>
    /// <param name="others">What else a fact's object could be, and is not.</param>
    /// <param name="newWordings">How many of the last wordings are for validation's rephrases alone.</param>
    internal static void WriteClaims<T>(string folder, ulong seed, Func<T, string, IReadOnlyList<string>> state,
        Func<T, IReadOnlyList<string>> others, Func<T, string> objectOf, int newWordings, IReadOnlyList<T> training,
        IReadOnlyList<T> validation, IReadOnlyList<T> choice)
    {
        var (trained, validated) = (Draw(training, seed), Draw(validation, ~seed));
        var chosen = Draw(choice, seed ^ ulong.MaxValue >> 1);
        WriteRows(Path.Combine(folder, TaskFolder.FeverTraining), trained.Select(claim => Row(claim, claim.Wordings.SkipLast(newWordings))));
        WriteRows(Path.Combine(folder, TaskFolder.FeverValidation),
            validated.Select(claim => Row(claim, claim.Wordings.TakeLast(newWordings))));
        WriteRows(Path.Combine(folder, TaskFolder.ChoiceClaims), chosen.Select(claim => Row(claim, claim.Wordings.TakeLast(newWordings))));
        WriteTable(Path.Combine(folder, TaskFolder.KnownClaims),
            trained.Concat(validated).Concat(chosen).Select(claim => claim.Wordings.Prepend(claim.Label)));

        List<(IReadOnlyList<string> Wordings, string Prompt, string Label)> Draw(IReadOnlyList<T> facts, ulong stream) =>
        [.. facts.Select((fact, i) =>
        {
            var rng = Prng.At(stream, (ulong)i);
            var (answer, label) = rng.Next(2) == 0 ? (objectOf(fact), Fever.Supports) : (rng.Pick(others(fact)), Fever.Refutes);
            var wordings = state(fact, answer);
            return (wordings, rng.Pick(wordings.SkipLast(newWordings).ToList()), label);
        })];

        static object Row((IReadOnlyList<string> Wordings, string Prompt, string Label) claim, IEnumerable<string> rephrases) =>
            SyntheticTasks.Row(claim.Prompt, claim.Label, [Fever.Other(claim.Label)], rephrases, claim.Label);
    }

    /// <summary>Texts in the form of Wikitext-103 (raw), for training a model and as what must stay.</summary>
    public static void WriteTexts(string folder, ulong seed)
    {
        var world = World.Generate(seed);
        WriteLines(TaskFolder.WikitextTraining, TrainingTexts, seed);
        WriteLines(TaskFolder.WikitextValidation, ValidationTexts, ~seed);

        void WriteLines(string file, int count, ulong stream) => Write(Path.Combine(folder, file),
            string.Concat(Enumerable.Range(0, count).Select(i => $" {Paragraph(world, Prng.At(stream, (ulong)i))} \n")));
    }

    /// <summary>
    /// Edits of the generation task: beginnings of the folder's texts with <c>n_tokens</c> of 10 drawn from a model, as the paper draws
    /// them from distilGPT-2.
    /// </summary>
    /// <param name="folder">With the texts that <see cref="WriteTexts"/> wrote, or published ones.</param>
    /// <param name="model">A Hugging Face directory of a decoder-only model.</param>
    public static void WriteContinuations(string folder, string model, ulong seed, Action<int, int>? progress = null,
        int trainingSamples = TrainingSamples, int validationSamples = ValidationSamples, int choiceSamples = ChoiceSamples,
        CancellationToken cancellation = default)
    {
        using var files = HuggingFaceDirectory.Open(model);
        using var stage = Stage.LoadWhole(ModelFamily.FromDirectory(model), new CheckpointWeights(files, ScalarType.Float32), []);
        var text = new TextBatch(stage.Family, TokenizerFiles.Load(model));
        var tokenizer = TokenizerFiles.Load(model);
        foreach (var (file, stream, training, count) in new[] { (TaskFolder.ContinuationsTraining, seed, true, trainingSamples),
            (TaskFolder.ContinuationsValidation, ~seed, false, validationSamples),
            (TaskFolder.ContinuationsChoice, seed ^ ulong.MaxValue >> 1, true, choiceSamples) })
        {
            var texts = TaskFolder.Texts(folder, training);
            List<string> originals = [], completions = [];
            for (ulong draw = 0; completions.Count < count; draw++)
            {
                cancellation.ThrowIfCancellationRequested();
                if (draw > MaxDraws * (ulong)count)
                    throw new InvalidDataException($"{model}: after {draw} draws only {completions.Count} of {count} continuations of {SampledTokens} tokens. "
                        + $"Is it trained on texts like those in {folder}, and are they longer than {MinPassage + SampledTokens} tokens?");
                var rng = Prng.At(stream, draw);
                var ids = text.Tokens(rng.Pick(texts));
                var length = MinPassage + rng.Next(MaxPassage - MinPassage);
                if (ids.Length < length + SampledTokens)
                    continue;
                var sampled = Generation.Run(stage, ids[..length],
                    new AskOptions(SampledTokens, Temperature: 1, Seed: rng.Next(int.MaxValue)));
                var completion = tokenizer.Decode([.. ids[..length], .. sampled]);
                // What is read back must be scored on what was sampled; text can also be cut into tokens in another way.
                if (sampled.Count < SampledTokens || !text.Tokens(completion).AsSpan()[^SampledTokens..].SequenceEqual([.. sampled]))
                    continue;
                originals.Add(tokenizer.Decode(ids[..(length + SampledTokens)]));
                completions.Add(completion);
                progress?.Invoke(completions.Count, count);
            }
            Write(Path.Combine(folder, file),
                JsonSerializer.Serialize(new { n_tokens = SampledTokens, original = originals, completions }, Json));
        }
    }

    /// <summary>
    /// A walk through the world: all that is said of a subject, then of one that was named or of another, until it is long enough.
    /// </summary>
    private static string Paragraph(World world, Prng rng)
    {
        var sentences = new List<string>();
        var subject = rng.Pick(world.Facts).Subject;
        var told = new HashSet<Subject>();
        while (sentences.Sum(sentence => sentence.Split(' ').Length) < Wikitext.MinWords + 10)
        {
            told.Add(subject);
            var facts = rng.Shuffle(world.Facts.Where(fact => fact.Subject == subject));
            sentences.AddRange(facts.Select(fact => rng.Pick(WorldStatements.Of(fact, fact.Object))));
            var others = world.Facts.Where(fact => !told.Contains(fact.Subject)).ToList();
            var named = others.Where(fact => facts.Any(known => known.Object == fact.Subject.Name || known.Object == fact.Object)).ToList();
            subject = rng.Pick(named.Count > 0 ? named : others).Subject;
        }
        return string.Join(' ', sentences.Select(sentence => char.ToUpperInvariant(sentence[0]) + sentence[1..]));
    }

    private static object Row(string input, string prediction, IEnumerable<string> alternatives, IEnumerable<string> rephrases,
        string answer) => new
        {
            input,
            prediction,
            alternatives,
            filtered_rephrases = rephrases.Where(rephrase => rephrase != input),
            output = new[] { new { answer } },
        };

    /// <summary>
    /// Every wording with its answer: a model that met validation's wordings only there would not know that they say the same.
    /// </summary>
    private static void WriteTable(string path, IEnumerable<IEnumerable<string>> rows) =>
        Write(path, string.Concat(rows.Select(row => string.Join('\t', row) + "\n")));

    private static void WriteRows(string path, IEnumerable<object> rows) =>
        Write(path, string.Concat(rows.Select(row => JsonSerializer.Serialize(row, Json) + "\n")));

    private static void Write(string path, string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }
}
