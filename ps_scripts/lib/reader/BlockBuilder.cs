#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Collections.Generic;
    using System.IO;
    using System.IO.Compression;
    using System.Runtime.InteropServices;
    using System.Security.Cryptography;

    // Builds the blocks that answer one request, one after the other. Format: hvpsbridge/formats/wire.py.
    internal sealed class BlockBuilder
    {
        const int HeaderBytes = 64, HashAt = 32, ExtentBytes = 12, DigestBytes = 40;
        const uint ZeroFlag = 0x80000000u;
        const int MaxEntries = 16384;
        const int SampleBytes = 4096;
        // Blocks that are sent as they are after samples showed that deflating does not pay.
        const int SkippedBlocks = 3;

        readonly Request request;
        readonly SHA256 sha;
        readonly byte[] body;
        int bodyBytes;
        readonly MemoryStream packed = new MemoryStream();
        bool shrinks;
        int skip;
        readonly List<KeyValuePair<long, uint>> entries = new List<KeyValuePair<long, uint>>();
        readonly List<KeyValuePair<long, byte[]>> digests = new List<KeyValuePair<long, byte[]>>();

        // Uses sha until the last block is built.
        internal BlockBuilder(Request request, SHA256 sha)
        {
            this.request = request;
            this.sha = sha;
            body = new byte[request.BlockBytes];
        }

        // Whether this many more bytes fit into the current block.
        internal bool Fits(int bytes)
        {
            return bodyBytes + bytes <= body.Length && entries.Count < MaxEntries && digests.Count < MaxEntries;
        }

        // Adds bytes of the disk; zeros take no space, and neighbours become one extent.
        internal void Add(IntPtr from, long offset, int bytes)
        {
            Marshal.Copy(from, body, bodyBytes, bytes);
            bool zero = Bytes.AllZero(body, bodyBytes, bytes);
            uint flag = zero ? ZeroFlag : 0u;
            if (!zero)
            {
                bodyBytes += bytes;
            }
            if (entries.Count > 0)
            {
                KeyValuePair<long, uint> last = entries[entries.Count - 1];
                long length = last.Value & 0x7FFFFFFF;
                if (last.Key + length == offset && (last.Value & ZeroFlag) == flag
                    && length + bytes <= int.MaxValue)
                {
                    entries[entries.Count - 1] = new KeyValuePair<long, uint>(last.Key, (uint)(length + bytes) | flag);
                    return;
                }
            }
            entries.Add(new KeyValuePair<long, uint>(offset, (uint)bytes | flag));
        }

        // Adds the digest of a whole chunk.
        internal void AddDigest(long chunk, byte[] digest)
        {
            digests.Add(new KeyValuePair<long, byte[]>(chunk, digest));
        }

        // The current block; the next one starts empty.
        internal byte[] Build(int number, bool last)
        {
            int tables = entries.Count * ExtentBytes + digests.Count * DigestBytes;
            bool deflated = TryDeflate();
            byte[] content = deflated ? packed.GetBuffer() : body;
            int contentBytes = deflated ? (int)packed.Length : bodyBytes;
            byte[] block = new byte[HeaderBytes + tables + contentBytes];
            block[0] = (byte)'H';
            block[1] = (byte)'B';
            block[2] = 1;
            block[3] = (byte)(last ? 1 : 0);
            Bytes.Put(block, 4, request.Number);
            Bytes.Put(block, 8, (uint)number);
            block[12] = (byte)(deflated ? 1 : 0);
            Bytes.Put(block, 16, (uint)bodyBytes);
            Bytes.Put(block, 20, (uint)contentBytes);
            Bytes.Put(block, 24, (uint)entries.Count);
            Bytes.Put(block, 28, (uint)digests.Count);
            int at = HeaderBytes;
            foreach (KeyValuePair<long, uint> entry in entries)
            {
                Bytes.Put(block, at, (ulong)entry.Key);
                Bytes.Put(block, at + 8, entry.Value);
                at += ExtentBytes;
            }
            foreach (KeyValuePair<long, byte[]> digest in digests)
            {
                Bytes.Put(block, at, (ulong)digest.Key);
                Buffer.BlockCopy(digest.Value, 0, block, at + 8, 32);
                at += DigestBytes;
            }
            sha.Initialize();
            sha.TransformBlock(block, 0, HashAt, null, 0);
            sha.TransformBlock(block, HeaderBytes, tables, null, 0);
            sha.TransformFinalBlock(body, 0, bodyBytes);
            Buffer.BlockCopy(sha.Hash, 0, block, HashAt, 32);
            Buffer.BlockCopy(content, 0, block, at, contentBytes);
            sha.Initialize();
            bodyBytes = 0;
            entries.Clear();
            digests.Clear();
            return block;
        }

        // Deflates the body into packed if that makes it smaller. When the block before shrank, the whole body is
        // tried; otherwise three samples first, at a fifth of the cost. If they do not shrink, the next blocks
        // are not tried at all.
        bool TryDeflate()
        {
            if (!request.MayDeflate || bodyBytes < 512)
            {
                return false;
            }
            if (skip > 0)
            {
                skip--;
                return false;
            }
            shrinks = (shrinks || bodyBytes < 12 * SampleBytes || SamplesShrink())
                && Deflate(0, bodyBytes) < bodyBytes;
            skip = shrinks ? 0 : SkippedBlocks;
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

        // Deflates a part of the body into packed; returns the size of the result.
        int Deflate(int start, int bytes)
        {
            packed.SetLength(0);
            using (DeflateStream deflater = new DeflateStream(packed, CompressionLevel.Fastest, true))
            {
                deflater.Write(body, start, bytes);
            }
            return (int)packed.Length;
        }
    }
}
#endif
