// The reader: frozen disks opened and attached once per process, read by range on several threads, changes
// and digests asked for on the spot. The far end of hvpsbridge/formats/wire.py.
//
// C# 5 for the compiler of Windows PowerShell 5.1, one file so that it compiles alone, and the same text from
// run to run: endpoint protection sees it compiled (docs/hyperv-facts.md#ps51-csharp). Disk contents are handled
// here only, never in PowerShell loops. Structures and constants are those of virtdisk.h and winbase.h.
namespace Hvps
{
    using System;
    using System.Collections.Concurrent;
    using System.Collections.Generic;
    using System.Diagnostics;
    using System.IO;
    using System.IO.Compression;
    using System.Runtime.InteropServices;
    using System.Security.Cryptography;
    using System.Text;
    using System.Threading;
    using Microsoft.Win32.SafeHandles;

    // An error with the id of the contract and, where Windows gave one, its code.
    public sealed class Failure : Exception
    {
        public readonly string Id;
        public readonly int Native;

        public Failure(string id, int native, string message)
            : base(message)
        {
            Id = id;
            Native = native;
        }

        // The contract's word for a code met while opening or attaching; otherwise stays for the rest.
        public static Failure Of(int native, string otherwise, string what)
        {
            return new Failure(IdOf(unchecked((uint)native), otherwise), native, what);
        }

        // Codes of winerror.h (docs/hyperv-facts.md#virtdisk-codes).
        static string IdOf(uint code, string otherwise)
        {
            switch (code)
            {
                case 2: case 3: case 0x80070002: case 0x80070003:
                    return "Hvps.FileNotFound";
                case 5: case 1314: case 0x80070005:
                    return "Hvps.AccessDenied";
                case 32: case 0x80070020: case 0xC03A001E:
                    return "Hvps.DiskBusy";
                case 0xC03A000D: case 0xC03A000E: case 0xC03A000F: case 0xC03A0016:
                case 0xC03A0017: case 0xC03A0018: case 0xC03A0019:
                    return "Hvps.ChainBroken";
                case 0xC03A0029: case 0xC03A002A: case 0xC03A0030: case 0xC03A0020: case 0xC03A0021:
                case 0xC03A0022: case 0xC03A0023: case 0xC03A0024:
                    return "Hvps.TrackingUnusable";
                default:
                    return otherwise;
            }
        }
    }

    internal static class Native
    {
        internal const int IoPending = 997;
        internal const int InsufficientBuffer = 122;

        [StructLayout(LayoutKind.Sequential)]
        internal struct StorageType
        {
            public uint DeviceId;
            public Guid VendorId;
        }

        // OPEN_VIRTUAL_DISK_PARAMETERS version 2, as long as the whole union: 44 bytes.
        [StructLayout(LayoutKind.Sequential)]
        internal struct OpenParameters
        {
            public int Version, GetInfoOnly, ReadOnly;
            public Guid Resiliency, SnapshotId;
        }

        // ATTACH_VIRTUAL_DISK_PARAMETERS version 1, as long as the whole union: 24 bytes.
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

        // A virtual disk, read-only. Access 0 is what version 2 parameters require
        // (docs/hyperv-facts.md#virtdisk-open).
        internal static SafeFileHandle OpenDisk(string path, bool infoOnly)
        {
            StorageType any = new StorageType();
            OpenParameters parameters = new OpenParameters();
            parameters.Version = 2;
            parameters.GetInfoOnly = infoOnly ? 1 : 0;
            parameters.ReadOnly = 1;
            SafeFileHandle handle;
            int code = OpenVirtualDisk(ref any, path, 0, 0, ref parameters, out handle);
            if (code != 0)
            {
                throw Failure.Of(code, "Hvps.DiskUnreadable", "cannot open " + path);
            }
            return handle;
        }

        // Makes the handle readable by range, with no disk, volume or letter appearing on the host; lives as
        // long as the handle. READ_ONLY | NO_LOCAL_HOST (docs/hyperv-facts.md#virtdisk-attach).
        internal static void Attach(SafeFileHandle handle, string path)
        {
            AttachParameters parameters = new AttachParameters();
            parameters.Version = 1;
            int code = AttachVirtualDisk(handle, IntPtr.Zero, 0x1 | 0x8, 0, ref parameters, IntPtr.Zero);
            if (code != 0)
            {
                throw Failure.Of(code, "Hvps.DiskUnreadable", "cannot attach " + path);
            }
        }

        // GET_VIRTUAL_DISK_INFO of one version, as its bytes.
        internal static byte[] Information(SafeFileHandle handle, int version, string path)
        {
            uint size = 4096, used;
            IntPtr memory = Marshal.AllocHGlobal((int)size);
            try
            {
                byte[] info = new byte[size];
                Marshal.Copy(info, 0, memory, info.Length);
                Marshal.WriteInt32(memory, version);
                int code = GetVirtualDiskInformation(handle, ref size, memory, out used);
                if (code != 0)
                {
                    throw Failure.Of(code, "Hvps.DiskUnreadable", "cannot question " + path);
                }
                Marshal.Copy(memory, info, 0, info.Length);
                return info;
            }
            finally
            {
                Marshal.FreeHGlobal(memory);
            }
        }

        // A file for overlapped reading beside others that have it open: GENERIC_READ, sharing everything
        // (docs/hyperv-facts.md#frozen-file-sharing).
        internal static SafeFileHandle OpenFile(string path, out long size)
        {
            SafeFileHandle handle = CreateFileW(path, 0x80000000, 7, IntPtr.Zero, 3, 0x40000000, IntPtr.Zero);
            if (handle.IsInvalid)
            {
                throw Failure.Of(Marshal.GetLastWin32Error(), "Hvps.DiskUnreadable", "cannot open " + path);
            }
            if (!GetFileSizeEx(handle, out size))
            {
                int code = Marshal.GetLastWin32Error();
                handle.Dispose();
                throw Failure.Of(code, "Hvps.DiskUnreadable", "cannot size " + path);
            }
            return handle;
        }
    }

    // One outstanding read with an unmanaged buffer, OVERLAPPED and event of its own. Any number of slots may
    // share a handle; one thread uses a slot. Unmanaged because a pending read outlives the call that began it,
    // own event because a null one would be woken by any read of the handle (docs/hyperv-facts.md#overlapped-reads).
    internal sealed class Slot : IDisposable
    {
        // What is read at once, and with it the rest of its first and last sectors of up to 4096 bytes.
        internal const int UnitBytes = 1 << 18;
        internal const int UsualBytes = UnitBytes + 2 * 4096;
        const int MostSpare = 32;
        // Slots of the usual size wait here for the next request: a heap that gives and takes them for every one
        // falls to pieces.
        static readonly Stack<Slot> spare = new Stack<Slot>();

        readonly int size;
        readonly ManualResetEvent done = new ManualResetEvent(false);
        IntPtr buffer, overlapped;
        SafeFileHandle handle;
        long offset;
        int count;
        bool pending;

        internal Slot(int size)
        {
            this.size = size;
            buffer = Marshal.AllocHGlobal(size);
            overlapped = Marshal.AllocHGlobal(Marshal.SizeOf(typeof(NativeOverlapped)));
        }

        // A slot for reads of up to this many bytes; it goes back by GiveBack.
        internal static Slot Take(int bytes)
        {
            if (bytes > UsualBytes)
            {
                return new Slot(bytes);
            }
            lock (spare)
            {
                return spare.Count > 0 ? spare.Pop() : new Slot(UsualBytes);
            }
        }

        internal void GiveBack()
        {
            Drain();
            lock (spare)
            {
                if (size == UsualBytes && spare.Count < MostSpare)
                {
                    spare.Push(this);
                    return;
                }
            }
            Dispose();
        }

        // Nobody reads: the memory goes back.
        internal static void DropSpare()
        {
            lock (spare)
            {
                while (spare.Count > 0)
                {
                    spare.Pop().Dispose();
                }
            }
        }

        internal IntPtr Buffer
        {
            get { return buffer; }
        }

        // Starts a read of exactly this many bytes.
        internal void Start(SafeFileHandle from, long at, int bytes)
        {
            if (bytes > size || pending)
            {
                throw new InvalidOperationException("a slot of " + size + " bytes is asked for " + bytes);
            }
            handle = from;
            offset = at;
            count = bytes;
            done.Reset();
            NativeOverlapped request = new NativeOverlapped();
            request.OffsetLow = unchecked((int)(at & 0xFFFFFFFF));
            request.OffsetHigh = (int)(at >> 32);
            request.EventHandle = done.SafeWaitHandle.DangerousGetHandle();
            Marshal.StructureToPtr(request, overlapped, false);
            pending = true;
            if (!Native.ReadFile(from, buffer, bytes, IntPtr.Zero, overlapped))
            {
                int code = Marshal.GetLastWin32Error();
                if (code != Native.IoPending)
                {
                    pending = false;
                    throw Failed(code);
                }
            }
        }

        // Waits for the read. Fewer bytes than asked for are an error, never data.
        internal void Finish()
        {
            int got;
            bool good = Native.GetOverlappedResult(handle, overlapped, out got, true);
            int code = good ? 0 : Marshal.GetLastWin32Error();
            pending = false;
            if (!good)
            {
                throw Failed(code);
            }
            if (got != count)
            {
                throw new Failure("Hvps.ReadFailed", 0, "read " + got + " of " + count + " bytes at " + offset);
            }
        }

        Failure Failed(int code)
        {
            return new Failure("Hvps.ReadFailed", code, "cannot read " + count + " bytes at " + offset);
        }

        // The kernel owns the buffer while a read is pending; it must be neither freed nor used for another.
        void Drain()
        {
            if (pending)
            {
                try { Finish(); } catch (Failure) { }
            }
        }

        public void Dispose()
        {
            Drain();
            if (buffer != IntPtr.Zero)
            {
                Marshal.FreeHGlobal(buffer);
                Marshal.FreeHGlobal(overlapped);
                buffer = overlapped = IntPtr.Zero;
                done.Dispose();
            }
        }
    }

    // One answer of a change query.
    public sealed class ChangePage
    {
        public ulong Offset, Processed;
        public byte[] Extents;
    }

    // What GetVirtualDiskInformation says of a disk.
    public sealed class DiskFacts
    {
        public ulong Size;
        public uint SectorSize;
        public bool TrackingEnabled, NewerChanges;
        public string RctId;
    }

    public sealed class Disk
    {
        // A dead client's shell may live for hours; its handle must not, or the merge fails (19100).
        // Not const so that a test need not wait.
        public static int IdleSeconds = 120;
        const int RangesPerQuery = 4096;

        static readonly object gate = new object();
        static readonly Dictionary<string, Disk> disks =
            new Dictionary<string, Disk>(StringComparer.OrdinalIgnoreCase);
        static readonly Timer watchdog = new Timer(CloseIdle, null, 1000, 1000);
        static readonly Type fastSha = FindFastSha();

        readonly string path;
        // Readers hold it for reading while they use the handle, whoever closes it holds it for writing.
        readonly ReaderWriterLockSlim use = new ReaderWriterLockSlim(LockRecursionPolicy.SupportsRecursion);
        SafeFileHandle handle;
        bool retired;
        long touched;

        Disk(string path)
        {
            this.path = path;
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

        // Closes one disk, or all of them when path is empty (PowerShell's null); reads under way end first and
        // no later one opens it again. Gives the paths that are still attached.
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

        // Pins the handle, attaching the disk when the watchdog had put it to sleep. Every Enter has a Leave.
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
            SafeFileHandle opened = Native.OpenDisk(path, false);
            try
            {
                byte[] size = Native.Information(opened, 1, path);
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

        // Whether virtdisk.dll is there: it is asked for a file that cannot exist, and refuses.
        public static bool LibraryAnswers()
        {
            try
            {
                Native.OpenDisk("\\\\?\\hvps-no-such-file.vhdx", true).Dispose();
            }
            catch (Failure)
            {
            }
            return true;
        }

        // Size and change tracking of a disk that need not be attached (docs/hyperv-facts.md#tracking-state,
        // docs/hyperv-facts.md#tracking-handle).
        public static DiskFacts Facts(string path)
        {
            using (SafeFileHandle info = Native.OpenDisk(path, true))
            {
                DiskFacts facts = new DiskFacts();
                byte[] size = Native.Information(info, 1, path);
                facts.Size = BitConverter.ToUInt64(size, 8);
                facts.SectorSize = BitConverter.ToUInt32(size, 28);
                byte[] tracking = Native.Information(info, 15, path);
                facts.TrackingEnabled = BitConverter.ToInt32(tracking, 8) != 0;
                facts.NewerChanges = BitConverter.ToInt32(tracking, 12) != 0;
                string id = Encoding.Unicode.GetString(tracking, 16, tracking.Length - 16);
                int end = id.IndexOf('\0');
                id = end < 0 ? id : id.Substring(0, end);
                facts.RctId = id.Length == 0 ? null : id;
                return facts;
            }
        }

        // One step of the change query: what it says about the bytes from offset on.
        public static ChangePage Changes(string path, string id, ulong offset, ulong length)
        {
            using (SafeFileHandle info = Native.OpenDisk(path, true))
            {
                Native.ChangedRange[] ranges = new Native.ChangedRange[RangesPerQuery];
                uint count = RangesPerQuery;
                ChangePage page = new ChangePage();
                page.Offset = offset;
                int code = Native.QueryChangesVirtualDisk(info, id, offset, length, 0, ranges, ref count,
                    out page.Processed);
                if (code != 0)
                {
                    throw Failure.Of(code, "Hvps.TrackingUnusable", "no change query on " + path);
                }
                if (count > RangesPerQuery)
                {
                    throw new Failure("Hvps.TrackingUnusable", 0, "a change query gave " + count + " ranges");
                }
                if (count > 0)
                {
                    page.Extents = new byte[count * 16];
                    for (int i = 0; i < count; i++)
                    {
                        Little.Put(page.Extents, i * 16, ranges[i].Offset);
                        Little.Put(page.Extents, i * 16 + 8, ranges[i].Length);
                    }
                }
                return page;
            }
        }

        // SHA-256 by the system's own code. On .NET Framework SHA256.Create() is the slow managed one, which
        // FIPS policy forbids; elsewhere it is the fast one and SHA256Cng may be missing.
        internal static SHA256 NewSha()
        {
            return fastSha == null ? SHA256.Create() : (SHA256)Activator.CreateInstance(fastSha);
        }

        static Type FindFastSha()
        {
            try
            {
                Type type = Type.GetType("System.Security.Cryptography.SHA256Cng, System.Core, "
                    + "Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089", false);
                if (type != null)
                {
                    ((IDisposable)Activator.CreateInstance(type)).Dispose();
                }
                return type;
            }
            catch (Exception)
            {
                return null;
            }
        }
    }

    // Little endian integers in byte arrays.
    internal static class Little
    {
        internal static void Put(byte[] into, int at, ulong value)
        {
            for (int i = 0; i < 8; i++)
            {
                into[at + i] = (byte)(value >> (8 * i));
            }
        }

        internal static void Put(byte[] into, int at, uint value)
        {
            for (int i = 0; i < 4; i++)
            {
                into[at + i] = (byte)(value >> (8 * i));
            }
        }
    }

    // Overlapped reads of one thread over a plan: several are under way, they are taken in the plan's order.
    internal sealed class ReadAhead : IDisposable
    {
        internal struct Unit
        {
            public long At;
            public int Bytes;
        }

        const int Depth = 4;

        readonly Disk disk;
        readonly Func<long, Unit> plan;
        readonly long count;
        readonly Slot[] slots;
        readonly bool[] finished;
        long started, taken;
        SafeFileHandle handle;

        // The plan is asked for one unit after the other, none longer than largest.
        internal ReadAhead(Disk disk, Func<long, Unit> plan, long count, int largest)
        {
            this.disk = disk;
            this.plan = plan;
            this.count = count;
            slots = new Slot[Math.Min(Depth, count)];
            finished = new bool[slots.Length];
            for (int i = 0; i < slots.Length; i++)
            {
                slots[i] = Slot.Take(largest);
            }
        }

        // Bytes of the next unit of the plan; they stay until the call after.
        internal IntPtr Take()
        {
            if (handle == null)
            {
                handle = disk.Enter();
            }
            while (started < count && started - taken < slots.Length)
            {
                Unit unit = plan(started);
                long free = started % slots.Length;
                slots[free].Start(handle, unit.At, unit.Bytes);
                finished[free] = false;
                started++;
            }
            long due = taken % slots.Length;
            if (!finished[due])
            {
                slots[due].Finish();
                finished[due] = true;
            }
            return slots[due].Buffer;
        }

        // The unit given last is done with; its slot may be read into again.
        internal void Give()
        {
            taken++;
        }

        // Waits for what is under way and lets go of the handle: called before anything that may take long.
        internal void Settle()
        {
            if (handle == null)
            {
                return;
            }
            try
            {
                for (long i = taken; i < started; i++)
                {
                    long slot = i % slots.Length;
                    if (!finished[slot])
                    {
                        slots[slot].Finish();
                        finished[slot] = true;
                    }
                }
            }
            finally
            {
                handle = null;
                disk.Leave();
            }
        }

        public void Dispose()
        {
            foreach (Slot slot in slots)
            {
                slot.GiveBack();
            }
            if (handle != null)
            {
                handle = null;
                disk.Leave();
            }
        }
    }

    // The answer to one request of a reader pipeline, made by a thread of its own while the pipeline's thread
    // serialises what is ready. Formats: hvpsbridge/formats/wire.py.
    public sealed class Answer : IDisposable
    {
        const int RequestHeader = 20, RequestExtent = 12;
        const int BlockHeader = 64, HashAt = 32, ExtentEntry = 12, DigestEntry = 40;
        const int MostEntries = 16384;
        // Four of these are under way at once: enough for a disk, and 1 MiB a pipeline.
        const int UnitBytes = Slot.UnitBytes;
        // Blocks that may wait for the serialiser: with the one in its hands this bounds the memory.
        const int ReadyBlocks = 2;
        const int SampleBytes = 4096;
        const int UnaskedBlocks = 3;

        struct Piece
        {
            public long Offset;
            public int Bytes;
            public int Unit;
            public bool EndsChunk;
        }

        readonly Disk disk;
        readonly uint number;
        readonly int chunkBytes, blockBytes;
        readonly bool wantDigests, mayDeflate;
        readonly List<Piece> pieces = new List<Piece>();
        readonly List<ReadAhead.Unit> units = new List<ReadAhead.Unit>();
        readonly BlockingCollection<byte[]> ready = new BlockingCollection<byte[]>(ReadyBlocks);
        readonly CancellationTokenSource cancelled = new CancellationTokenSource();
        readonly Thread maker;
        Exception problem;

        // The block under way.
        byte[] body;
        int bodyBytes;
        readonly MemoryStream packed = new MemoryStream();
        bool shrinks;
        int unasked;
        readonly List<KeyValuePair<long, uint>> entries = new List<KeyValuePair<long, uint>>();
        readonly List<KeyValuePair<long, byte[]>> digests = new List<KeyValuePair<long, byte[]>>();

        // Number of the block made next.
        public int NextBlock { get; private set; }

        public Answer(Disk disk, byte[] request, int firstBlock)
        {
            this.disk = disk;
            NextBlock = firstBlock;
            if (request == null || request.Length < RequestHeader || request[0] != 'H' || request[1] != 'Q')
            {
                throw Bad("no request");
            }
            if (request[2] != 1)
            {
                throw Bad("version " + request[2]);
            }
            wantDigests = (request[3] & 1) != 0;
            mayDeflate = (request[3] & 2) != 0;
            number = BitConverter.ToUInt32(request, 4);
            uint chunk = BitConverter.ToUInt32(request, 8), block = BitConverter.ToUInt32(request, 12);
            uint count = BitConverter.ToUInt32(request, 16);
            if (chunk < 4096 || chunk > 1 << 20 || (chunk & (chunk - 1)) != 0)
            {
                throw Bad("chunks of " + chunk + " bytes");
            }
            if (block < 4096 || block > 1 << 24)
            {
                throw Bad("blocks of " + block + " bytes");
            }
            if (request.Length != RequestHeader + (long)count * RequestExtent)
            {
                throw Bad(count + " extents in " + request.Length + " bytes");
            }
            chunkBytes = (int)chunk;
            blockBytes = (int)block;
            for (int at = RequestHeader; at < request.Length; at += RequestExtent)
            {
                Cut(BitConverter.ToUInt64(request, at), BitConverter.ToUInt32(request, at + 8));
            }
            MarkChunkEnds();
            Plan();
            maker = new Thread(Make);
            maker.IsBackground = true;
            maker.Start();
        }

        static Failure Bad(string what)
        {
            return new Failure("Hvps.BadRequest", 0, "unusable request: " + what);
        }

        // The extent in pieces that end at chunk boundaries, so that zero chunks show, and fit into a block.
        void Cut(ulong offset, uint length)
        {
            if (length == 0 || length > int.MaxValue || offset > disk.Size || length > disk.Size - offset)
            {
                throw Bad(length + " bytes at " + offset + " of " + disk.Size);
            }
            long at = (long)offset, end = at + length;
            while (at < end)
            {
                Piece piece = new Piece();
                piece.Offset = at;
                long stop = Math.Min(end, (at / chunkBytes + 1) * chunkBytes);
                piece.Bytes = (int)Math.Min(stop - at, blockBytes);
                pieces.Add(piece);
                at += piece.Bytes;
            }
        }

        void MarkChunkEnds()
        {
            if (!wantDigests)
            {
                return;
            }
            HashSet<long> seen = new HashSet<long>();
            for (int i = pieces.Count - 1; i >= 0; i--)
            {
                Piece piece = pieces[i];
                piece.EndsChunk = seen.Add(piece.Offset / chunkBytes);
                pieces[i] = piece;
            }
        }

        // Reads: with digests one whole chunk for all its neighbouring pieces, else neighbours together up to
        // a unit, always in whole sectors.
        void Plan()
        {
            long sector = Math.Max(512, (int)disk.SectorSize), size = (long)disk.Size;
            long start = 0, end = -1, chunk = -1;
            for (int i = 0; i < pieces.Count; i++)
            {
                Piece piece = pieces[i];
                long stop = piece.Offset + piece.Bytes;
                bool joins = wantDigests
                    ? chunk == piece.Offset / chunkBytes
                    : piece.Offset == end && stop - start <= UnitBytes;
                if (joins)
                {
                    end = stop;
                }
                else
                {
                    Add(start, end, sector, size);
                    start = piece.Offset;
                    end = stop;
                    chunk = piece.Offset / chunkBytes;
                    if (wantDigests)
                    {
                        start = chunk * chunkBytes;
                        end = Math.Min(size, start + chunkBytes);
                    }
                }
                piece.Unit = units.Count;
                pieces[i] = piece;
                if (wantDigests)
                {
                    end = Math.Min(size, start + chunkBytes);
                }
            }
            Add(start, end, sector, size);
        }

        void Add(long start, long end, long sector, long size)
        {
            if (end < 0)
            {
                return;
            }
            ReadAhead.Unit unit = new ReadAhead.Unit();
            unit.At = start / sector * sector;
            unit.Bytes = (int)(Math.Min(size, (end + sector - 1) / sector * sector) - unit.At);
            units.Add(unit);
        }

        // The next block, or null after the last.
        public byte[] Next()
        {
            byte[] block;
            if (ready.TryTake(out block, Timeout.Infinite))
            {
                return block;
            }
            if (problem != null)
            {
                Failure known = problem as Failure;
                throw known ?? new Failure("Hvps.Unexpected", 0, problem.Message);
            }
            return null;
        }

        void Make()
        {
            try
            {
                int largest = 0;
                foreach (ReadAhead.Unit planned in units)
                {
                    largest = Math.Max(largest, planned.Bytes);
                }
                using (ReadAhead reads = new ReadAhead(disk, Planned, units.Count, largest))
                using (SHA256 sha = Disk.NewSha())
                {
                    body = new byte[blockBytes];
                    byte[] whole = wantDigests ? new byte[chunkBytes] : null;
                    int unit = -1;
                    IntPtr bytes = IntPtr.Zero;
                    for (int i = 0; i < pieces.Count; i++)
                    {
                        Piece piece = pieces[i];
                        if (bodyBytes + piece.Bytes > blockBytes || entries.Count >= MostEntries
                            || digests.Count >= MostEntries)
                        {
                            reads.Settle();
                            Emit(sha, false);
                        }
                        if (piece.Unit != unit)
                        {
                            if (unit >= 0)
                            {
                                reads.Give();
                            }
                            unit = piece.Unit;
                        }
                        bytes = reads.Take();
                        Take(IntPtr.Add(bytes, (int)(piece.Offset - units[unit].At)), piece);
                        if (piece.EndsChunk)
                        {
                            Marshal.Copy(bytes, whole, 0, units[unit].Bytes);
                            digests.Add(new KeyValuePair<long, byte[]>(
                                piece.Offset / chunkBytes, sha.ComputeHash(whole, 0, units[unit].Bytes)));
                        }
                    }
                    reads.Settle();
                    Emit(sha, true);
                }
            }
            catch (OperationCanceledException)
            {
            }
            catch (Exception err)
            {
                problem = err;
            }
            finally
            {
                ready.CompleteAdding();
            }
        }

        ReadAhead.Unit Planned(long index)
        {
            return units[(int)index];
        }

        void Take(IntPtr from, Piece piece)
        {
            Marshal.Copy(from, body, bodyBytes, piece.Bytes);
            bool zero = Zero.All(body, bodyBytes, piece.Bytes);
            uint flag = zero ? 0x80000000u : 0u;
            if (!zero)
            {
                bodyBytes += piece.Bytes;
            }
            if (entries.Count > 0)
            {
                KeyValuePair<long, uint> last = entries[entries.Count - 1];
                long length = last.Value & 0x7FFFFFFF;
                if (last.Key + length == piece.Offset && (last.Value & 0x80000000u) == flag
                    && length + piece.Bytes <= int.MaxValue)
                {
                    entries[entries.Count - 1] = new KeyValuePair<long, uint>(
                        last.Key, (uint)(length + piece.Bytes) | flag);
                    return;
                }
            }
            entries.Add(new KeyValuePair<long, uint>(piece.Offset, (uint)piece.Bytes | flag));
        }

        // Ends the block under way and hands it over, which may wait for the serialiser.
        void Emit(SHA256 sha, bool last)
        {
            int tables = entries.Count * ExtentEntry + digests.Count * DigestEntry;
            bool deflated = Deflates();
            byte[] content = deflated ? packed.GetBuffer() : body;
            int contentBytes = deflated ? (int)packed.Length : bodyBytes;
            byte[] block = new byte[BlockHeader + tables + contentBytes];
            block[0] = (byte)'H';
            block[1] = (byte)'B';
            block[2] = 1;
            block[3] = (byte)(last ? 1 : 0);
            Little.Put(block, 4, number);
            Little.Put(block, 8, (uint)NextBlock);
            block[12] = (byte)(deflated ? 1 : 0);
            Little.Put(block, 16, (uint)bodyBytes);
            Little.Put(block, 20, (uint)contentBytes);
            Little.Put(block, 24, (uint)entries.Count);
            Little.Put(block, 28, (uint)digests.Count);
            int at = BlockHeader;
            foreach (KeyValuePair<long, uint> entry in entries)
            {
                Little.Put(block, at, (ulong)entry.Key);
                Little.Put(block, at + 8, entry.Value);
                at += ExtentEntry;
            }
            foreach (KeyValuePair<long, byte[]> digest in digests)
            {
                Little.Put(block, at, (ulong)digest.Key);
                Buffer.BlockCopy(digest.Value, 0, block, at + 8, 32);
                at += DigestEntry;
            }
            sha.Initialize();
            sha.TransformBlock(block, 0, HashAt, null, 0);
            sha.TransformBlock(block, BlockHeader, tables, null, 0);
            sha.TransformFinalBlock(body, 0, bodyBytes);
            Buffer.BlockCopy(sha.Hash, 0, block, HashAt, 32);
            Buffer.BlockCopy(content, 0, block, at, contentBytes);
            sha.Initialize();
            bodyBytes = 0;
            entries.Clear();
            digests.Clear();
            ready.Add(block, cancelled.Token);
            NextBlock++;
        }

        // Deflates the body into packed where that pays, and says whether it did. A block whose neighbour before
        // it shrank is tried at once, others by three samples first, which cost a fifth of deflating it: where they
        // said no, the next blocks are not asked.
        bool Deflates()
        {
            if (!mayDeflate || bodyBytes < 512)
            {
                return false;
            }
            if (unasked > 0)
            {
                unasked--;
                return false;
            }
            shrinks = (shrinks || bodyBytes < 12 * SampleBytes || SamplesShrink())
                && Deflate(0, bodyBytes) < bodyBytes;
            unasked = shrinks ? 0 : UnaskedBlocks;
            return shrinks;
        }

        bool SamplesShrink()
        {
            int spread = (bodyBytes - SampleBytes) / 2, left = 0;
            for (int i = 0; i < 3; i++)
            {
                left += Deflate(i * spread, SampleBytes);
            }
            return left <= SampleBytes * 3 * 9 / 10;
        }

        // Bytes that packed holds then.
        int Deflate(int start, int bytes)
        {
            packed.SetLength(0);
            using (DeflateStream deflater = new DeflateStream(packed, CompressionLevel.Fastest, true))
            {
                deflater.Write(body, start, bytes);
            }
            return (int)packed.Length;
        }

        // Gives the rest of the answer up.
        public void Dispose()
        {
            cancelled.Cancel();
            maker.Join();
            ready.Dispose();
            cancelled.Dispose();
        }
    }

    // SHA-256 of consecutive chunks of a disk, page by page.
    public sealed class ChunkDigests : IDisposable
    {
        const int ChunksPerPage = 1024;

        readonly int chunkBytes;
        readonly ReadAhead reads;
        readonly SHA256 sha = Disk.NewSha();
        readonly byte[] chunk, zeroDigest;
        readonly long first, count, end;
        long done;

        public ChunkDigests(Disk disk, int chunkBytes, ulong offset, ulong length)
        {
            ulong size = disk.Size;
            if (chunkBytes < 4096 || chunkBytes > 1 << 20 || (chunkBytes & (chunkBytes - 1)) != 0
                || offset % (ulong)chunkBytes != 0 || offset > size || length > size - offset)
            {
                throw new Failure("Hvps.BadRequest", 0, "no chunks of " + chunkBytes + " bytes at " + offset
                    + " for " + length + " bytes of " + size);
            }
            this.chunkBytes = chunkBytes;
            first = (long)offset / chunkBytes;
            // A part that ends inside a chunk takes that chunk whole.
            count = (long)((length + (ulong)chunkBytes - 1) / (ulong)chunkBytes);
            end = (long)size;
            reads = new ReadAhead(disk, Planned, count, chunkBytes);
            chunk = new byte[chunkBytes];
            zeroDigest = sha.ComputeHash(chunk);
        }

        ReadAhead.Unit Planned(long index)
        {
            ReadAhead.Unit unit = new ReadAhead.Unit();
            unit.At = (first + index) * chunkBytes;
            unit.Bytes = (int)Math.Min(chunkBytes, end - unit.At);
            return unit;
        }

        // Number of the first chunk of the page that Next gave.
        public ulong FirstChunk { get; private set; }

        // Digests of the next page, 32 bytes each; null after the last.
        public byte[] Next()
        {
            int inPage = (int)Math.Min(ChunksPerPage, count - done);
            if (inPage == 0)
            {
                return null;
            }
            FirstChunk = (ulong)(first + done);
            byte[] page = new byte[inPage * 32];
            for (int i = 0; i < inPage; i++)
            {
                int bytes = Planned(done).Bytes;
                Marshal.Copy(reads.Take(), chunk, 0, bytes);
                reads.Give();
                done++;
                byte[] digest = bytes == chunkBytes && Zero.All(chunk, 0, bytes)
                    ? zeroDigest : sha.ComputeHash(chunk, 0, bytes);
                Buffer.BlockCopy(digest, 0, page, i * 32, 32);
            }
            reads.Settle();
            return page;
        }

        public void Dispose()
        {
            reads.Dispose();
            sha.Dispose();
        }
    }

    internal static class Zero
    {
        // Whether all these bytes are zero. Data shows itself within the first few.
        internal static bool All(byte[] data, int start, int count)
        {
            int at = start, end = start + count;
            for (; at + 8 <= end; at += 8)
            {
                if (BitConverter.ToInt64(data, at) != 0)
                {
                    return false;
                }
            }
            for (; at < end; at++)
            {
                if (data[at] != 0)
                {
                    return false;
                }
            }
            return true;
        }
    }

    // A file on the host, read beside whoever has it open.
    public sealed class FileSource : IDisposable
    {
        public const int PieceBytes = 1 << 20;

        readonly SafeFileHandle handle;
        readonly Slot slot = new Slot(PieceBytes);
        readonly long size;

        public FileSource(string path)
        {
            handle = Native.OpenFile(path, out size);
        }

        public long Size
        {
            get { return size; }
        }

        // Read as a delegate, which Windows PowerShell cannot make of a method.
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
            using (SHA256 sha = Disk.NewSha())
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
