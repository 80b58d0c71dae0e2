using System.Text;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Data;

public sealed class ZsReTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("zsre").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Export_GivesPromptTargetRephraseAndLocalityInNqForm()
    {
        var path = Write("""
            [{"subject": "Messi", "src": "Which club has Messi?", "pred": "Barça B", "rephrase": "Messi's club?", "alt": "PSG",
              "answers": ["Barcelona", "FC Barcelona"], "loc": "nq question: who sang nice day", "loc_ans": "Billy Idol", "cond": "x"},
             {"subject": "S", "src": "Q?", "rephrase": "R?", "alt": "A", "loc": "Who is it?", "loc_ans": "B"}]
            """);

        var rows = ZsRe.ReadExport(path);

        Assert.Equal(2, rows.Count);
        Assert.Equal(("Which club has Messi?", "PSG", "Barcelona", "Messi"),
            (rows[0].Prompt, rows[0].Target, rows[0].Answer, rows[0].Subject));
        Assert.Equal(["Messi's club?"], rows[0].Rephrases);
        Assert.Equal([new QaPair("Who sang nice day?", "Billy Idol")], rows[0].Locality);
        Assert.Equal([new QaPair("Who is it?", "B")], rows[1].Locality);
        Assert.Null(rows[1].Answer);
    }

    [Fact]
    public void Export_LeavesOutRowsWithNothingToEditTo()
    {
        const string row = """{"subject": "S", "src": "Q?", "rephrase": "R?", "alt": "A", "loc": "l", "loc_ans": "B"}""";
        var path = Write($"[{row}, {row.Replace("\"A\"", "\" \"", StringComparison.Ordinal)}, {row.Replace("R?", "", StringComparison.Ordinal)}]");
        Assert.Equal("A", Assert.Single(ZsRe.ReadExport(path)).Target);
    }

    [Theory]
    [InlineData("""[{"subject": "S", "src": "Q?", "rephrase": "R?", "loc": "l", "loc_ans": "B"}]""",
        "item 0: found an object without the field \"alt\"")]
    [InlineData("""[{"subject": "S", "src": "Q?", "rephrase": "R?", "alt": 3, "loc": "l", "loc_ans": "B"}]""",
        "item 0, field \"alt\": found 3; write a string")]
    [InlineData("""[{"subject": "S", "src": ["Q?"], "rephrase": "R?", "alt": "A", "loc": "l", "loc_ans": "B"}]""",
        "item 0, field \"src\": found a list; write a string")]
    [InlineData("[7]", "item 0: found 7; write an object")]
    [InlineData("""[{"requested_rewrite": {"prompt": "{} is"}}]""",
        "item 0: found an object with neither \"src\" (as zsRE is exported) nor \"target_new\" (as in EasyEdit's KnowEdit)")]
    [InlineData("""{"src": "Q?"}""", "the file: found an object; write a list")]
    [InlineData("[\n{\"src\": \"Q?\"\n", "line 3: not JSON")]
    [InlineData("", "line 1: not JSON")]
    [InlineData("[]", "found no usable row")]
    public void Export_InAnotherForm_IsRefusedByFilePlaceFieldAndFinding(string text, string expected) =>
        Refusals.AssertRefused(Write(text), ZsRe.ReadExport, expected);

    /// <summary>EasyEdit's newer files: a true answer is a text, a list of texts that mean the same, or a list of such lists.</summary>
    [Fact]
    public void KnowEdit_GivesEveryKindOfLocality_AndTheFirstOfEachTrueAnswer()
    {
        var path = Write("""
            [{"subject": "Ep", "target_new": "Noc", "prompt": "Which family has Ep?", "ground_truth": ["Asp", "Aspi"],
              "rephrase_prompt": "What family is Ep?", "cond": "x",
              "locality": {"Relation_Specificity": [{"prompt": "The rank of Ep is", "ground_truth": [["genus", "Genus"]]},
                {"prompt": "Ep rank", "ground_truth": "genus"}],
                "Forgetfulness": [{"prompt": "The family, which is not Noc, is", "ground_truth": ["Asp"]}]},
              "portability": {"Reasoning": [{"prompt": "y", "ground_truth": "z"}]}},
             {"target_new": "B", "prompt": "P?", "rephrase_prompt": "R?", "locality": {}, "ground_truth": "A"},
             {"target_new": "B", "prompt": "P2?", "rephrase_prompt": "R2?", "locality_prompt": "L?", "locality_ground_truth": "M",
              "locality": null, "ground_truth": null}]
            """);
        var rows = ZsRe.ReadExport(path);
        Assert.Equal([("Which family has Ep?", "Noc", "Asp"), ("P?", "B", "A"), ("P2?", "B", null)],
            rows.Select(row => (row.Prompt, row.Target, row.Answer)));
        Assert.Equal(["What family is Ep?", "R?", "R2?"], rows.SelectMany(row => row.Rephrases));
        Assert.Equal([new("The rank of Ep is", "genus"), new("Ep rank", "genus"), new("The family, which is not Noc, is", "Asp")],
            rows[0].Locality);
        Assert.Empty(rows[1].Locality);
        Assert.Equal([new("L?", "M")], rows[2].Locality);
    }

    [Theory]
    [InlineData("""{"prompt": "P?", "target_new": "A"}""", "item 0: found an object without the field \"rephrase_prompt\"")]
    [InlineData("""{"prompt": "P?", "target_new": "A", "rephrase_prompt": "R?", "locality": {"K": [{"prompt": "L?"}]}}""",
        "item 0, field \"locality\", field \"K\", item 0: found an object without the field \"ground_truth\"")]
    [InlineData(
        """{"prompt": "P?", "target_new": "A", "rephrase_prompt": "R?", "locality": {"K": [{"prompt": "L?", "ground_truth": [[]]}]}}""",
        "field \"ground_truth\", item 0: found an empty list")]
    [InlineData(
        """{"prompt": "P?", "target_new": "A", "rephrase_prompt": "R?", "locality": {"K": [{"prompt": "", "ground_truth": "x"}]}}""",
        "field \"prompt\": found an empty text")]
    [InlineData("""{"prompt": "P?", "target_new": "A", "rephrase_prompt": "R?", "locality": []}""",
        "field \"locality\": found a list; write an object")]
    [InlineData("""{"prompt": "P?", "target_new": "A", "rephrase_prompt": "R?", "ground_truth": [" "]}""", "item 0: found an empty text")]
    public void KnowEdit_InAnotherForm_IsRefusedByPlaceAndField(string row, string expected) =>
        Refusals.AssertRefused(Write($"[{row}]"), ZsRe.ReadExport, expected);

    [Fact]
    public void Export_WithBytesThatAreNotUtf8_IsRefused()
    {
        byte[] json =
        [
            .. """[{"subject": "S", "src": "Q"""u8, 0xC3, 0x28,
            .. "\", \"rephrase\": \"R?\", \"alt\": \"A\", \"loc\": \"l\", \"loc_ans\": \"B\"}]"u8,
        ];
        Refusals.AssertRefused(Write(json), ZsRe.ReadExport, "item 0, field \"src\": found bytes that are not UTF-8");
    }

    [Theory]
    [InlineData("", "B", "item 1, field \"loc\": found an empty text")]
    [InlineData(" ", "B", "item 1, field \"loc\": found an empty text")]
    [InlineData("l", "", "item 1, field \"loc_ans\": found an empty text")]
    public void Export_WithAnEmptyLocality_IsRefusedByItemAndField(string loc, string answer, string expected)
    {
        string Row(string question, string locality) =>
            $$"""{"subject": "s", "src": "Q?", "rephrase": "R?", "alt": "A", "loc": "{{question}}", "loc_ans": "{{locality}}"}""";
        Refusals.AssertRefused(Write($"[{Row("l", "B")}, {Row(loc, answer)}]"), ZsRe.ReadExport, expected);
    }

    [Fact]
    public void ARowThatAModelCannotBeAsked_IsRefusedWithItsPlace()
    {
        var path = Write("""
            {"input": "Q?", "prediction": "p", "alternatives": ["A"], "filtered_rephrases": ["R1?"], "output": [{"answer": "true"}]}
            {"input": "is it", "prediction": "p", "alternatives": ["perhaps"], "filtered_rephrases": ["R2?"], "output": [{"answer": "true2"}]}
            """);
        var row = ZsRe.ReadPaper(path, new Prng(0))[1];
        using var model = new TemporaryFolder();
        TinyModels.Write(model.Path, TinyModels.Classifier);
        var text = new TextBatch(ModelFamily.FromDirectory(model.Path), TokenizerFiles.Load(model.Path));
        Refusals.AssertRefused(path, _ => text.Rows(row with { Rephrases = [] }), "line 2");
        Refusals.AssertRefused(path, _ => text.Rows(row with { Rephrases = [] }), "\"perhaps\" of \"is it\"");
    }

    [Fact]
    public void Paper_GivesAnAlternativeTheOtherRephrasesAndTheTrueAnswer()
    {
        var path = Write("""
            {"input": "Q?", "prediction": "p", "alternatives": ["A", "B"], "filtered_rephrases": ["Q?", "R1?", "Q?"], "output": [{"answer": "true"}, {"answer": "x"}]}

            {"input": "Q2?", "prediction": "p", "alternatives": ["A"], "filtered_rephrases": ["R2?"], "output": [{"answer": "true2"}]}
            """);

        var rows = ZsRe.ReadPaper(path, new Prng(0));

        Assert.Equal(["Q?", "Q2?"], rows.Select(row => row.Prompt));
        Assert.Equal(["R1?", "Q?"], rows[0].Rephrases); // the prompt's first occurrence goes, a second stays
        Assert.Equal(["true", "true2"], rows.Select(row => row.Answer));
        Assert.Contains(rows[0].Target, (string[])["A", "B"]);
    }

    [Fact]
    public void Paper_DrawsEachAlternativeSometimes()
    {
        var path = Write("""{"input": "Q?", "alternatives": ["A", "B"], "filtered_rephrases": ["R?"], "output": [{"answer": "t"}]}""");
        var targets = Enumerable.Range(0, 50).Select(seed => ZsRe.ReadPaper(path, new Prng((ulong)seed))[0].Target);
        Assert.Equal(["A", "B"], targets.Distinct().Order());
    }

    [Fact]
    public void Paper_LeavesOutRowsThatLackAPartOfAnEdit()
    {
        var path = Write("""
            {"input": "no alternative", "alternatives": [], "filtered_rephrases": ["R?"], "output": [{"answer": "t"}]}
            {"input": "no rephrase", "alternatives": ["A"], "filtered_rephrases": [], "output": [{"answer": "t"}]}
            {"input": "only itself", "alternatives": ["A"], "filtered_rephrases": ["only itself"], "output": [{"answer": "t"}]}
            {"input": " ", "alternatives": ["A"], "filtered_rephrases": ["no prompt"], "output": [{"answer": "t"}]}
            {"input": "no answer", "alternatives": ["A"], "filtered_rephrases": ["R?"], "output": [{"answer": ""}]}
            {"input": "blank rephrase", "alternatives": ["A"], "filtered_rephrases": [" "], "output": [{"answer": "t"}]}
            {"input": "kept", "alternatives": ["A"], "filtered_rephrases": ["kept", "kept"], "output": [{"answer": "t"}]}
            """);
        Assert.Equal("kept", Assert.Single(ZsRe.ReadPaper(path, new Prng(0))).Prompt);
    }

    [Theory]
    [InlineData("{\"input\": \"Q?\", \"alternatives\": [\"A\"], \"filtered_rephrases\": [\"R?\"]}",
        "line 2: found an object without the field \"output\"")]
    [InlineData("{\"input\": \"Q?\", \"alternatives\": [\"A\"], \"filtered_rephrases\": [\"R?\"], \"output\": []}",
        "line 2, field \"output\": found an empty list")]
    [InlineData("{\"input\": \"Q?\", \"alternatives\": [\"A\"], \"filtered_rephrases\": [\"R?\"], \"output\": [{}]}",
        "line 2, field \"output\", item 0: found an object without the field \"answer\"")]
    [InlineData("{\"input\": \"Q?\", \"alternatives\": [null]}", "line 2, field \"alternatives\", item 0: found null; write a string")]
    [InlineData("{\"input\": \"Q?\"", "line 2: not JSON")]
    [InlineData("[1]", "line 2: found a list; write an object")]
    public void Paper_InAnotherForm_IsRefusedByLineFieldAndFinding(string line, string expected) =>
        Refusals.AssertRefused(
            Write("{\"input\": \"Q?\", \"alternatives\": [], \"filtered_rephrases\": [], \"output\": [{\"answer\": \"t\"}]}\n" + line),
            path => ZsRe.ReadPaper(path, new Prng(0)), expected);

    [Fact]
    public void Tsv_GivesPairs_WithAnyLineEnd_WithoutRowsThatHaveNoAnswer()
    {
        var path = Write("Who is é?\tJosé \r\nWhat gender is she?\t\r\n\r\nQ?\tA");
        Assert.Equal([new QaPair("Who is é?", "José"), new QaPair("Q?", "A")], ZsRe.ReadTsv(path));
    }

    [Theory]
    [InlineData("Q?\tA\nQ? A", "line 2: found 0 tabs")]
    [InlineData("Q?\tA\n\nQ?\tA\tB", "line 3: found 2 tabs")]
    [InlineData("\n", "found no usable row")]
    public void Tsv_WithOtherThanOneTab_IsRefusedByLine(string text, string expected) =>
        Refusals.AssertRefused(Write(text), ZsRe.ReadTsv, expected);

    [Fact]
    public void Tsv_WithBytesThatAreNotUtf8_IsRefused() =>
        Refusals.AssertRefused(Write([.. "Q?\tA"u8, 0xE9, .. "\n"u8]), ZsRe.ReadTsv, "found bytes that are not UTF-8");

    [Fact]
    public void AGitLfsPointer_IsSaidToBeOne()
    {
        var path = Write("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1234\n");
        Refusals.AssertRefused(path, ZsRe.ReadExport, "is a git-LFS pointer");
        Refusals.AssertRefused(path, file => ZsRe.ReadPaper(file, new Prng(0)), "is a git-LFS pointer");
        Refusals.AssertRefused(path, ZsRe.ReadTsv, "is a git-LFS pointer");
    }

    [Fact]
    public void MissingFile_IsNamed()
    {
        var path = Path.Combine(_folder, "none.json");
        Assert.Contains(path, Assert.Throws<FileNotFoundException>(() => ZsRe.ReadExport(path)).Message, StringComparison.Ordinal);
    }

    private string Write(string text) => Write(Encoding.UTF8.GetBytes(text));

    private string Write(byte[] bytes)
    {
        var path = Path.Combine(_folder, "data");
        File.WriteAllBytes(path, bytes);
        return path;
    }
}
