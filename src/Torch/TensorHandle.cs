using System.Runtime.InteropServices;

namespace MendCluster.Torch;

/// <summary>Owns one reference to a native tensor.</summary>
internal sealed class TensorHandle : SafeHandle
{
    public TensorHandle(nint tensor)
        : base(0, ownsHandle: true) => SetHandle(tensor);

    public override bool IsInvalid => handle == 0;

    protected override bool ReleaseHandle()
    {
        Native.mt_release(handle);
        return true;
    }
}

/// <summary>Owns one reference to a native random generator.</summary>
internal sealed class GeneratorHandle : SafeHandle
{
    public GeneratorHandle(nint generator)
        : base(0, ownsHandle: true) => SetHandle(generator);

    public override bool IsInvalid => handle == 0;

    protected override bool ReleaseHandle()
    {
        Native.mt_generator_release(handle);
        return true;
    }
}
