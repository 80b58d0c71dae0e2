using MendCluster.Torch;

namespace TorchSharp;

public enum DeviceType
{
    CPU = 0,
    CUDA = 1,
}

public static partial class torch
{
    public static readonly Device CPU = new(DeviceType.CPU);

    /// <summary>Where a tensor lives.</summary>
    public sealed class Device : IEquatable<Device>
    {
        /// <param name="index">Of the GPU; -1 means the current one, and for the CPU nothing.</param>
        public Device(DeviceType deviceType, int index = -1) => (type, this.index) = (deviceType, index);

        /// <param name="description"><c>cpu</c>, <c>cuda</c> or <c>cuda:1</c>.</param>
        public Device(string description)
        {
            var parts = description.Split(':');
            type = parts[0] switch
            {
                "cpu" => DeviceType.CPU,
                "cuda" => DeviceType.CUDA,
                _ => throw new ArgumentException($"device '{description}' is not known; known: cpu, cuda, cuda:N"),
            };
            index = parts.Length == 1 ? -1 : int.Parse(parts[1], System.Globalization.CultureInfo.InvariantCulture);
        }

        public DeviceType type { get; }

        public int index { get; }

        public static implicit operator Device(string description) => new(description);

        public bool Equals(Device? other) => other is not null && type == other.type && index == other.index;

        public override bool Equals(object? obj) => Equals(obj as Device);

        public override int GetHashCode() => HashCode.Combine(type, index);

        public override string ToString() => type == DeviceType.CPU ? "cpu" : index < 0 ? "cuda" : $"cuda:{index}";
    }

    /// <summary>A source of random numbers with a state of its own.</summary>
    public sealed class Generator : IDisposable
    {
        private readonly GeneratorHandle _handle;

        public unsafe Generator(ulong seed = 0, Device? device = null)
        {
            if (device is { type: not DeviceType.CPU })
                throw new NotSupportedException($"a generator on {device} is not supported; draw on the CPU and copy");
            LibraryLoader.EnsureLoaded();
            nint generator;
            if (Native.mt_generator(seed, &generator) != 0)
                throw Dispatcher.Failure("Generator");
            _handle = new(generator);
        }

        internal nint Pointer => _handle.IsClosed
            ? throw new ObjectDisposedException(nameof(Generator))
            : _handle.DangerousGetHandle();

        public void Dispose() => _handle.Dispose();
    }

    public static class cuda
    {
        public static bool is_available()
        {
            LibraryLoader.EnsureLoaded();
            return Native.mt_cuda_available() != 0;
        }
    }
}
