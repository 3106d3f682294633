// Finds which bytes of a VHDX chain hold data, from the headers, regions, metadata and block tables of its files, by
// MS-VHDX (docs/hyperv-facts.md#vhdx-structures, docs/hyperv-facts.md#vhdx-allocation). Opens no files: the caller
// passes functions that read them. C# 5; compiles alone.
//
// The result may include too much, but never too little: everything that may not read as zeros is included.
namespace Hvps
{
    using System;
    using System.Collections.Generic;
    using System.IO;
    using System.Text;

    // The file is not a VHDX, or cannot be parsed.
    public sealed class VhdxUnsupported : Exception
    {
        public VhdxUnsupported(string what)
            : base(what)
        {
        }
    }

    // A half-open range of the virtual disk.
    public struct VhdxRange
    {
        public ulong Offset, Length;

        public VhdxRange(ulong offset, ulong length)
        {
            Offset = offset;
            Length = length;
        }
    }

    // The tables of a file.
    public sealed class VhdxFile
    {
        const int HeaderBytes = 4096, RegionTableBytes = 65536;
        static readonly long[] headerOffsets = { 0x10000, 0x20000 };
        static readonly long[] regionOffsets = { 0x30000, 0x40000 };
        static readonly Guid batRegion = new Guid("2DC27766-F623-4200-9D64-115E9BFD4A08");
        static readonly Guid metadataRegion = new Guid("8B7CA206-4790-4B9A-B8FE-575F050F886E");
        static readonly Guid fileParameters = new Guid("CAA16737-FA36-4D43-B3B6-33F0AA44E76B");
        static readonly Guid virtualSize = new Guid("2FA54224-CD1B-4876-B211-5DBED83BF4B8");
        static readonly Guid logicalSector = new Guid("8141BF1D-A96F-4709-BA47-F233A8FAAB5F");

        readonly Func<long, int, byte[]> read;
        readonly string name;
        readonly ulong chunkRatio;
        readonly long batOffset;
        readonly ulong batBytes;

        public readonly ulong Size, BlockBytes;
        public readonly bool HasParent;

        // Reads all tables except the block table, which is read in parts.
        public VhdxFile(string name, Func<long, int, byte[]> read)
        {
            this.name = name;
            this.read = read;
            if (Encoding.ASCII.GetString(read(0, 8)) != "vhdxfile")
            {
                throw new VhdxUnsupported(name + " is not a VHDX");
            }
            CheckHeader();
            byte[] regions = Table(regionOffsets, RegionTableBytes, 0x69676572, "region table");
            uint count = BitConverter.ToUInt32(regions, 8);
            long metadata = 0;
            for (int i = 0; i < count && i < 2047; i++)
            {
                int at = 16 + i * 32;
                Guid id = GuidAt(regions, at);
                if (id == batRegion)
                {
                    batOffset = BitConverter.ToInt64(regions, at + 16);
                    batBytes = BitConverter.ToUInt32(regions, at + 24);
                }
                else if (id == metadataRegion)
                {
                    metadata = BitConverter.ToInt64(regions, at + 16);
                }
                else if ((BitConverter.ToUInt32(regions, at + 28) & 1) != 0)
                {
                    throw new VhdxUnsupported(name + " requires an unknown region " + id);
                }
            }
            if (batOffset == 0 || metadata == 0)
            {
                throw new VhdxUnsupported(name + " has no block table or no metadata region");
            }
            byte[] table = read(metadata, 65536);
            if (Encoding.ASCII.GetString(table, 0, 8) != "metadata")
            {
                throw new VhdxUnsupported(name + " has no metadata table");
            }
            uint sector = 0;
            int entries = BitConverter.ToUInt16(table, 10);
            for (int i = 0; i < entries && i < 2047; i++)
            {
                int at = 32 + i * 32;
                Guid id = GuidAt(table, at);
                long offset = metadata + BitConverter.ToUInt32(table, at + 16);
                if (id == fileParameters)
                {
                    byte[] item = read(offset, 8);
                    BlockBytes = BitConverter.ToUInt32(item, 0);
                    HasParent = (BitConverter.ToUInt32(item, 4) & 2) != 0;
                }
                else if (id == virtualSize)
                {
                    Size = BitConverter.ToUInt64(read(offset, 8), 0);
                }
                else if (id == logicalSector)
                {
                    sector = BitConverter.ToUInt32(read(offset, 4), 0);
                }
            }
            if (BlockBytes < 1 << 20 || (BlockBytes & (BlockBytes - 1)) != 0 || Size == 0
                || (sector != 512 && sector != 4096))
            {
                throw new VhdxUnsupported(name + " has invalid metadata");
            }
            chunkRatio = ((ulong)sector << 23) / BlockBytes;
            ulong blocks = (Size + BlockBytes - 1) / BlockBytes;
            if ((blocks + (blocks - 1) / chunkRatio) * 8 > batBytes)
            {
                throw new VhdxUnsupported(name + " has a truncated block table");
            }
        }

        // The current header is the valid one with the higher sequence number. A file with a log to replay is an
        // error (docs/hyperv-facts.md#vhdx-log).
        void CheckHeader()
        {
            byte[] current = null;
            foreach (long offset in headerOffsets)
            {
                byte[] header = read(offset, HeaderBytes);
                if (BitConverter.ToUInt32(header, 0) != 0x64616568 || !IsValid(header))
                {
                    continue;
                }
                if (current == null
                    || BitConverter.ToUInt64(header, 8) > BitConverter.ToUInt64(current, 8))
                {
                    current = header;
                }
            }
            if (current == null)
            {
                throw new VhdxUnsupported(name + " has no valid header");
            }
            if (BitConverter.ToUInt16(current, 66) != 1)
            {
                throw new VhdxUnsupported(name + " has version " + BitConverter.ToUInt16(current, 66));
            }
            if (GuidAt(current, 48) != Guid.Empty)
            {
                throw new VhdxUnsupported(name + " has a log to replay");
            }
        }

        byte[] Table(long[] offsets, int bytes, uint signature, string what)
        {
            foreach (long offset in offsets)
            {
                byte[] table = read(offset, bytes);
                if (BitConverter.ToUInt32(table, 0) == signature && IsValid(table))
                {
                    return table;
                }
            }
            throw new VhdxUnsupported(name + " has no valid " + what);
        }

        static Guid GuidAt(byte[] data, int at)
        {
            byte[] id = new byte[16];
            Buffer.BlockCopy(data, at, id, 0, 16);
            return new Guid(id);
        }

        // Checks the CRC-32C of a structure; its checksum field (bytes 4 to 7) counts as zero.
        static bool IsValid(byte[] data)
        {
            uint crc = 0xFFFFFFFF;
            for (int i = 0; i < data.Length; i++)
            {
                crc = crcTable[(crc ^ (i >= 4 && i < 8 ? (byte)0 : data[i])) & 0xFF] ^ (crc >> 8);
            }
            return (crc ^ 0xFFFFFFFF) == BitConverter.ToUInt32(data, 4);
        }

        static readonly uint[] crcTable = CrcTable();

        static uint[] CrcTable()
        {
            uint[] table = new uint[256];
            for (uint i = 0; i < 256; i++)
            {
                uint value = i;
                for (int bit = 0; bit < 8; bit++)
                {
                    value = (value & 1) != 0 ? 0x82F63B78 ^ (value >> 1) : value >> 1;
                }
                table[i] = value;
            }
            return table;
        }

        // States of consecutive blocks. The entry of a sector bitmap follows every chunkRatio payload entries.
        public int[] States(ulong first, int count)
        {
            ulong start = first + first / chunkRatio;
            ulong last = first + (ulong)count - 1;
            int entries = (int)(last + last / chunkRatio - start + 1);
            byte[] table = read(batOffset + (long)start * 8, entries * 8);
            int[] states = new int[count];
            for (int i = 0; i < count; i++)
            {
                ulong block = first + (ulong)i;
                states[i] = table[(int)(block + block / chunkRatio - start) * 8] & 7;
            }
            return states;
        }
    }

    public static class Vhdx
    {
        const int NotPresent = 0, Zeros = 2;
        const int StatesAtOnce = 65536;

        // Ranges of the disk that hold data in any file of the chain, sorted and joined. The chain is top first.
        public static List<VhdxRange> Allocated(IList<VhdxFile> chain)
        {
            if (chain[chain.Count - 1].HasParent)
            {
                throw new InvalidDataException("the chain ends with a file that has a parent");
            }
            List<VhdxRange> found = new List<VhdxRange>();
            List<VhdxRange> open = new List<VhdxRange>();
            open.Add(new VhdxRange(0, chain[0].Size));
            for (int layer = 0; layer < chain.Count; layer++)
            {
                List<VhdxRange> deeper = new List<VhdxRange>();
                bool parent = layer + 1 < chain.Count;
                foreach (VhdxRange range in open)
                {
                    Sort(chain[layer], range, found, parent ? deeper : null);
                }
                open = deeper;
            }
            found.Sort(delegate(VhdxRange a, VhdxRange b) { return a.Offset.CompareTo(b.Offset); });
            List<VhdxRange> joined = new List<VhdxRange>();
            foreach (VhdxRange range in found)
            {
                Append(joined, range);
            }
            return joined;
        }

        // Sorts a range by the block states of a file: data into found, blocks that the parent provides into deeper.
        // Undefined and unmapped blocks count as data, because they need not read as zeros, and so do blocks that
        // are partially present.
        static void Sort(VhdxFile file, VhdxRange range, List<VhdxRange> found, List<VhdxRange> deeper)
        {
            // Beyond the end of a shorter parent there are zeros.
            ulong end = Math.Min(range.Offset + range.Length, file.Size);
            ulong at = range.Offset;
            while (at < end)
            {
                ulong block = at / file.BlockBytes;
                ulong blocks = (end - 1) / file.BlockBytes - block + 1;
                int[] states = file.States(block, (int)Math.Min(blocks, StatesAtOnce));
                foreach (int state in states)
                {
                    ulong stop = Math.Min(end, (block + 1) * file.BlockBytes);
                    if (state == NotPresent)
                    {
                        if (deeper != null)
                        {
                            Append(deeper, new VhdxRange(at, stop - at));
                        }
                    }
                    else if (state != Zeros)
                    {
                        Append(found, new VhdxRange(at, stop - at));
                    }
                    at = stop;
                    block++;
                }
            }
        }

        static void Append(List<VhdxRange> ranges, VhdxRange range)
        {
            if (ranges.Count > 0)
            {
                VhdxRange last = ranges[ranges.Count - 1];
                if (last.Offset + last.Length == range.Offset)
                {
                    ranges[ranges.Count - 1] = new VhdxRange(last.Offset, last.Length + range.Length);
                    return;
                }
            }
            ranges.Add(range);
        }

        // Some of the ranges as packed pairs of u64.
        public static byte[] Pack(List<VhdxRange> ranges, int start, int count)
        {
            byte[] packed = new byte[count * 16];
            for (int i = 0; i < count; i++)
            {
                BitConverter.GetBytes(ranges[start + i].Offset).CopyTo(packed, i * 16);
                BitConverter.GetBytes(ranges[start + i].Length).CopyTo(packed, i * 16 + 8);
            }
            return packed;
        }
    }
}
