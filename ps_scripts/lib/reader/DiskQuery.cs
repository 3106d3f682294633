#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Text;
    using Microsoft.Win32.SafeHandles;

    // One answer to a change query.
    public sealed class ChangePage
    {
        public ulong Offset, Processed;
        public byte[] Extents;
    }

    // What a handle reports about its disk.
    public sealed class DiskFacts
    {
        public ulong Size;
        public uint SectorSize;
        public bool TrackingEnabled, NewerChanges;
        public string RctId;
        // Windows's code if the handle does not report on tracking, else 0.
        public uint TrackingCode;
    }

    // Questions about a disk and its change tracking.
    public static class DiskQuery
    {
        const int RangesPerQuery = 4096;

        // Whether virtdisk.dll answers: it must refuse a file that cannot exist.
        public static bool LibraryAnswers()
        {
            SafeFileHandle none;
            Native.TryOpenDisk("\\\\?\\hvps-no-such-file.vhdx", true, out none);
            none.Dispose();
            return true;
        }

        // Size and change tracking, as the attached handle reports them. A refusal to report on tracking is
        // part of the answer (docs/hyperv-facts.md#tracking-state, docs/hyperv-facts.md#tracking-handle).
        public static DiskFacts Facts(Disk disk)
        {
            SafeFileHandle handle = disk.Enter();
            try
            {
                DiskFacts facts = new DiskFacts();
                facts.Size = disk.Size;
                facts.SectorSize = disk.SectorSize;
                AddTracking(facts, handle);
                if (Failure.IsLost(unchecked((int)facts.TrackingCode)))
                {
                    throw Lost(unchecked((int)facts.TrackingCode), disk.Path);
                }
                return facts;
            }
            finally
            {
                disk.Leave();
            }
        }

        // Change tracking, as a handle for information reports it; without the size. Never fails.
        public static DiskFacts InfoOnlyFacts(string path)
        {
            DiskFacts facts = new DiskFacts();
            SafeFileHandle info;
            int code = Native.TryOpenDisk(path, true, out info);
            using (info)
            {
                if (code != 0)
                {
                    facts.TrackingCode = unchecked((uint)code);
                }
                else
                {
                    AddTracking(facts, info);
                }
            }
            return facts;
        }

        static void AddTracking(DiskFacts facts, SafeFileHandle handle)
        {
            byte[] tracking;
            int code = Native.TryInformation(handle, 15, out tracking);
            if (code != 0)
            {
                facts.TrackingCode = unchecked((uint)code);
                return;
            }
            facts.TrackingEnabled = BitConverter.ToInt32(tracking, 8) != 0;
            facts.NewerChanges = BitConverter.ToInt32(tracking, 12) != 0;
            string id = Encoding.Unicode.GetString(tracking, 16, tracking.Length - 16);
            int end = id.IndexOf('\0');
            id = end < 0 ? id : id.Substring(0, end);
            facts.RctId = id.Length == 0 ? null : id;
        }

        // One step of a change query, starting at offset: on the attached handle; if that refuses for a reason
        // that is not one of tracking, on a handle for information (docs/hyperv-facts.md#tracking-handle).
        public static ChangePage Changes(Disk disk, string id, ulong offset, ulong length)
        {
            ChangePage page = new ChangePage();
            page.Offset = offset;
            int code;
            SafeFileHandle handle = disk.Enter();
            try
            {
                code = Query(handle, id, length, page);
            }
            finally
            {
                disk.Leave();
            }
            if (Failure.IsLost(code))
            {
                throw Lost(code, disk.Path);
            }
            string problem = "cannot query changes of " + disk.Path;
            if (code != 0 && !Failure.IsOfTracking(code))
            {
                SafeFileHandle info;
                int second = Native.TryOpenDisk(disk.Path, true, out info);
                using (info)
                {
                    second = second == 0 ? Query(info, id, length, page) : second;
                }
                problem += string.Format("; 0x{0:X8} on a handle for information", second);
                code = second == 0 ? 0 : code;
            }
            if (code != 0)
            {
                throw new Failure("Hvps.TrackingUnusable", code, problem);
            }
            return page;
        }

        // Fills page from its offset; returns Windows's code.
        static int Query(SafeFileHandle handle, string id, ulong length, ChangePage page)
        {
            Native.ChangedRange[] ranges = new Native.ChangedRange[RangesPerQuery];
            uint count = RangesPerQuery;
            int code = Native.QueryChangesVirtualDisk(handle, id, page.Offset, length, 0, ranges, ref count,
                out page.Processed);
            if (code != 0)
            {
                return code;
            }
            if (count > RangesPerQuery)
            {
                throw new Failure("Hvps.TrackingUnusable", 0, "a change query returned " + count + " ranges");
            }
            if (count > 0)
            {
                page.Extents = new byte[count * 16];
                for (int i = 0; i < count; i++)
                {
                    Bytes.Put(page.Extents, i * 16, ranges[i].Offset);
                    Bytes.Put(page.Extents, i * 16 + 8, ranges[i].Length);
                }
            }
            return 0;
        }

        static Failure Lost(int code, string path)
        {
            return new Failure("Hvps.DiskUnreadable", code, "the handle of " + path + " was lost");
        }
    }
}
#endif
