using System.Text.Json;
using MendCluster.Contracts;

namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// What stands beside a model that was written stage by stage: which files each stage reads, and the fingerprint of the whole, which a
/// folder with the files of one stage could not be asked for.
/// </summary>
/// <param name="Fingerprint">Hexadecimal.</param>
/// <param name="Stages">For each stage, bare names of files.</param>
public sealed record StageList(string Fingerprint, IReadOnlyList<IReadOnlyList<string>> Stages)
{
    public const string FileName = "stages.json";

    /// <returns>Null: there is none.</returns>
    /// <exception cref="MendException">It cannot be read.</exception>
    public static StageList? Read(string directory)
    {
        var path = Path.Combine(directory, FileName);
        try
        {
            return !File.Exists(path) ? null
                : JsonSerializer.Deserialize<StageList>(File.ReadAllText(path)) is
                {
                    Fingerprint: { Length: 64 } print,
                    Stages.Count: > 0
                } list && print.All(char.IsAsciiHexDigit)
                    && list.Stages.All(files => files is not null
                        && files.All(file => file is { Length: > 0 } && file == Path.GetFileName(file) && !file.Contains('\\'))) ? list
                : throw Fault.File(path, "stages",
                    "has no Fingerprint of 64 digits, or Stages that are no lists of bare names; write it again with mend import");
        }
        catch (JsonException e)
        {
            throw Fault.File(path, "stages", $"cannot be read: {e.Message}", e);
        }
    }

    public void Write(string directory) => File.WriteAllText(Path.Combine(directory, FileName), JsonSerializer.Serialize(this));
}
