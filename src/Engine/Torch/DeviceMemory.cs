using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using MendCluster.Contracts;

namespace MendCluster.Engine.Torch;

/// <summary>What libtorch says when a device's memory is used up, as an error that callers know.</summary>
public static partial class DeviceMemory
{
    /// <returns>That error; anything else as it is.</returns>
    public static Exception Named(Exception e)
    {
        if (e is not ExternalException || Gpu().Match(e.Message) is var gpu && !gpu.Success && !Cpu().IsMatch(e.Message))
            return e;
        var what = gpu.Success ? $"The GPU's memory is used up: {gpu.Groups[1].Value.Trim()}"
            : $"The machine's memory is used up: {Cpu().Match(e.Message).Groups[1].Value} bytes more were asked for.";
        return new MendException(MendError.OutOfMemory, what,
            "Nothing was changed. Ask for less at once (a shorter text, fewer probes), hold the weights in 16 bits, or cut the model into more stages: mend plan says what each needs.", e);
    }

    /// <summary>
    /// CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.21 GiB is free. And so on.
    /// </summary>
    [GeneratedRegex(@"^CUDA out of memory\.((?:(?! is free\.)[^\n])*(?: is free\.)?)")]
    private static partial Regex Gpu();

    [GeneratedRegex(@"can't allocate memory: you tried to allocate (\d+) bytes")]
    private static partial Regex Cpu();
}
