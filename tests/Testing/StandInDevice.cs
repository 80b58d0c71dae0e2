using System.Reflection;
using System.Runtime.InteropServices;
using MendCluster.Engine.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace MendCluster.Testing;

/// <summary>
/// A device beside the CPU on any machine: libtorch's lazy tensors, which note down what is to be computed and have the CPU compute it when
/// a number is read. Their operations refuse CPU tensors as a GPU's do, so a tensor that is made on the wrong side is found without a GPU.
/// What libtorch 2.10 gets wrong there is left to GPUs: the parts that split makes are on the CPU (gpt2), and a gradient that passes a
/// number without dimensions times a plain number becomes float64, which the next product refuses (weighted losses).
/// </summary>
public static class StandInDevice
{
    public const string Name = "stand-in";

    private const DeviceType Lazy = (DeviceType)17;

    /// <summary>Of the libtorch that is loaded; <see cref="Name"/> names it from now on.</summary>
    public static Device Device { get; } = Begin();

    private static Device Begin()
    {
        _ = CPU; // libtorch is loaded
        InitTorchScriptBackend();
        var device = new Device(Lazy, 0);
        typeof(Devices).GetProperty("StandIn", BindingFlags.Static | BindingFlags.NonPublic)!.SetValue(null,
            ((string, Device)?)(Name, device));
        return device;
    }

    [DllImport("torch_cpu", EntryPoint = "_ZN5torch4lazy22InitTorchScriptBackendEv")]
    private static extern void InitTorchScriptBackend();
}
