#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Runtime.InteropServices;
    using Microsoft.Win32.SafeHandles;

    // Functions and structures of virtdisk.h and winbase.h.
    internal static class Native
    {
        internal const int IoPending = 997;

        [StructLayout(LayoutKind.Sequential)]
        internal struct StorageType
        {
            public uint DeviceId;
            public Guid VendorId;
        }

        // OPEN_VIRTUAL_DISK_PARAMETERS version 2, padded to the size of the union: 44 bytes.
        [StructLayout(LayoutKind.Sequential)]
        internal struct OpenParameters
        {
            public int Version, GetInfoOnly, ReadOnly;
            public Guid Resiliency, SnapshotId;
        }

        // ATTACH_VIRTUAL_DISK_PARAMETERS version 1, padded to the size of the union: 24 bytes.
        [StructLayout(LayoutKind.Sequential)]
        internal struct AttachParameters
        {
            public int Version, Reserved;
            public ulong First, Second;
        }

        [StructLayout(LayoutKind.Sequential)]
        internal struct ChangedRange
        {
            public ulong Offset, Length, Reserved;
        }

        [DllImport("virtdisk.dll", CharSet = CharSet.Unicode)]
        static extern int OpenVirtualDisk(ref StorageType type, string path, int access, int flags,
            ref OpenParameters parameters, out SafeFileHandle handle);

        [DllImport("virtdisk.dll")]
        static extern int AttachVirtualDisk(SafeFileHandle handle, IntPtr security, int flags, int provider,
            ref AttachParameters parameters, IntPtr overlapped);

        [DllImport("virtdisk.dll")]
        static extern int DetachVirtualDisk(SafeFileHandle handle, int flags, int provider);

        [DllImport("virtdisk.dll", CharSet = CharSet.Unicode)]
        internal static extern int QueryChangesVirtualDisk(SafeFileHandle handle, string id, ulong offset,
            ulong length, int flags, [Out] ChangedRange[] ranges, ref uint count, out ulong processed);

        [DllImport("virtdisk.dll")]
        static extern int GetVirtualDiskInformation(SafeFileHandle handle, ref uint size, IntPtr info,
            out uint used);

        [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
        static extern SafeFileHandle CreateFileW(string path, uint access, uint share, IntPtr security,
            uint disposition, uint flags, IntPtr template);

        [DllImport("kernel32.dll", SetLastError = true)]
        internal static extern bool ReadFile(SafeFileHandle handle, IntPtr buffer, int count, IntPtr read,
            IntPtr overlapped);

        [DllImport("kernel32.dll", SetLastError = true)]
        internal static extern bool GetOverlappedResult(SafeFileHandle handle, IntPtr overlapped, out int read,
            bool wait);

        [DllImport("kernel32.dll", SetLastError = true)]
        static extern bool GetFileSizeEx(SafeFileHandle handle, out long size);

        // Opens a virtual disk read-only; returns Windows's code.
        internal static int TryOpenDisk(string path, bool infoOnly, out SafeFileHandle handle)
        {
            return TryOpen(path, infoOnly, true, out handle);
        }

        // Version 2 parameters require access 0 (docs/hyperv-facts.md#virtdisk-open).
        static int TryOpen(string path, bool infoOnly, bool readOnly, out SafeFileHandle handle)
        {
            StorageType any = new StorageType();
            OpenParameters parameters = new OpenParameters();
            parameters.Version = 2;
            parameters.GetInfoOnly = infoOnly ? 1 : 0;
            parameters.ReadOnly = readOnly ? 1 : 0;
            return OpenVirtualDisk(ref any, path, 0, 0, ref parameters, out handle);
        }

        // Opens a virtual disk to write it.
        internal static SafeFileHandle OpenToWrite(string path)
        {
            SafeFileHandle handle;
            int code = TryOpen(path, false, false, out handle);
            if (code != 0)
            {
                throw Failure.FromCode(code, "Hvps.DiskUnreadable", "cannot open " + path + " to write");
            }
            return handle;
        }

        internal static SafeFileHandle OpenDisk(string path)
        {
            SafeFileHandle handle;
            int code = TryOpenDisk(path, false, out handle);
            if (code != 0)
            {
                throw Failure.FromCode(code, "Hvps.DiskUnreadable", "cannot open " + path);
            }
            return handle;
        }

        // Makes the handle readable by range for as long as it is open. READ_ONLY | NO_LOCAL_HOST: no disk,
        // volume or drive letter appears on the host (docs/hyperv-facts.md#virtdisk-attach).
        internal static void Attach(SafeFileHandle handle, string path)
        {
            AttachAs(handle, path, 0x1 | 0x8);
        }

        // Makes the handle writable by range: NO_LOCAL_HOST, so that Windows mounts no volume of it.
        internal static void AttachToWrite(SafeFileHandle handle, string path)
        {
            AttachAs(handle, path, 0x8);
        }

        static void AttachAs(SafeFileHandle handle, string path, int flags)
        {
            AttachParameters parameters = new AttachParameters();
            parameters.Version = 1;
            int code = AttachVirtualDisk(handle, IntPtr.Zero, flags, 0, ref parameters, IntPtr.Zero);
            if (code != 0)
            {
                throw Failure.FromCode(code, "Hvps.DiskUnreadable", "cannot attach " + path);
            }
        }

        // Detaches before the handle is closed: closing detaches as well, but nothing says when that is over
        // (docs/hyperv-facts.md#detach-on-close). A refusal changes nothing for the caller.
        internal static void Detach(SafeFileHandle handle)
        {
            DetachVirtualDisk(handle, 0, 0);
        }

        // Fetches a GET_VIRTUAL_DISK_INFO of the given version; returns Windows's code.
        internal static int TryInformation(SafeFileHandle handle, int version, out byte[] info)
        {
            uint size = 4096, used;
            IntPtr memory = Marshal.AllocHGlobal((int)size);
            try
            {
                info = new byte[size];
                Marshal.Copy(info, 0, memory, info.Length);
                Marshal.WriteInt32(memory, version);
                int code = GetVirtualDiskInformation(handle, ref size, memory, out used);
                Marshal.Copy(memory, info, 0, info.Length);
                return code;
            }
            finally
            {
                Marshal.FreeHGlobal(memory);
            }
        }

        // Opens a file that others have open for overlapped reading: GENERIC_READ, all sharing allowed
        // (docs/hyperv-facts.md#frozen-file-sharing).
        internal static SafeFileHandle OpenFile(string path, out long size)
        {
            SafeFileHandle handle = CreateFileW(path, 0x80000000, 7, IntPtr.Zero, 3, 0x40000000, IntPtr.Zero);
            if (handle.IsInvalid)
            {
                throw Failure.FromCode(Marshal.GetLastWin32Error(), "Hvps.DiskUnreadable", "cannot open " + path);
            }
            if (!GetFileSizeEx(handle, out size))
            {
                int code = Marshal.GetLastWin32Error();
                handle.Dispose();
                throw Failure.FromCode(code, "Hvps.DiskUnreadable", "cannot get the size of " + path);
            }
            return handle;
        }
    }
}
#endif
