namespace HvpsProbe
{
    using System;
    using System.ComponentModel;
    using System.Runtime.InteropServices;
    using System.Text;
    using System.Threading;
    using Microsoft.Win32.SafeHandles;

    // What one call answered. Code is a Win32 code; 0 is success.
    public sealed class Answer
    {
        public int Code;
        public int Count;
        public ulong Processed;
        public string Text = "";
        public bool Flag;
    }

    // One virtual disk, opened in the way a probe asks about.
    public sealed class ScratchDisk : IDisposable
    {
        const int IoPending = 997;
        const int ReadOnlyFlag = 1, NoDriveLetter = 2, NoLocalHost = 8;

        [StructLayout(LayoutKind.Sequential)]
        struct StorageType
        {
            public uint DeviceId;
            public Guid VendorId;
        }

        [StructLayout(LayoutKind.Sequential)]
        struct OpenParameters
        {
            public int Version, GetInfoOnly, ReadOnly;
            public Guid Resiliency, SnapshotId;
        }

        [StructLayout(LayoutKind.Sequential)]
        struct AttachParameters
        {
            public int Version, Reserved;
            public ulong First, Second;
        }

        [StructLayout(LayoutKind.Sequential)]
        struct ChangedRange
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

        [DllImport("virtdisk.dll")]
        static extern int GetVirtualDiskInformation(SafeFileHandle handle, ref uint size, IntPtr info,
            out uint used);

        [DllImport("virtdisk.dll", CharSet = CharSet.Unicode)]
        static extern int QueryChangesVirtualDisk(SafeFileHandle handle, string id, ulong offset, ulong length,
            int flags, [Out] ChangedRange[] ranges, ref uint count, out ulong processed);

        [DllImport("virtdisk.dll", CharSet = CharSet.Unicode)]
        static extern int GetVirtualDiskPhysicalPath(SafeFileHandle handle, ref uint size, byte[] path);

        [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
        static extern SafeFileHandle CreateFileW(string path, uint access, uint share, IntPtr security,
            uint disposition, uint flags, IntPtr template);

        [DllImport("kernel32.dll", SetLastError = true)]
        static extern bool ReadFile(SafeFileHandle handle, IntPtr buffer, int count, IntPtr read,
            IntPtr overlapped);

        [DllImport("kernel32.dll", SetLastError = true)]
        static extern bool WriteFile(SafeFileHandle handle, byte[] buffer, int count, out int written,
            IntPtr overlapped);

        [DllImport("kernel32.dll", SetLastError = true)]
        static extern bool WriteFile(SafeFileHandle handle, IntPtr buffer, int count, out int written,
            IntPtr overlapped);

        [DllImport("kernel32.dll", SetLastError = true)]
        static extern bool FlushFileBuffers(SafeFileHandle handle);

        [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
        static extern bool MoveFileExW(string path, string destination, uint flags);

        [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
        static extern uint GetFileAttributesW(string path);

        [DllImport("kernel32.dll", SetLastError = true)]
        static extern bool SetFilePointerEx(SafeFileHandle handle, long distance, out long position, uint method);

        [DllImport("kernel32.dll", SetLastError = true)]
        static extern bool GetOverlappedResult(SafeFileHandle handle, IntPtr overlapped, out int read, bool wait);

        readonly SafeFileHandle handle;
        bool attached;

        // Code of the opening.
        public readonly int OpenCode;

        public ScratchDisk(string path, bool infoOnly, bool readOnly)
        {
            StorageType any = new StorageType();
            OpenParameters parameters = new OpenParameters();
            parameters.Version = 2;
            parameters.GetInfoOnly = infoOnly ? 1 : 0;
            parameters.ReadOnly = readOnly ? 1 : 0;
            OpenCode = OpenVirtualDisk(ref any, path, 0, 0, ref parameters, out handle);
        }

        // Attaches without any access by the host, or so that the host sees a disk without drive letters.
        public int Attach(bool readOnly, bool visible)
        {
            AttachParameters parameters = new AttachParameters();
            parameters.Version = 1;
            int flags = (readOnly ? ReadOnlyFlag : 0) | (visible ? NoDriveLetter : NoLocalHost);
            int code = AttachVirtualDisk(handle, IntPtr.Zero, flags, 0, ref parameters, IntPtr.Zero);
            attached = code == 0;
            return code;
        }

        public int Detach()
        {
            attached = false;
            return DetachVirtualDisk(handle, 0, 0);
        }

        // Closes the handle without DetachVirtualDisk.
        public void Abandon()
        {
            attached = false;
            handle.Dispose();
        }

        // GET_VIRTUAL_DISK_INFO version 15: Flag tells whether tracking is on, Text is MostRecentId.
        public Answer Tracking()
        {
            Answer answer = new Answer();
            byte[] info = Information(15, answer);
            if (answer.Code == 0)
            {
                answer.Flag = BitConverter.ToInt32(info, 8) != 0;
                answer.Count = BitConverter.ToInt32(info, 12);
                string id = Encoding.Unicode.GetString(info, 16, info.Length - 16);
                int end = id.IndexOf('\0');
                answer.Text = end < 0 ? id : id.Substring(0, end);
            }
            return answer;
        }

        // Processed is the virtual size, Count the sector size.
        public Answer Size()
        {
            Answer answer = new Answer();
            byte[] info = Information(1, answer);
            if (answer.Code == 0)
            {
                answer.Processed = BitConverter.ToUInt64(info, 8);
                answer.Count = BitConverter.ToInt32(info, 28);
            }
            return answer;
        }

        byte[] Information(int version, Answer answer)
        {
            uint size = 4096, used;
            byte[] info = new byte[size];
            IntPtr memory = Marshal.AllocHGlobal((int)size);
            try
            {
                Marshal.Copy(info, 0, memory, info.Length);
                Marshal.WriteInt32(memory, version);
                answer.Code = GetVirtualDiskInformation(handle, ref size, memory, out used);
                Marshal.Copy(memory, info, 0, info.Length);
                return info;
            }
            finally
            {
                Marshal.FreeHGlobal(memory);
            }
        }

        // One query of changes: Count ranges, Processed bytes.
        public Answer Changes(string id, ulong length)
        {
            Answer answer = new Answer();
            ChangedRange[] ranges = new ChangedRange[4096];
            uint count = (uint)ranges.Length;
            answer.Code = QueryChangesVirtualDisk(handle, id, 0, length, 0, ranges, ref count,
                out answer.Processed);
            answer.Count = answer.Code == 0 ? (int)count : 0;
            return answer;
        }

        // One overlapped read: Flag tells whether it was pending, Count how many bytes came.
        public Answer Read(long offset, int count)
        {
            return Transfer(offset, new byte[count], false);
        }

        // One overlapped read into data, or a write of it.
        public Answer Transfer(long offset, byte[] data, bool write)
        {
            Answer answer = new Answer();
            IntPtr buffer = Marshal.AllocHGlobal(Math.Max(1, data.Length));
            IntPtr overlapped = Marshal.AllocHGlobal(32);
            using (ManualResetEvent done = new ManualResetEvent(false))
            {
                try
                {
                    Marshal.Copy(data, 0, buffer, data.Length);
                    for (int i = 0; i < 32; i += 8)
                    {
                        Marshal.WriteInt64(overlapped, i, 0);
                    }
                    Marshal.WriteInt64(overlapped, 16, offset);
                    Marshal.WriteIntPtr(overlapped, 24, done.SafeWaitHandle.DangerousGetHandle());
                    int written;
                    bool good = write
                        ? WriteFile(handle, buffer, data.Length, out written, overlapped)
                        : ReadFile(handle, buffer, data.Length, IntPtr.Zero, overlapped);
                    int code = good ? 0 : Marshal.GetLastWin32Error();
                    answer.Flag = code == IoPending;
                    if (code == 0 || code == IoPending)
                    {
                        good = GetOverlappedResult(handle, overlapped, out answer.Count, true);
                        code = good ? 0 : Marshal.GetLastWin32Error();
                    }
                    Marshal.Copy(buffer, data, 0, data.Length);
                    answer.Code = code;
                    return answer;
                }
                finally
                {
                    Marshal.FreeHGlobal(overlapped);
                    Marshal.FreeHGlobal(buffer);
                }
            }
        }

        public int Flush()
        {
            return FlushFileBuffers(handle) ? 0 : Marshal.GetLastWin32Error();
        }

        // Renames a file, and replaces none.
        public static int Move(string path, string destination)
        {
            return MoveFileExW(path, destination, 8) ? 0 : Marshal.GetLastWin32Error();
        }

        public static bool Exists(string path)
        {
            return GetFileAttributesW(path) != 0xFFFFFFFF;
        }

        public void Dispose()
        {
            if (attached)
            {
                Detach();
            }
            handle.Dispose();
        }

        // Writes content made of a seed into the disk of a VM that is off, through the disk that the host
        // sees for this very handle.
        public static void Write(string path, long offset, long length, int seed)
        {
            using (ScratchDisk disk = new ScratchDisk(path, false, false))
            {
                Check(disk.OpenCode, "cannot open " + path + " to write");
                Check(disk.Attach(false, true), "cannot attach " + path + " to write");
                byte[] name = new byte[520];
                uint size = (uint)name.Length;
                Check(GetVirtualDiskPhysicalPath(disk.handle, ref size, name), "has no physical path: " + path);
                string physical = Encoding.Unicode.GetString(name).TrimEnd('\0');
                using (SafeFileHandle raw = CreateFileW(physical, 0xC0000000, 3, IntPtr.Zero, 3, 0x80000000,
                    IntPtr.Zero))
                {
                    if (raw.IsInvalid)
                    {
                        Check(Marshal.GetLastWin32Error(), "cannot open " + physical);
                    }
                    long position;
                    byte[] piece = new byte[65536];
                    uint state = (uint)seed * 2654435761u + 1u + (uint)(offset >> 9);
                    if (!SetFilePointerEx(raw, offset, out position, 0))
                    {
                        Check(Marshal.GetLastWin32Error(), "cannot seek in " + physical);
                    }
                    while (length > 0)
                    {
                        int count = (int)Math.Min(length, piece.Length), written;
                        for (int i = 0; i < count; i++)
                        {
                            state = state * 1664525u + 1013904223u;
                            piece[i] = (byte)(state >> 24);
                        }
                        if (!WriteFile(raw, piece, count, out written, IntPtr.Zero) || written != count)
                        {
                            Check(Marshal.GetLastWin32Error(), "cannot write to " + physical);
                        }
                        length -= count;
                    }
                }
            }
        }

        static void Check(int code, string what)
        {
            if (code != 0)
            {
                throw new Win32Exception(code, what + " (" + code + ")");
            }
        }
    }
}
