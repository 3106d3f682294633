#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using Microsoft.Win32.SafeHandles;

    // Whether a disk can be opened at all.
    public static class DiskProbe
    {
        // Opens a disk for information only. Returns the Windows code of a refusal, or 0.
        public static int Open(string path, ref ulong size)
        {
            SafeFileHandle info;
            int code = Native.TryOpenDisk(path, true, out info);
            if (code != 0)
            {
                return code;
            }
            try
            {
                using (info)
                {
                    size = BitConverter.ToUInt64(Native.Information(info, 1, path), 8);
                    return 0;
                }
            }
            catch (Failure failure)
            {
                return failure.Native;
            }
        }
    }
}
#endif
