#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Collections.Generic;
    using System.Runtime.InteropServices;
    using System.Threading;
    using Microsoft.Win32.SafeHandles;

    // A virtual disk that is written through the driver, by requests of formats/file_write.py. Its handle belongs to
    // the process and is shared by its pipelines, as that of a NewFile.
    public sealed class WritableDisk
    {
        static readonly Dictionary<string, WritableDisk> Disks =
            new Dictionary<string, WritableDisk>(StringComparer.OrdinalIgnoreCase);

        readonly string path;
        readonly SafeFileHandle handle;

        WritableDisk(string path)
        {
            this.path = path;
            handle = Native.OpenToWrite(path);
            try
            {
                Native.AttachToWrite(handle, path);
            }
            catch
            {
                handle.Dispose();
                throw;
            }
        }

        // The disk, attached unless this process has it attached.
        public static WritableDisk Get(string path)
        {
            NewFile.Check(path);
            lock (Disks)
            {
                WritableDisk found;
                if (!Disks.TryGetValue(path, out found))
                {
                    found = new WritableDisk(path);
                    Disks[path] = found;
                }
                return found;
            }
        }

        // Writes all data to the file and detaches the disk, if this process has it attached.
        public static bool Close(string path)
        {
            WritableDisk found;
            lock (Disks)
            {
                if (!Disks.TryGetValue(path, out found))
                {
                    return false;
                }
                Disks.Remove(path);
            }
            try
            {
                // Handles of the driver may have nothing to flush; then the detach and the comparison decide
                // (docs/hyperv-facts.md#attached-writes).
                if (!NativeFile.FlushFileBuffers(found.handle))
                {
                    int code = Marshal.GetLastWin32Error();
                    if (code != 1 && code != 50)
                    {
                        throw Failure.FromCode(code, "Hvps.WriteFailed", "cannot flush " + path);
                    }
                }
            }
            finally
            {
                Native.Detach(found.handle);
                found.handle.Dispose();
            }
            return true;
        }

        // Writes the data of a request; returns where it was written.
        public long Write(byte[] request)
        {
            long offset = NewFile.OffsetOf(request);
            int count = request.Length - NewFile.HeaderBytes, written;
            GCHandle pinned = GCHandle.Alloc(request, GCHandleType.Pinned);
            IntPtr overlapped = Marshal.AllocHGlobal(Marshal.SizeOf(typeof(NativeOverlapped)));
            // Without an event of its own any other request of the handle would end the wait.
            ManualResetEvent done = new ManualResetEvent(false);
            try
            {
                NativeOverlapped asked = new NativeOverlapped();
                asked.OffsetLow = unchecked((int)(offset & 0xFFFFFFFF));
                asked.OffsetHigh = (int)(offset >> 32);
                asked.EventHandle = done.SafeWaitHandle.DangerousGetHandle();
                Marshal.StructureToPtr(asked, overlapped, false);
                IntPtr data = pinned.AddrOfPinnedObject() + NewFile.HeaderBytes;
                bool good = NativeFile.WriteFile(handle, data, count, out written, overlapped)
                    || Marshal.GetLastWin32Error() == Native.IoPending;
                if (!good || !Native.GetOverlappedResult(handle, overlapped, out written, true))
                {
                    throw NativeFile.Error("cannot write " + count + " bytes at " + offset + " of " + path);
                }
                if (written != count)
                {
                    throw new Failure("Hvps.WriteFailed", 0, "wrote " + written + " of " + count + " bytes");
                }
            }
            finally
            {
                pinned.Free();
                Marshal.FreeHGlobal(overlapped);
                done.Dispose();
            }
            return offset;
        }
    }
}
#endif
