using System.CommandLine;
using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Training;

namespace MendCluster.Cli;

/// <summary><c>mend preserve</c>: gives a trained MALMEN the keys of questions that its edits are to go round.</summary>
internal static class PreserveCommand
{
    public static Command Create()
    {
        var model = new Option<DirectoryInfo>("--model") { Description = "Hugging Face directory", Required = true };
        var editor = new Option<FileInfo?>("--editor")
        {
            Description = "file of a MALMEN editor; without it editor.safetensors in the model's directory"
        };
        var data = new Option<FileInfo[]>("--data")
        {
            Description = "questions with the answers that are to stay: .tsv, or edits in any form, of which the true answers count",
            Required = true,
            AllowMultipleArgumentsPerToken = true
        };
        var rounds = new Option<int?>("--rounds") { Description = "rounds of an edit; without it the editor's own" }.Within(1);
        var beta = new Option<double?>("--beta")
        {
            Description = "how much the questions count beside as many of the edits; without it the editor's own, 1 unless it was set"
        }.Within(0);
        var sequential = new Option<bool>("--sequential")
        {
            Description = "edits go round the keys of those before them too, and the questions count beside all of them together"
        };
        var output = new Option<FileInfo>("--out") { Description = "file of the new editor", Required = true };
        var device = DeviceOption.One();
        var command = new Command("preserve", "Give a trained MALMEN editor questions that its edits are to leave alone; nothing is trained")
            { model, editor, data, rounds, beta, sequential, output, device };
        command.SetAction(parsed =>
        {
            var (directory, target) = (parsed.GetRequiredValue(model).FullName, parsed.GetRequiredValue(output).FullName);
            var source = parsed.GetValue(editor)?.FullName ?? EditorCheckpoint.Beside(directory)
                ?? throw new MendException(MendError.EditorMissing, $"{directory} has no {EditorCheckpoint.FileName}.", "Name the editor's file with --editor.");
            if (File.Exists(target))
                throw new MendException(MendError.OutputTaken, $"{target} is there.", "Nothing was written. Name another file, or move it away.");
            var questions = QuestionAnswering.ReadQuestions([.. parsed.GetRequiredValue(data).Select(file => file.FullName)],
                withRewordings: false, seed: 1);
            LocalTraining.Preserve(directory, source, questions, parsed.GetValue(rounds), parsed.GetValue(beta), target,
                parsed.GetRequiredValue(device), parsed.GetValue(sequential));
            Say.Line($"The editor {target} goes round the keys of {questions.Count} questions.");
        });
        return command;
    }
}
