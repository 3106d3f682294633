#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Collections.Generic;
    using System.Runtime.InteropServices;
    using System.Security.Cryptography;
    using Microsoft.Win32.SafeHandles;

    // A new file on the host, written by requests of formats/file_write.py. Its handle belongs to the process and is
    // shared by its pipelines, since each of them may take only 50 MB (docs/hyperv-facts.md#inbound-limits).
    public sealed class NewFile
    {
        public const int HeaderBytes = 44;
        const uint Magic = 0x31575648; // "HVW1"
        const uint ReadWrite = 0xC0000000;
        const uint SetCompression = 0x9C040; // FSCTL_SET_COMPRESSION

        static readonly Dictionary<string, NewFile> Files =
            new Dictionary<string, NewFile>(StringComparer.OrdinalIgnoreCase);

        readonly string path;
        readonly SafeFileHandle handle;

        NewFile(string path, uint disposition)
        {
            CheckWritten(path);
            this.path = path;
            handle = NativeFile.CreateFileW(path, ReadWrite, 0, IntPtr.Zero, disposition, 0x80, IntPtr.Zero);
            if (handle.IsInvalid)
            {
                throw NativeFile.Error("cannot open " + path + " to write");
            }
        }

        // Makes a file of that size. Windows does not attach a file that is sparse, compressed or encrypted
        // (docs/hyperv-facts.md#virtdisk-codes), and a new file inherits the last two from its folder.
        public static void Create(string path, long size)
        {
            NewFile made = new NewFile(path, 1);
            try
            {
                ushort none = 0;
                int returned;
                uint attributes = NativeFile.GetFileAttributesW(path);
                if (attributes != NativeFile.Missing && (attributes & NativeFile.Compressed) != 0
                    && NativeFile.DeviceIoControl(made.handle, SetCompression, ref none, 2, IntPtr.Zero, 0,
                        out returned, IntPtr.Zero))
                {
                    attributes = NativeFile.GetFileAttributesW(path);
                }
                if (attributes == NativeFile.Missing)
                {
                    throw NativeFile.Error("cannot get the attributes of " + path);
                }
                uint bad = NativeFile.Sparse | NativeFile.Compressed | NativeFile.Encrypted;
                if ((attributes & bad) != 0)
                {
                    throw new Failure("Hvps.FormatUnsupported", unchecked((int)0xC03A001A),
                        "files in this folder are compressed or encrypted: " + path);
                }
                // Space is taken now, so that the volume is not found to be full in the middle.
                if (!NativeFile.SetFilePointerEx(made.handle, size, IntPtr.Zero, 0)
                    || !NativeFile.SetEndOfFile(made.handle))
                {
                    throw NativeFile.Error("no space for " + size + " bytes of " + path);
                }
            }
            catch
            {
                made.handle.Dispose();
                NativeFile.DeleteFileW(path);
                throw;
            }
            lock (Files)
            {
                Files[path] = made;
            }
        }

        // The file, opened unless this process has it open.
        public static NewFile Get(string path)
        {
            lock (Files)
            {
                NewFile found;
                if (!Files.TryGetValue(path, out found))
                {
                    found = new NewFile(path, 3);
                    Files[path] = found;
                }
                return found;
            }
        }

        // Writes all data to the disk and closes the file, if this process has it open.
        public static bool Close(string path)
        {
            NewFile found;
            lock (Files)
            {
                if (!Files.TryGetValue(path, out found))
                {
                    return false;
                }
                Files.Remove(path);
            }
            try
            {
                if (!NativeFile.FlushFileBuffers(found.handle))
                {
                    throw NativeFile.Error("cannot flush " + path);
                }
            }
            finally
            {
                found.handle.Dispose();
            }
            return true;
        }

        // Where the data of a request belongs, once it was checked.
        internal static long OffsetOf(byte[] request)
        {
            if (request.Length <= HeaderBytes || BitConverter.ToUInt32(request, 0) != Magic)
            {
                throw new Failure("Hvps.BadRequest", 0, "not a request to write");
            }
            long offset = BitConverter.ToInt64(request, 4);
            using (SHA256 sha = Bytes.NewSha())
            {
                byte[] digest = sha.ComputeHash(request, HeaderBytes, request.Length - HeaderBytes);
                for (int i = 0; i < digest.Length; i++)
                {
                    if (digest[i] != request[12 + i])
                    {
                        throw new Failure("Hvps.BadRequest", 0, "data at " + offset + " has another digest");
                    }
                }
            }
            return offset;
        }

        // Writes the data of a request; returns where it was written.
        public long Write(byte[] request)
        {
            long offset = OffsetOf(request);
            int count = request.Length - HeaderBytes;
            GCHandle pinned = GCHandle.Alloc(request, GCHandleType.Pinned);
            try
            {
                int written;
                lock (this)
                {
                    if (!NativeFile.SetFilePointerEx(handle, offset, IntPtr.Zero, 0)
                        || !NativeFile.WriteFile(handle, pinned.AddrOfPinnedObject() + HeaderBytes, count, out written,
                            IntPtr.Zero))
                    {
                        throw NativeFile.Error("cannot write " + count + " bytes at " + offset + " of " + path);
                    }
                }
                if (written != count)
                {
                    throw new Failure("Hvps.WriteFailed", 0, "wrote " + written + " of " + count + " bytes");
                }
            }
            finally
            {
                pinned.Free();
            }
            return offset;
        }

        // Renames a file; another file of that name stays as it is.
        public static void Move(string path, string destination)
        {
            CheckTracked(path);
            CheckTracked(destination);
            // MOVEFILE_WRITE_THROUGH
            if (!NativeFile.MoveFileExW(path, destination, 8))
            {
                throw NativeFile.Error("cannot rename " + path + " to " + destination);
            }
        }

        // Deletes a file; false if there is none.
        public static bool Delete(string path)
        {
            CheckWritten(path);
            lock (Files)
            {
                NewFile found;
                if (Files.TryGetValue(path, out found))
                {
                    Files.Remove(path);
                    found.handle.Dispose();
                }
            }
            return NativeFile.DeleteFileW(path) || Gone("cannot delete " + path);
        }

        // Copies a disk file. With overwrite, the other file keeps its access rights.
        public static void Copy(string path, string destination, bool overwrite)
        {
            Check(path);
            Check(destination);
            if (!NativeFile.CopyFileW(path, destination, !overwrite))
            {
                throw NativeFile.Error("cannot copy " + path + " to " + destination);
            }
        }

        // Files of change tracking, which lie beside that of their disk, are renamed with it.
        static void CheckTracked(string path)
        {
            bool tracks = path.EndsWith(".rct", StringComparison.OrdinalIgnoreCase)
                || path.EndsWith(".mrt", StringComparison.OrdinalIgnoreCase);
            Check(tracks ? path.Substring(0, path.Length - 4) : path);
        }

        // Files of a configuration are written and deleted in the folder of an import only, so that no caller reaches
        // those of VMs.
        static void CheckWritten(string path)
        {
            string folder = path.Substring(0, Math.Max(0, path.LastIndexOf('\\')));
            if (folder.EndsWith("\\Imported Configuration", StringComparison.OrdinalIgnoreCase))
            {
                foreach (string extension in new string[] { ".vmcx", ".vmrs", ".vmgs" })
                {
                    if (path.EndsWith(extension, StringComparison.OrdinalIgnoreCase))
                    {
                        return;
                    }
                }
            }
            Check(path);
        }

        // Otherwise only disk files are written, renamed and deleted, for any caller.
        internal static void Check(string path)
        {
            if (!path.EndsWith(".vhdx", StringComparison.OrdinalIgnoreCase)
                && !path.EndsWith(".vhd", StringComparison.OrdinalIgnoreCase))
            {
                throw new Failure("Hvps.BadRequest", 0, "not a file of a disk: " + path);
            }
        }

        // Returns false if the last error says that the file or folder does not exist; throws it otherwise.
        internal static bool Gone(string message)
        {
            int code = Marshal.GetLastWin32Error();
            if (code == 2 || code == 3)
            {
                return false;
            }
            throw Failure.FromCode(code, "Hvps.WriteFailed", message);
        }
    }
}
#endif
