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

    // What GetVirtualDiskInformation reports about a disk.
    public sealed class DiskFacts
    {
        public ulong Size;
        public uint SectorSize;
        public bool TrackingEnabled, NewerChanges;
        public string RctId;
    }

    // Questions about a disk that need not be attached.
    public static class DiskQuery
    {
        const int RangesPerQuery = 4096;

        // Whether virtdisk.dll answers: it must refuse a file that cannot exist.
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

        // Size and change tracking (docs/hyperv-facts.md#tracking-state, docs/hyperv-facts.md#tracking-handle).
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

        // One step of a change query, starting at offset.
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
                    throw Failure.FromCode(code, "Hvps.TrackingUnusable", "cannot query changes of " + path);
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
                return page;
            }
        }
    }
}
#endif
