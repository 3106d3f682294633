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
            SafeFileHandle handle;
            int code = Native.TryOpenDisk(path, true, out handle);
            if (code != 0)
            {
                return code;
            }
            using (handle)
            {
                byte[] info;
                code = Native.TryInformation(handle, 1, out info);
                if (code == 0)
                {
                    size = BitConverter.ToUInt64(info, 8);
                }
                return code;
            }
        }
    }
}
#endif
