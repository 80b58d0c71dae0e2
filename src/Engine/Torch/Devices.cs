using System.Diagnostics;
using System.Globalization;
using MendCluster.Contracts;
using TorchSharp;
using static TorchSharp.torch;

namespace MendCluster.Engine.Torch;

/// <summary>
/// Devices by name, and the two ways between a device and the host. What is known on the host stays there: token ids, masks, labels and the
/// rows that follow from them are CPU tensors, and go up where a pass needs them (<see cref="On"/>). Weights, activations, editors,
/// statistics and updates are on the stage's device, and what is made of them is made there. Numbers come down (<see cref="Host"/>) where a
/// caller is given them, several in one copy: each such copy waits until the device has done all that it was told.
/// </summary>
public static class Devices
{
    private const string Known = "A device is cpu, cuda (the first GPU), or cuda:0, cuda:1 and so on.";

    /// <summary>A device that tests compute on where there is no GPU, and its name; null: there is none.</summary>
    internal static (string Name, Device Device)? StandIn { get; set; }

    /// <summary>The device of this name.</summary>
    /// <exception cref="MendException">No such name, or no such device here.</exception>
    public static Device Of(string name)
    {
        if (StandIn is { } standIn && standIn.Name == name)
            return standIn.Device;
        if (IndexOf(name) is not { } index)
            return CPU;
        if (!cuda.is_available())
            throw new MendException(MendError.InvalidOption, $"The device {name} was asked for, and {Library()} sees no GPU.",
                "Use cpu; or run a build for GPUs (-p:Libtorch=cuda, or LIBTORCH with the torch folder of a PyTorch for CUDA: docs/gpu.md) where nvidia-smi lists one.");
        return index < cuda.device_count() ? new(DeviceType.CUDA, index)
            : throw new MendException(MendError.InvalidOption,
                $"The device {name} was asked for, and this machine's last GPU is cuda:{cuda.device_count() - 1}.",
                "Name one that is there.");
    }

    /// <summary>A list such as <c>cuda:0,cuda:1</c>, which shards have in turn. Says nothing about which devices are here.</summary>
    /// <exception cref="MendException">No such name.</exception>
    public static IReadOnlyList<string> Names(string list)
    {
        string[] names = [.. list.Split(',', StringSplitOptions.TrimEntries)];
        foreach (var name in names)
            if (StandIn?.Name != name)
                _ = IndexOf(name);
        return names;
    }

    /// <summary>
    /// The tensor on a device: itself where it is there already. A copy to a GPU is only begun; work on its result waits for it.
    /// </summary>
    public static Tensor On(this Tensor tensor, Device device) =>
        tensor.device_type == device.type && (device.type == DeviceType.CPU || tensor.device_index == device.index) ? tensor
        : device.type == DeviceType.CPU ? tensor.cpu()
        : tensor.to(device, non_blocking: true); // memory that is not pinned is taken over before this returns

    /// <summary>The tensor on the host, for reading: itself where it is there already. Waits for the device.</summary>
    public static Tensor Host(this Tensor tensor) => tensor.On(CPU);

    /// <summary>Several float32 tensors as numbers, one after another, in one copy.</summary>
    public static float[] Numbers(params IEnumerable<Tensor> tensors)
    {
        using var scope = NewDisposeScope();
        return cat([.. tensors.Select(tensor => tensor.detach().reshape(-1))], 0).Host().data<float>().ToArray();
    }

    /// <returns>Null: the CPU.</returns>
    private static int? IndexOf(string name)
    {
        const string Cuda = "cuda";
        if (name == "cpu")
            return null;
        if (name == Cuda)
            return 0;
        return name.StartsWith(Cuda + ":", StringComparison.Ordinal)
            && int.TryParse(name.AsSpan(Cuda.Length + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var index) ? index
            : throw new MendException(MendError.InvalidOption, $"The device is \"{name}\".", Known);
    }

    /// <summary>Which libtorch runs, for people.</summary>
    private static string Library()
    {
        using var process = Process.GetCurrentProcess();
        List<ProcessModule> modules = [.. process.Modules.Cast<ProcessModule>()];
        ProcessModule? Loaded(string name) =>
            modules.FirstOrDefault(module => Path.GetFileNameWithoutExtension(module.FileName).EndsWith(name, StringComparison.Ordinal));
        return $"libtorch {__version__} ({(Loaded("torch_cuda") is null ? "a build for CPUs" : "a build for GPUs")}, {Path.GetDirectoryName(Loaded("torch_cpu")?.FileName)})";
    }
}
