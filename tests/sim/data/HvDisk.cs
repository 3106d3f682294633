// C# 5 source for Add-Type in 5.1; A1/A2 reader plus native change query
using System; using System.ComponentModel; using System.Runtime.InteropServices; using System.Threading; using Microsoft.Win32.SafeHandles;
public static class HvDisk {
  [StructLayout(LayoutKind.Sequential)] struct VST { public uint DeviceId; public Guid VendorId; }
  [StructLayout(LayoutKind.Sequential)] struct OpenV2 { public int Version, GetInfoOnly, ReadOnly; public Guid Resiliency, SnapshotId; }   // whole union: 44 bytes
  [StructLayout(LayoutKind.Sequential)] struct Attach1 { public int Version, Reserved; public ulong A, B; }                                // whole union: 24 bytes
  [StructLayout(LayoutKind.Sequential)] public struct Range { public ulong Offset, Length, Reserved; }
  [DllImport("virtdisk.dll", CharSet=CharSet.Unicode)] static extern int OpenVirtualDisk(ref VST t, string path, int access, int flags, ref OpenV2 p, out SafeFileHandle h);
  [DllImport("virtdisk.dll")] static extern int AttachVirtualDisk(SafeFileHandle h, IntPtr sd, int flags, int prov, ref Attach1 p, IntPtr ov);
  [DllImport("virtdisk.dll", CharSet=CharSet.Unicode)] static extern int QueryChangesVirtualDisk(SafeFileHandle h, string id, ulong off, ulong len, int flags, [Out] Range[] r, ref uint n, out ulong done);
  [DllImport("virtdisk.dll")] static extern int GetVirtualDiskInformation(SafeFileHandle h, ref uint size, IntPtr info, out uint used);
  [DllImport("kernel32.dll", SetLastError=true)] static extern bool ReadFile(SafeFileHandle h, IntPtr b, int n, IntPtr read, IntPtr ov);
  [DllImport("kernel32.dll", SetLastError=true)] static extern bool GetOverlappedResult(SafeFileHandle h, IntPtr ov, out int read, bool wait);
  static void Check(int rc) { if (rc != 0) throw new Win32Exception(rc); }
  public static SafeFileHandle Open(string path, bool infoOnly) {
    var t = new VST(); SafeFileHandle h;                               // zero = let the provider detect the type
    var p = new OpenV2 { Version = 2, GetInfoOnly = infoOnly ? 1 : 0, ReadOnly = 1 };
    Check(OpenVirtualDisk(ref t, path, 0, 0, ref p, out h)); return h; }
  public static void Attach(SafeFileHandle h) { var p = new Attach1 { Version = 1 }; Check(AttachVirtualDisk(h, IntPtr.Zero, 0x1 | 0x8, 0, ref p, IntPtr.Zero)); }
  public static Range[] Changes(SafeFileHandle h, string id, ulong off, ulong len, out ulong done) {
    var r = new Range[4096]; uint n = 4096; Check(QueryChangesVirtualDisk(h, id, off, len, 0, r, ref n, out done));
    Array.Resize(ref r, (int)n); return r; }
  public static string RctState(SafeFileHandle h) {                    // "enabled|newer|id"
    uint size = 4096, used; IntPtr m = Marshal.AllocHGlobal(4096);
    try { for (int i = 0; i < 4096; i += 4) Marshal.WriteInt32(m, i, 0); Marshal.WriteInt32(m, 15);
      Check(GetVirtualDiskInformation(h, ref size, m, out used));
      return Marshal.ReadInt32(m, 8) + "|" + Marshal.ReadInt32(m, 12) + "|" + Marshal.PtrToStringUni(IntPtr.Add(m, 16)); }
    finally { Marshal.FreeHGlobal(m); } }
  /// One outstanding read with its own unmanaged buffer, OVERLAPPED and event; any number of these may share a handle, one per thread.
  public sealed class Reader : IDisposable {
    readonly SafeFileHandle h; readonly int size; readonly IntPtr buf, ov; readonly ManualResetEvent ev = new ManualResetEvent(false);
    public Reader(SafeFileHandle handle, int bufferSize) { h = handle; size = bufferSize; buf = Marshal.AllocHGlobal(size); ov = Marshal.AllocHGlobal(Marshal.SizeOf(typeof(NativeOverlapped))); }
    public void Read(long off, byte[] into, int n) {
      if (n > size || n > into.Length) throw new ArgumentException("read larger than the buffer");
      ev.Reset();
      Marshal.StructureToPtr(new NativeOverlapped { OffsetLow = (int)(off & 0xFFFFFFFF), OffsetHigh = (int)(off >> 32), EventHandle = ev.SafeWaitHandle.DangerousGetHandle() }, ov, false);
      int got;
      if (!ReadFile(h, buf, n, IntPtr.Zero, ov)) { int e = Marshal.GetLastWin32Error(); if (e != 997) throw new Win32Exception(e); }   // 997: pending, the normal case
      if (!GetOverlappedResult(h, ov, out got, true)) throw new Win32Exception(Marshal.GetLastWin32Error());
      if (got != n) throw new System.IO.EndOfStreamException("read " + got + " of " + n + " bytes at " + off);
      Marshal.Copy(buf, into, 0, n); }
    public void Dispose() { Marshal.FreeHGlobal(buf); Marshal.FreeHGlobal(ov); ev.Dispose(); } }
}
