#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;
    using System.Security.Cryptography;

    // Integers, zeros and digests of byte arrays.
    internal static class Bytes
    {
        static readonly Type fastSha = FindFastSha();

        // Writes a little endian integer.
        internal static void Put(byte[] into, int at, ulong value)
        {
            for (int i = 0; i < 8; i++)
            {
                into[at + i] = (byte)(value >> (8 * i));
            }
        }

        internal static void Put(byte[] into, int at, uint value)
        {
            for (int i = 0; i < 4; i++)
            {
                into[at + i] = (byte)(value >> (8 * i));
            }
        }

        // Whether all these bytes are zero. Other data differs within the first few.
        internal static bool AllZero(byte[] data, int start, int count)
        {
            int at = start, end = start + count;
            for (; at + 8 <= end; at += 8)
            {
                if (BitConverter.ToInt64(data, at) != 0)
                {
                    return false;
                }
            }
            for (; at < end; at++)
            {
                if (data[at] != 0)
                {
                    return false;
                }
            }
            return true;
        }

        // SHA-256 by the system's implementation. On .NET Framework SHA256.Create() is the slow managed one, which
        // FIPS policy forbids; elsewhere it is the fast one, and SHA256Cng may be missing.
        internal static SHA256 NewSha()
        {
            return fastSha == null ? SHA256.Create() : (SHA256)Activator.CreateInstance(fastSha);
        }

        static Type FindFastSha()
        {
            try
            {
                Type type = Type.GetType("System.Security.Cryptography.SHA256Cng, System.Core, "
                    + "Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089", false);
                if (type != null)
                {
                    ((IDisposable)Activator.CreateInstance(type)).Dispose();
                }
                return type;
            }
            catch (Exception)
            {
                return null;
            }
        }
    }
}
#endif
