# Compiles the reader's C#, once per process: a type cannot be defined twice in one.

function Import-HvpsReader {
    <#
    .SYNOPSIS
    Compiles the reader unless this process already has it.
    .NOTES
    The files of lib/reader are compiled as one text, by the C# 5 compiler of Windows PowerShell 5.1. The text is
    the same from run to run, because endpoint protection sees it. Without -IgnoreWarnings that compiler takes every
    warning for an error (docs/hyperv-facts.md#ps51-csharp).
    Contents of disks are handled in C# only, never in PowerShell loops.
    #>
    [CmdletBinding()]
    param()
    if ('Hvps.Disk' -as [type]) {
        return
    }
    $source = @'
#define HVPS_READER
#% include "lib/reader/Failure.cs"
#% include "lib/reader/Native.cs"
#% include "lib/reader/Bytes.cs"
#% include "lib/reader/Slot.cs"
#% include "lib/reader/Disk.cs"
#% include "lib/reader/DiskQuery.cs"
#% include "lib/reader/DiskProbe.cs"
#% include "lib/reader/ReadAhead.cs"
#% include "lib/reader/Request.cs"
#% include "lib/reader/BlockBuilder.cs"
#% include "lib/reader/Reply.cs"
#% include "lib/reader/ChunkDigests.cs"
#% include "lib/reader/HostFile.cs"
#% include "lib/reader/NativeFile.cs"
#% include "lib/reader/NewFile.cs"
#% include "lib/reader/WritableDisk.cs"
#% include "lib/reader/HostFolder.cs"
'@
    try {
        Add-Type -TypeDefinition $source -Language CSharp -IgnoreWarnings -ErrorAction Stop
    }
    catch {
        # Another runspace of this process may have compiled it at the same time.
        if (-not ('Hvps.Disk' -as [type])) {
            throw
        }
    }
}
