#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Collections.Generic;
    using System.Runtime.InteropServices;
    using System.Threading;
    using Microsoft.Win32.SafeHandles;

    // One outstanding read with its own unmanaged buffer, OVERLAPPED and event. Any number of slots may share a
    // handle; each slot is used by one thread. The buffer is unmanaged because a pending read outlives the call
    // that started it; the event is its own because without one any read of the handle would wake the waiter
    // (docs/hyperv-facts.md#overlapped-reads).
    internal sealed class Slot : IDisposable
    {
        // Bytes of one read, plus the rest of its first and last sectors of up to 4096 bytes.
        internal const int UnitBytes = 1 << 18;
        internal const int UsualBytes = UnitBytes + 2 * 4096;
        const int MaxSpare = 32;
        // Slots of the usual size are kept for the next request: allocating them for each one would fragment the
        // heap.
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

        // A slot for reads of up to this many bytes; return it with GiveBack.
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
                if (size == UsualBytes && spare.Count < MaxSpare)
                {
                    spare.Push(this);
                    return;
                }
            }
            Dispose();
        }

        // Frees the spare slots, when no disk is being read.
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
                throw new InvalidOperationException("cannot read " + bytes + " bytes into a slot of " + size);
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

        // Waits for the read. A short read is an error, never data.
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

        // The kernel owns the buffer while a read is pending: it must not be freed or reused before.
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
}
#endif
