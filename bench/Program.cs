// How long do an edit and a training step take, and how far is that from what the machine's matrix products allow?
//   ./mend bench                       every case, each in a process of its own, so that peak memory is its own
//   ./mend bench CASE DTYPE            one case: gpt2-small or t5-small, Float32 or BFloat16
using System.Diagnostics;
using MendCluster.Bench;

if (args is [var only, var dtype])
{
    EditBench.Run(only, dtype);
    return 0;
}
if (args.Length > 0)
{
    Console.Error.WriteLine("mend bench [gpt2-small | t5-small  Float32 | BFloat16]");
    return 2;
}
foreach (var name in EditBench.Cases)
    foreach (var type in new[] { "Float32", "BFloat16" })
    {
        using var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, [typeof(EditBench).Assembly.Location, name, type]))!;
        process.WaitForExit();
        if (process.ExitCode != 0)
            return process.ExitCode;
    }
return 0;
