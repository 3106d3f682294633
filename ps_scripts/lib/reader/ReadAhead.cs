#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using Microsoft.Win32.SafeHandles;

    // Overlapped reads of one thread: several are outstanding, and their results are taken in order.
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

        // Units 0 to count - 1 come from plan, each called for once and in order; none is longer than largest.
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

        // The bytes of the current unit; valid until Advance.
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

        // Makes the next unit the current one; the slot of the last one may be read into again.
        internal void Advance()
        {
            taken++;
        }

        // Waits for outstanding reads and releases the handle. Call before anything that may take long.
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
}
#endif
