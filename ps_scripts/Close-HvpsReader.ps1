<#
.SYNOPSIS
    Closes this process's handle of a frozen disk, or of all disks, and lists what is still attached.
.PARAMETER Path
    Disk to close; all without it.
.OUTPUTS
    Hvps.ReaderState
      OpenPaths  text[]   disks still attached in this process
#>
[CmdletBinding()]
[OutputType('Hvps.ReaderState')]
param(
    [string] $Path
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
try {
    $open = @()
    # Without the compiled reader nothing is open.
    $disks = 'Hvps.Disk' -as [type]
    if ($null -ne $disks) {
        $open = @([Hvps.Disk]::Close($Path))
    }
    [pscustomobject]@{
        PSTypeName = 'Hvps.ReaderState'
        OpenPaths  = [string[]] $open
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
