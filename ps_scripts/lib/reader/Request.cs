#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Collections.Generic;

    // One request of a reader pipeline, cut into pieces, and the reads that bring them.
    // Format: hvpsbridge/formats/wire.py.
    internal sealed class Request
    {
        const int HeaderBytes = 20, ExtentBytes = 12;
        // Four of these are outstanding at once: enough for a disk, and 1 MiB per pipeline.
        const int UnitBytes = Slot.UnitBytes;

        internal struct Piece
        {
            public long Offset;
            public int Bytes;
            public int Unit;
            public bool EndsChunk;
        }

        internal readonly uint Number;
        internal readonly int ChunkBytes, BlockBytes;
        internal readonly bool WantDigests, MayDeflate;
        // In the order of the extents; each lies within one chunk, fits into a block, and is read by one unit.
        internal readonly List<Piece> Pieces = new List<Piece>();
        internal readonly List<ReadAhead.Unit> Units = new List<ReadAhead.Unit>();

        readonly ulong diskBytes;

        internal Request(Disk disk, byte[] packed)
        {
            diskBytes = disk.Size;
            if (packed == null || packed.Length < HeaderBytes || packed[0] != 'H' || packed[1] != 'Q')
            {
                throw Bad("not a request");
            }
            if (packed[2] != 1)
            {
                throw Bad("version " + packed[2]);
            }
            WantDigests = (packed[3] & 1) != 0;
            MayDeflate = (packed[3] & 2) != 0;
            Number = BitConverter.ToUInt32(packed, 4);
            uint chunk = BitConverter.ToUInt32(packed, 8), block = BitConverter.ToUInt32(packed, 12);
            uint count = BitConverter.ToUInt32(packed, 16);
            if (chunk < 4096 || chunk > 1 << 20 || (chunk & (chunk - 1)) != 0)
            {
                throw Bad("chunks of " + chunk + " bytes");
            }
            if (block < 4096 || block > 1 << 24)
            {
                throw Bad("blocks of " + block + " bytes");
            }
            if (packed.Length != HeaderBytes + (long)count * ExtentBytes)
            {
                throw Bad(count + " extents in " + packed.Length + " bytes");
            }
            ChunkBytes = (int)chunk;
            BlockBytes = (int)block;
            for (int at = HeaderBytes; at < packed.Length; at += ExtentBytes)
            {
                Cut(BitConverter.ToUInt64(packed, at), BitConverter.ToUInt32(packed, at + 8));
            }
            MarkChunkEnds();
            PlanReads(Math.Max(512, (int)disk.SectorSize));
        }

        static Failure Bad(string problem)
        {
            return new Failure("Hvps.BadRequest", 0, "unusable request: " + problem);
        }

        // Cuts an extent at chunk boundaries, so that zero chunks are found, and to the size of a block.
        void Cut(ulong offset, uint length)
        {
            if (length == 0 || length > int.MaxValue || offset > diskBytes || length > diskBytes - offset)
            {
                throw Bad(length + " bytes at " + offset + " of " + diskBytes);
            }
            long at = (long)offset, end = at + length;
            while (at < end)
            {
                Piece piece = new Piece();
                piece.Offset = at;
                long stop = Math.Min(end, (at / ChunkBytes + 1) * ChunkBytes);
                piece.Bytes = (int)Math.Min(stop - at, BlockBytes);
                Pieces.Add(piece);
                at += piece.Bytes;
            }
        }

        void MarkChunkEnds()
        {
            if (!WantDigests)
            {
                return;
            }
            HashSet<long> seen = new HashSet<long>();
            for (int i = Pieces.Count - 1; i >= 0; i--)
            {
                Piece piece = Pieces[i];
                piece.EndsChunk = seen.Add(piece.Offset / ChunkBytes);
                Pieces[i] = piece;
            }
        }

        // With digests a unit is the whole chunk of neighbouring pieces; without, it joins neighbouring pieces up
        // to UnitBytes. Units are whole sectors.
        void PlanReads(long sector)
        {
            long size = (long)diskBytes;
            long start = 0, end = -1, chunk = -1;
            for (int i = 0; i < Pieces.Count; i++)
            {
                Piece piece = Pieces[i];
                long stop = piece.Offset + piece.Bytes;
                bool joins = WantDigests
                    ? chunk == piece.Offset / ChunkBytes
                    : piece.Offset == end && stop - start <= UnitBytes;
                if (joins)
                {
                    end = stop;
                }
                else
                {
                    AddUnit(start, end, sector, size);
                    start = piece.Offset;
                    end = stop;
                    chunk = piece.Offset / ChunkBytes;
                    if (WantDigests)
                    {
                        start = chunk * ChunkBytes;
                        end = Math.Min(size, start + ChunkBytes);
                    }
                }
                piece.Unit = Units.Count;
                Pieces[i] = piece;
                if (WantDigests)
                {
                    end = Math.Min(size, start + ChunkBytes);
                }
            }
            AddUnit(start, end, sector, size);
        }

        void AddUnit(long start, long end, long sector, long size)
        {
            if (end < 0)
            {
                return;
            }
            ReadAhead.Unit unit = new ReadAhead.Unit();
            unit.At = start / sector * sector;
            unit.Bytes = (int)(Math.Min(size, (end + sector - 1) / sector * sector) - unit.At);
            Units.Add(unit);
        }
    }
}
#endif
