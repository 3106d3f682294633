#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Collections.Generic;
    using System.Runtime.InteropServices;

    // Folders on the host.
    public static class HostFolder
    {
        // Makes a folder and its parents; returns those that did not exist, the outermost first.
        public static string[] Make(string path)
        {
            List<string> missing = new List<string>();
            for (string at = path; at != null && !Exists(at); at = Parent(at))
            {
                missing.Insert(0, at);
            }
            foreach (string folder in missing)
            {
                if (!NativeFile.CreateDirectoryW(folder, IntPtr.Zero))
                {
                    throw NativeFile.Error("cannot make the folder " + folder);
                }
            }
            return missing.ToArray();
        }

        // Removes an empty folder; false if there is none, or there is something in it.
        public static bool Remove(string path)
        {
            if (NativeFile.RemoveDirectoryW(path))
            {
                return true;
            }
            const int notEmpty = 145;
            return Marshal.GetLastWin32Error() != notEmpty && NewFile.Gone("cannot remove the folder " + path);
        }

        // Whether there is a file or folder of that name.
        public static bool Exists(string path)
        {
            return NativeFile.GetFileAttributesW(path) != NativeFile.Missing;
        }

        // Attributes of the innermost part of a path that exists, and the free bytes there.
        public static uint Look(string path, out ulong free)
        {
            string at = path;
            while (!Exists(at) && Parent(at) != null)
            {
                at = Parent(at);
            }
            uint attributes = NativeFile.GetFileAttributesW(at);
            if (attributes == NativeFile.Missing
                || !NativeFile.GetDiskFreeSpaceExW(at, out free, IntPtr.Zero, IntPtr.Zero))
            {
                throw Failure.FromCode(Marshal.GetLastWin32Error(), "Hvps.FileNotFound", "cannot use " + at);
            }
            return attributes;
        }

        // The folder that a path is in; null for the root of a volume or share.
        static string Parent(string path)
        {
            string trimmed = path.TrimEnd('\\');
            int at = trimmed.LastIndexOf('\\');
            int root = trimmed.StartsWith(@"\\") ? trimmed.IndexOf('\\', Math.Max(trimmed.IndexOf('\\', 2), 1) + 1) : 0;
            if (at < 0 || root < 0)
            {
                return null;
            }
            string parent = trimmed.Substring(0, at);
            return parent.EndsWith(":") ? parent + "\\" : parent;
        }
    }
}
#endif
