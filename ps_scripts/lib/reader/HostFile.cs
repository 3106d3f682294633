#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Runtime.InteropServices;
    using System.Security.Cryptography;
    using Microsoft.Win32.SafeHandles;

    // A file on the host, read while others may have it open.
    public sealed class HostFile : IDisposable
    {
        public const int PieceBytes = 1 << 20;

        readonly SafeFileHandle handle;
        readonly Slot slot = new Slot(PieceBytes);
        readonly long size;

        public HostFile(string path)
        {
            handle = Native.OpenFile(path, out size);
        }

        public long Size
        {
            get { return size; }
        }

        // Read as a delegate, which Windows PowerShell cannot make from a method.
        public Func<long, int, byte[]> Reader
        {
            get { return Read; }
        }

        // Exactly these bytes of the file.
        public byte[] Read(long offset, int count)
        {
            if (offset < 0 || count < 0 || offset + count > size)
            {
                throw new Failure("Hvps.ReadFailed", 38, count + " bytes at " + offset + " of " + size);
            }
            byte[] data = new byte[count];
            for (int done = 0; done < count; )
            {
                int part = Math.Min(PieceBytes, count - done);
                slot.Start(handle, offset + done, part);
                slot.Finish();
                Marshal.Copy(slot.Buffer, data, done, part);
                done += part;
            }
            return data;
        }

        // SHA-256 in lower-case hex.
        public static string Digest(byte[] data)
        {
            using (SHA256 sha = Bytes.NewSha())
            {
                return BitConverter.ToString(sha.ComputeHash(data)).Replace("-", "").ToLowerInvariant();
            }
        }

        public void Dispose()
        {
            slot.Dispose();
            handle.Dispose();
        }
    }
}
#endif
