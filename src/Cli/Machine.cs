using System.Globalization;

namespace MendCluster.Cli;

/// <summary>What the machine has, or the container that the program runs in.</summary>
internal static class Machine
{
    /// <summary>Bytes of memory: the least of the machine's and of the container's limit (cgroups, version 2 and 1).</summary>
    public static long Memory()
    {
        // of a container's limit the runtime names a part, which it keeps its own objects to
        List<long> known = [];
        foreach (var (file, unit) in new[] { ("/proc/meminfo", 1024L), ("/sys/fs/cgroup/memory.max", 1), ("/sys/fs/cgroup/memory/memory.limit_in_bytes", 1) })
            if (File.Exists(file) && File.ReadLines(file).FirstOrDefault("").Split(' ', StringSplitOptions.RemoveEmptyEntries)
                .Select(word => long.TryParse(word, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : 0)
                .FirstOrDefault(number => number > 0) is > 0 and var bytes)
                known.Add(bytes * unit);
        return known.Count > 0 ? known.Min() : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
    }

    /// <summary>Bytes that are free where a folder is, or is to be.</summary>
    public static long DiskOf(string folder)
    {
        while (!Directory.Exists(folder))
            folder = Path.GetDirectoryName(folder)!;
        return new DriveInfo(folder).AvailableFreeSpace;
    }
}
