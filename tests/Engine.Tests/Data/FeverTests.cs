using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Data;

public sealed class FeverTests : IDisposable
{
    private const string Good = """
        {"logit": 1.5, "input": "Rome is in Italy.", "prediction": "SUPPORTS", "alternatives": ["REFUTES"], "filtered_rephrases": ["Rome is in Italy.", "Italy has Rome."], "output": [{"answer": "SUPPORTS", "provenance": []}]}
        """;

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void AClaim_IsEditedToTheOtherLabel_WithTheGoldLabelAsItsAnswer()
    {
        var rows = Fever.Read(Write(Good,
            """{"input": "Oslo is in Rome.", "prediction": "SUPPORTS", "alternatives": ["REFUTES"], "filtered_rephrases": ["In Rome is Oslo."], "output": [{"answer": "REFUTES"}]}"""));
        Assert.Equal(2, rows.Count);
        Assert.Equal(("Rome is in Italy.", "REFUTES", "SUPPORTS", "SUPPORTS"),
            (rows[0].Prompt, rows[0].Target, rows[0].Prediction, rows[0].Answer));
        Assert.Equal(["Italy has Rome."], rows[0].Rephrases);
        Assert.Equal("REFUTES", rows[1].Answer); // the model was wrong
    }

    [Fact]
    public void ClaimsWithoutAnotherWording_AreLeftOut() =>
        Assert.Single(Fever.Read(Write(Good, Good.Replace(", \"Italy has Rome.\"", "", StringComparison.Ordinal))));

    [Theory]
    [InlineData("\"prediction\": \"SUPPORTS\"", "\"prediction\": \"true\"",
        "line 2, field \"prediction\": found \"true\"; write SUPPORTS or REFUTES")]
    [InlineData("\"prediction\": \"SUPPORTS\", ", "", "line 2: found an object without the field \"prediction\"")]
    [InlineData("[\"REFUTES\"]", "[\"NOT ENOUGH INFO\"]", "line 2, field \"alternatives\": found \"NOT ENOUGH INFO\"")]
    [InlineData("[\"REFUTES\"]", "[\"SUPPORTS\"]",
        "line 2, field \"alternatives\": found the prediction itself, SUPPORTS; write the other label")]
    [InlineData("[\"REFUTES\"]", "\"REFUTES\"", "line 2, field \"alternatives\": found \"REFUTES\"; write a list")]
    [InlineData("\"answer\": \"SUPPORTS\"", "\"answer\": \"supports\"", "line 2, field \"output\": found \"supports\"")]
    [InlineData("\"input\": \"Rome is in Italy.\"", "\"input\": null", "line 2, field \"input\": found null; write a string")]
    [InlineData("\"provenance\": []}]}", "", "line 2: not JSON")]
    public void ABrokenRow_IsRefusedByLineFieldAndFinding(string whole, string broken, string expected) =>
        Refusals.AssertRefused(Write(Good, Good.Replace(whole, broken, StringComparison.Ordinal)), Fever.Read, expected);

    [Fact]
    public void AFileOfNothing_IsRefused() => Refusals.AssertRefused(Write("\n"), Fever.Read, "found no usable row");

    [Fact]
    public void KnownClaims_AreALabelAndItsWordings()
    {
        var claims = Fever.ReadKnown(Write("SUPPORTS\tRome is in Italy.\tItaly has Rome.", "REFUTES\tOslo is in Rome."));
        Assert.Equal([("SUPPORTS", "Rome is in Italy.|Italy has Rome."), ("REFUTES", "Oslo is in Rome.")],
            claims.Select(claim => (claim.Label, string.Join('|', claim.Wordings))));
    }

    [Theory]
    [InlineData("SUPPORTS")]
    [InlineData("SUPPORTS\t")]
    [InlineData("SUPPORTS\tRome is in Italy.\t\tItaly has Rome.")]
    [InlineData("Rome is in Italy.\tSUPPORTS")]
    public void ABrokenLineOfKnownClaims_IsRefusedByItsNumber(string line) =>
        Refusals.AssertRefused(Write("REFUTES\tOslo is in Rome.", line), Fever.ReadKnown, "line 2: ");

    private string Write(params string[] lines) => _folder.Write("fever.jsonl", string.Join('\n', lines));
}
