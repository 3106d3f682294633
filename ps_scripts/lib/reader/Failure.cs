#if HVPS_READER // Part of the reader, see lib/Reader.ps1; does not compile alone.
namespace Hvps
{
    using System;

    // An error with an id of the contract and the Windows code, if there is one.
    public sealed class Failure : Exception
    {
        public readonly string Id;
        public readonly int Native;

        public Failure(string id, int native, string message)
            : base(message)
        {
            Id = id;
            Native = native;
        }

        // The failure for a code from opening, attaching or querying a disk; the fallback id for other codes.
        public static Failure FromCode(int native, string fallback, string message)
        {
            return new Failure(IdOf(unchecked((uint)native), fallback), native, message);
        }

        // Whether a code says that the handle is gone, so that nothing can be read through it either.
        public static bool IsLost(int native)
        {
            switch (unchecked((uint)native))
            {
                case 6: case 21: case 55: case 59: case 64: case 433: case 1006: case 1117: case 1167:
                    return true;
                default:
                    return false;
            }
        }

        // Whether a code says why change tracking has no answer, whatever the handle.
        public static bool IsOfTracking(int native)
        {
            return IdOf(unchecked((uint)native), null) == "Hvps.TrackingUnusable";
        }

        // Codes of winerror.h (docs/hyperv-facts.md#virtdisk-codes).
        static string IdOf(uint code, string fallback)
        {
            switch (code)
            {
                case 2: case 3: case 0x80070002: case 0x80070003:
                    return "Hvps.FileNotFound";
                case 5: case 1314: case 0x80070005:
                    return "Hvps.AccessDenied";
                case 32: case 0x80070020: case 0xC03A001E:
                    return "Hvps.DiskBusy";
                case 0xC03A000D: case 0xC03A000E: case 0xC03A000F: case 0xC03A0016:
                case 0xC03A0017: case 0xC03A0018: case 0xC03A0019:
                    return "Hvps.ChainBroken";
                case 0xC03A0029: case 0xC03A002A: case 0xC03A0030: case 0xC03A0020: case 0xC03A0021:
                case 0xC03A0022: case 0xC03A0023: case 0xC03A0024:
                    return "Hvps.TrackingUnusable";
                case 39: case 112: case 0x80070070: case 0x80070027:
                    return "Hvps.NoSpace";
                case 80: case 183:
                    return "Hvps.FileExists";
                default:
                    return fallback;
            }
        }
    }
}
#endif
