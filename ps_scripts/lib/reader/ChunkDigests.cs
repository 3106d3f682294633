#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Runtime.InteropServices;
    using System.Security.Cryptography;

    // SHA-256 of consecutive chunks of a disk, page by page.
    public sealed class ChunkDigests : IDisposable
    {
        const int ChunksPerPage = 1024;

        readonly int chunkBytes;
        readonly ReadAhead reads;
        readonly SHA256 sha = Bytes.NewSha();
        readonly byte[] chunk, zeroDigest;
        readonly long first, count, end;
        long done;

        public ChunkDigests(Disk disk, int chunkBytes, ulong offset, ulong length)
        {
            ulong size = disk.Size;
            if (chunkBytes < 4096 || chunkBytes > 1 << 20 || (chunkBytes & (chunkBytes - 1)) != 0
                || offset % (ulong)chunkBytes != 0 || offset > size || length > size - offset)
            {
                throw new Failure("Hvps.BadRequest", 0, "unusable range: chunks of " + chunkBytes + " bytes, "
                    + length + " bytes at " + offset + " of " + size);
            }
            this.chunkBytes = chunkBytes;
            first = (long)offset / chunkBytes;
            // A range that ends inside a chunk includes the whole chunk.
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

        // Number of the first chunk of the page that Next returned.
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
                reads.Advance();
                done++;
                byte[] digest = bytes == chunkBytes && Bytes.AllZero(chunk, 0, bytes)
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
}
#endif
