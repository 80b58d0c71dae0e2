namespace MendCluster.Contracts;

/// <summary>
/// Element types of tensors, all little endian: on the wire, in the ledger, in memory and in checkpoints. The numbers stand in ledgers and
/// on the wire. Those after <see cref="Bool"/> are read by nothing here: a checkpoint's tensor of them is left alone, and copied as it is.
/// </summary>
public enum DType
{
    Float32 = 1,
    Int64 = 2,
    BFloat16 = 3,
    Float64 = 4,
    Float16,
    Int32,
    Int16,
    Int8,
    UInt8,
    Bool,
    UInt16,
    UInt32,
    UInt64,
    Complex64,
    Float8E4M3,
    Float8E5M2,
    Float8E8M0,
    Float8E4M3Fnuz,
    Float8E5M2Fnuz,
    Float6E2M3,
    Float6E3M2,
    Float4,
}
