#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Collections.Concurrent;
    using System.Collections.Generic;
    using System.Runtime.InteropServices;
    using System.Security.Cryptography;
    using System.Threading;

    // The reply to one request of a reader pipeline. A thread of its own reads and builds blocks while the
    // pipeline's thread serializes those that are ready.
    public sealed class Reply : IDisposable
    {
        // Blocks that may wait to be serialized; bounds the memory.
        const int ReadyBlocks = 2;

        readonly Disk disk;
        readonly Request request;
        readonly BlockingCollection<byte[]> ready = new BlockingCollection<byte[]>(ReadyBlocks);
        readonly CancellationTokenSource cancelled = new CancellationTokenSource();
        readonly Thread maker;
        Exception problem;

        // Number of the block to be built next.
        public int NextBlock { get; private set; }

        public Reply(Disk disk, byte[] request, int firstBlock)
        {
            this.disk = disk;
            this.request = new Request(disk, request);
            NextBlock = firstBlock;
            maker = new Thread(Make);
            maker.IsBackground = true;
            maker.Start();
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
                foreach (ReadAhead.Unit unit in request.Units)
                {
                    largest = Math.Max(largest, unit.Bytes);
                }
                using (ReadAhead reads = new ReadAhead(disk, Planned, request.Units.Count, largest))
                using (SHA256 sha = Bytes.NewSha())
                {
                    Build(reads, sha);
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

        void Build(ReadAhead reads, SHA256 sha)
        {
            BlockBuilder builder = new BlockBuilder(request, sha);
            byte[] chunk = request.WantDigests ? new byte[request.ChunkBytes] : null;
            int current = 0;
            foreach (Request.Piece piece in request.Pieces)
            {
                if (!builder.Fits(piece.Bytes))
                {
                    Emit(reads, builder, false);
                }
                if (piece.Unit != current)
                {
                    reads.Advance();
                    current = piece.Unit;
                }
                ReadAhead.Unit unit = request.Units[current];
                IntPtr bytes = reads.Take();
                builder.Add(IntPtr.Add(bytes, (int)(piece.Offset - unit.At)), piece.Offset, piece.Bytes);
                if (piece.EndsChunk)
                {
                    Marshal.Copy(bytes, chunk, 0, unit.Bytes);
                    builder.AddDigest(piece.Offset / request.ChunkBytes, sha.ComputeHash(chunk, 0, unit.Bytes));
                }
            }
            Emit(reads, builder, true);
        }

        // Hands the current block over. This may wait for the pipeline's thread, so the disk is released before.
        void Emit(ReadAhead reads, BlockBuilder builder, bool last)
        {
            reads.Settle();
            ready.Add(builder.Build(NextBlock, last), cancelled.Token);
            NextBlock++;
        }

        ReadAhead.Unit Planned(long index)
        {
            return request.Units[(int)index];
        }

        // Abandons the rest of the reply.
        public void Dispose()
        {
            cancelled.Cancel();
            maker.Join();
            ready.Dispose();
            cancelled.Dispose();
        }
    }
}
#endif
