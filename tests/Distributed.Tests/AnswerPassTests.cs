using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Models;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests;

/// <summary>Answers that are computed together are those that are computed alone.</summary>
public class AnswerPassTests
{
    /// <summary>Prompts, and the step in which they join. Some leave early; two are long and two short.</summary>
    private static readonly (string Prompt, int Joins, AskOptions Asked)[] Answers =
    [
        ("who is the mayor", 0, new(MaxTokens: 12)),
        ("what is red", 0, new(MaxTokens: 3)),
        ("who is the mayor of the old town by the river in the south", 2, new(MaxTokens: 12, Temperature: 1.5, Seed: 4)),
        ("a", 3, new(MaxTokens: 9)),
        ("what is blue", 3, new(MaxTokens: 9, Temperature: 2, Seed: 5)),
        ("is the mayor a woman", 7, new(MaxTokens: 4)),
    ];

    public static TheoryData<string, int> Layouts
    {
        get
        {
            var layouts = new TheoryData<string, int>();
            foreach (var family in TinyModels.Families.Append(TinyModels.Classifier))
                foreach (var stages in new[] { 1, 4 })
                    layouts.Add(family, stages);
            return layouts;
        }
    }

    [Theory]
    [MemberData(nameof(Layouts))]
    public void AnswersThatJoinAndLeave_AreThoseOfEachAlone(string family, int stages)
    {
        using var model = new ClusterOfTinyModel(family);
        using var pipeline = new Stages(model, stages);
        var alone = Answers.Select(answer => pipeline.Run([answer with { Joins = 0 }])[0]).ToList();
        Assert.All(pipeline.Passes, rows => Assert.Equal(1, rows));
        pipeline.Passes.Clear();
        var together = pipeline.Run(Answers);
        Assert.Equal(alone, together);
        Assert.Contains(pipeline.Passes, rows => rows >= (family == TinyModels.Classifier ? 2 : 4));
    }

    /// <summary>A pipeline of stages, driven step by step as coordinators do.</summary>
    private sealed class Stages : IDisposable
    {
        private readonly List<LoadedStage> _stages;
        private readonly ModelText _text;
        private long _sessions;

        public Stages(ClusterOfTinyModel model, int stages)
        {
            _stages = [.. Enumerable.Range(0, stages).Select(stage => LoadedStage.Read(new(model.Model, null, stage, stages), _ => { }))];
            _text = ModelText.Open(model.Model).Text;
        }

        /// <summary>Rows of every pass.</summary>
        public List<int> Passes { get; } = [];

        public List<string> Run(IReadOnlyList<(string Prompt, int Joins, AskOptions Asked)> answers)
        {
            var all = answers.Select(answer => (answer.Joins, answer.Asked, Generation: _text.Generation(answer.Prompt, answer.Asked),
                Sessions: _stages.Select(_ => new ShardSession()).ToList(), Number: ++_sessions)).ToList();
            var positions = new long[all.Count];
            for (var step = 0; all.Any(answer => !answer.Generation.IsDone); step++)
            {
                var going = Enumerable.Range(0, all.Count).Where(i => all[i].Joins <= step && !all[i].Generation.IsDone).ToList();
                var below = going.ToDictionary(i => i, _ => Boundary.None);
                var tokens = going.ToDictionary(i => i, i => ModelText.Next(all[i].Generation));
                foreach (var (stage, place) in _stages.Select((stage, place) => (stage, place)))
                {
                    using var scope = NewDisposeScope();
                    var waiting = going.ToDictionary(i => new WaitingAnswer(new(new(all[i].Number, ModelVersion.Base, tokens[i], below[i]),
                        positions[i], all[i].Asked), all[i].Sessions[place], WeightUpdates.None));
                    foreach (var group in AnswerPass.Groups(waiting.Keys))
                    {
                        Passes.Add(group.Count);
                        foreach (var (answer, reply) in AnswerPass.Run(stage, group, 1))
                        {
                            below[waiting[answer]] = reply.Result.Above;
                            if (reply.NextToken is { } token)
                                all[waiting[answer]].Generation.Take(token);
                        }
                    }
                }
                foreach (var i in going)
                {
                    positions[i] += (tokens[i].DecoderInputIds ?? tokens[i].InputIds).Shape[1];
                    if (all[i].Generation.IsDone)
                        all[i].Sessions.ForEach(session => session.Dispose());
                }
            }
            return [.. all.Select(answer => string.Join(' ', answer.Generation.Tokens))];
        }

        public void Dispose() => _stages.ForEach(stage => stage.Dispose());
    }
}
