using System.CommandLine;
using System.Net;
using System.Net.Http.Headers;
using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Files;
using MendCluster.Engine.Routing;
using MendCluster.Engine.Training;

namespace MendCluster.Cli;

/// <summary>
/// <c>mend fetch</c>: the files of one stage of a model that <c>mend import</c> wrote and somebody put on a web server, Hugging Face's or
/// another.
/// </summary>
internal static class FetchCommand
{
    /// <summary>The bearer token, if the server asks for one: an argument would be seen by everybody.</summary>
    private const string Token = "MEND_FETCH_TOKEN";

    private const string Index = "model.safetensors.index.json";

    public static Command Create()
    {
        var from = new Option<string>("--from")
        {
            Description =
            $"address of the folder that mend import wrote, such as https://huggingface.co/NAME/resolve/REVISION; {Token} has its bearer token",
            Required = true
        };
        var stages = new Option<int>("--stages") { Description = "pipeline stages", Required = true }.Within(1);
        var ordinal = new Option<int>("--ordinal") { Description = "of the pod: replica x stages + stage", Required = true }.Within(0);
        var editor = new Option<string?>("--editor")
        {
            Description =
            "file of the editor there; without it none is fetched, unless it is editor.safetensors"
        };
        var output = new Option<DirectoryInfo>("--out")
        {
            Description =
            "directory to fill; what mend fetch left there of the same model is not fetched again, what it left of another is deleted",
            Required = true
        };
        var command = new Command("fetch", "Fetch the files of one stage from a web server") { from, stages, ordinal, editor, output };
        command.SetCancellableAction(async (parsed, cancellation) =>
        {
            if (!Uri.TryCreate(parsed.GetRequiredValue(from), UriKind.Absolute, out var address)
                || address.Scheme is not ("http" or "https"))
                throw new MendException(MendError.InvalidOption, $"--from is '{parsed.GetRequiredValue(from)}'.",
                    "Give an http or https address.");
            using var client = new HttpClient { Timeout = Timeout.InfiniteTimeSpan };
            if (Environment.GetEnvironmentVariable(Token) is { Length: > 0 } token)
                client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
            var folder = parsed.GetRequiredValue(output).FullName;
            using var own = OwnFolder.Take(folder, "mend fetch", [StageList.FileName, "config.json"]);
            var files = new Files(client, address.AbsoluteUri.TrimEnd('/'), folder);
            var list = await files.FetchListAsync(cancellation);
            if (list.Stages.Count != parsed.GetValue(stages))
                throw new MendException(MendError.InvalidOption,
                    $"--stages is {parsed.GetValue(stages)}; {address} was written for {list.Stages.Count}.",
                    "Import the model for that many stages: mend import --stages.");
            await files.FetchAsync("config.json", isNeeded: true, isFresh: true, cancellation);
            var named = parsed.GetValue(editor);
            foreach (var file in (IEnumerable<string>)[.. HuggingFaceWriter.Beside.Where(file => file != "config.json"), Index,
                named ?? EditorCheckpoint.FileName, ReplaySet.FileName, EditRouter.FileName])
                await files.FetchAsync(file, isNeeded: file == named, isFresh: true, cancellation);
            foreach (var file in list.Stages[parsed.GetValue(ordinal) % list.Stages.Count])
                await files.FetchAsync(file, isNeeded: true, isFresh: false, cancellation);
            Say.Line($"Stage {parsed.GetValue(ordinal) % list.Stages.Count} of {list.Stages.Count} is in {folder}: {files.Fetched} file(s) fetched, {files.Bytes / 1e6:0.0} MB; {files.There} were there.");
        });
        return command;
    }

    private sealed class Files(HttpClient client, string address, string folder)
    {
        public int Fetched { get; private set; }

        public int There { get; private set; }

        public long Bytes { get; private set; }

        /// <summary>
        /// The list is put in place once the files of the model that was here before, which may be of the same lengths, are deleted:
        /// wherever this is cut off, no file of that model counts as one of this.
        /// </summary>
        /// <exception cref="MendException">It, or the one that is here, cannot be read.</exception>
        public async Task<StageList> FetchListAsync(CancellationToken cancellation)
        {
            var aside = Directory.CreateDirectory(Path.Combine(folder, ".list")).FullName;
            await new Files(client, address, aside).FetchAsync(StageList.FileName, isNeeded: true, isFresh: true, cancellation);
            var list = StageList.Read(aside)!;
            if (StageList.Read(folder) is { } old && old.Fingerprint != list.Fingerprint)
                foreach (var file in old.Stages.SelectMany(files => files).Distinct())
                    File.Delete(Path.Combine(folder, file));
            File.Move(Path.Combine(aside, StageList.FileName), Path.Combine(folder, StageList.FileName), overwrite: true);
            Directory.Delete(aside);
            Fetched++;
            return list;
        }

        /// <summary>A file is there whole or not at all.</summary>
        /// <param name="isNeeded">Otherwise the server need not have it.</param>
        /// <param name="isFresh">Fetched even if one of its length is there: small, and may have changed.</param>
        public async Task FetchAsync(string name, bool isNeeded, bool isFresh, CancellationToken cancellation)
        {
            var (path, part) = (Path.Combine(folder, name), Path.Combine(folder, $"{name}.part"));
            var place = string.Join('/', name.Split('/').Select(Uri.EscapeDataString));
            try
            {
                Directory.CreateDirectory(Path.GetDirectoryName(path)!);
                using var response = await client.GetAsync(new Uri($"{address}/{place}"), HttpCompletionOption.ResponseHeadersRead,
                    cancellation);
                if (response.StatusCode == HttpStatusCode.NotFound && !isNeeded)
                    return;
                if (!response.IsSuccessStatusCode)
                    throw Failed(name, $"the server answers {(int)response.StatusCode} {response.ReasonPhrase}",
                        response.StatusCode is HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden
                        ? $"{Token} has the token of somebody who may read it."
                        : "It is a folder that mend import wrote, with the editor beside it.");
                var length = response.Content.Headers.ContentLength;
                if (!isFresh && length is not null && File.Exists(path) && new FileInfo(path).Length == length)
                {
                    There++;
                    return;
                }
                await using (var file = File.Create(part))
                {
                    await response.Content.CopyToAsync(file, cancellation);
                    if (length is not null && file.Length != length)
                        throw Failed(name, $"{file.Length} bytes came of {length}", "Try again.");
                    Bytes += file.Length;
                }
                File.Move(part, path, overwrite: true);
                Fetched++;
            }
            catch (Exception e) when (e is HttpRequestException or IOException or UnauthorizedAccessException)
            {
                throw Failed(name, e.Message, "Try again; what has been fetched stays.", e);
            }
        }

        private MendException Failed(string name, string why, string hint, Exception? cause = null) =>
            new(MendError.FileUnusable, $"{address}/{name} cannot be fetched: {why}.", hint, cause);
    }
}
