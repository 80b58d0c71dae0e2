using System.Security.Cryptography;
using System.Text;

namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// Tells models apart: SHA-256 over config.json, the name, type and shape of every tensor, and the bytes of the small ones (norms and
/// biases, which any training moves). Reads kilobytes of a model of any size.
/// </summary>
public static class CheckpointFingerprint
{
    private const int SmallTensor = 1 << 16;

    /// <param name="directory">A Hugging Face directory.</param>
    /// <returns>32 bytes.</returns>
    public static byte[] Of(string directory)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(File.ReadAllBytes(Path.Combine(directory, "config.json")));
        using var files = HuggingFaceDirectory.Open(directory);
        if (!files.IsWhole && StageList.Read(directory) is { } list) // one stage's files: what was written beside the whole
            return Convert.FromHexString(list.Fingerprint);
        foreach (var name in files.Names.Order(StringComparer.Ordinal))
        {
            var tensor = files.Find(name);
            hash.AppendData(Encoding.UTF8.GetBytes($"{name} {tensor.Type.Name()} {string.Join(',', tensor.Shape)}\n"));
            if (tensor.ByteLength <= SmallTensor)
                hash.AppendData(tensor.ToArray());
        }
        return hash.GetHashAndReset();
    }
}
