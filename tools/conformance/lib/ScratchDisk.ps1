# The C# of the probes, which opens, reads and writes disks of a scratch VM in every way that they ask about.

function Import-ScratchDisk {
    <#
    .SYNOPSIS
    Compiles HvpsProbe.ScratchDisk once in this process.
    #>
    [CmdletBinding()]
    param()
    if ('HvpsProbe.ScratchDisk' -as [type]) {
        return
    }
    $source = @'
#% include "lib/ScratchDisk.cs"
'@
    Add-Type -TypeDefinition $source -Language CSharp -ErrorAction Stop
}
