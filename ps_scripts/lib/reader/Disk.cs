#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Collections.Generic;
    using System.Diagnostics;
    using System.Threading;
    using Microsoft.Win32.SafeHandles;

    // A frozen disk, attached once per process and shared by its readers.
    public sealed class Disk
    {
        // The shell of a dead client may live for hours. Its handle must not, or the merge fails with event 19100.
        // Not const so that a test can shorten it.
        public static int IdleSeconds = 120;

        static readonly object gate = new object();
        static readonly Dictionary<string, Disk> disks =
            new Dictionary<string, Disk>(StringComparer.OrdinalIgnoreCase);
        static readonly Timer watchdog = new Timer(CloseIdle, null, 1000, 1000);

        readonly string path;
        // Held for reading while a reader uses the handle, for writing to open or close it.
        readonly ReaderWriterLockSlim use = new ReaderWriterLockSlim(LockRecursionPolicy.SupportsRecursion);
        SafeFileHandle handle;
        bool retired;
        long touched;

        Disk(string path)
        {
            this.path = path;
        }

        public string Path
        {
            get { return path; }
        }

        public ulong Size { get; private set; }
        public uint SectorSize { get; private set; }

        // The process's disk of that path, attached on first use.
        public static Disk Get(string path)
        {
            Disk disk;
            lock (gate)
            {
                if (!disks.TryGetValue(path, out disk))
                {
                    disk = new Disk(path);
                    disks.Add(path, disk);
                }
            }
            try
            {
                disk.Enter();
                disk.Leave();
            }
            catch
            {
                Close(path);
                throw;
            }
            return disk;
        }

        // Closes one disk, or all of them when path is empty (PowerShell's null). Reads in progress end first;
        // later reads fail instead of opening the disk again. Returns the paths that are still attached.
        public static string[] Close(string path)
        {
            List<Disk> closing = new List<Disk>();
            lock (gate)
            {
                foreach (KeyValuePair<string, Disk> pair in disks)
                {
                    if (string.IsNullOrEmpty(path) || StringComparer.OrdinalIgnoreCase.Equals(pair.Key, path))
                    {
                        closing.Add(pair.Value);
                    }
                }
                foreach (Disk disk in closing)
                {
                    disks.Remove(disk.path);
                }
            }
            foreach (Disk disk in closing)
            {
                disk.Release(true);
            }
            string[] left = Attached();
            if (left.Length == 0)
            {
                Slot.DropSpare();
            }
            return left;
        }

        // Paths with an attached handle.
        public static string[] Attached()
        {
            List<string> paths = new List<string>();
            lock (gate)
            {
                foreach (Disk disk in disks.Values)
                {
                    if (disk.handle != null)
                    {
                        paths.Add(disk.path);
                    }
                }
            }
            paths.Sort(StringComparer.OrdinalIgnoreCase);
            return paths.ToArray();
        }

        // Pins the handle, and attaches the disk again if the watchdog closed it. Every Enter needs a Leave.
        internal SafeFileHandle Enter()
        {
            while (true)
            {
                use.EnterReadLock();
                touched = Stopwatch.GetTimestamp();
                if (handle != null)
                {
                    return handle;
                }
                use.ExitReadLock();
                use.EnterWriteLock();
                try
                {
                    if (retired)
                    {
                        throw new Failure("Hvps.DiskUnreadable", 0, "the reader of " + path + " was closed");
                    }
                    if (handle == null)
                    {
                        handle = Open();
                    }
                }
                finally
                {
                    use.ExitWriteLock();
                }
            }
        }

        internal void Leave()
        {
            touched = Stopwatch.GetTimestamp();
            use.ExitReadLock();
        }

        SafeFileHandle Open()
        {
            SafeFileHandle opened = Native.OpenDisk(path);
            try
            {
                byte[] size;
                int code = Native.TryInformation(opened, 1, out size);
                if (code != 0)
                {
                    throw Failure.FromCode(code, "Hvps.DiskUnreadable", "cannot query " + path);
                }
                Size = BitConverter.ToUInt64(size, 8);
                SectorSize = BitConverter.ToUInt32(size, 28);
                Native.Attach(opened, path);
                return opened;
            }
            catch
            {
                opened.Dispose();
                throw;
            }
        }

        void Release(bool forGood)
        {
            use.EnterWriteLock();
            try
            {
                retired = retired || forGood;
                if (handle != null)
                {
                    Native.Detach(handle);
                    handle.Dispose();
                    handle = null;
                }
            }
            finally
            {
                use.ExitWriteLock();
            }
        }

        static void CloseIdle(object state)
        {
            List<Disk> idle = new List<Disk>();
            long now = Stopwatch.GetTimestamp();
            lock (gate)
            {
                foreach (Disk disk in disks.Values)
                {
                    if (disk.handle != null && now - disk.touched > IdleSeconds * Stopwatch.Frequency)
                    {
                        idle.Add(disk);
                    }
                }
            }
            foreach (Disk disk in idle)
            {
                disk.Release(false);
            }
            if (idle.Count > 0 && Attached().Length == 0)
            {
                Slot.DropSpare();
            }
        }
    }
}
#endif
