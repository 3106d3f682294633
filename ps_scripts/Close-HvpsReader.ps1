<#
.SYNOPSIS
    Gives up this process's handle of a frozen disk, or all of them, and says what is still attached.
.PARAMETER Path
    Disk to give up; all without it.
.OUTPUTS
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
    # A process that never compiled the reader has nothing open.
    $disks = 'Hvps.Disk' -as [type]
    if ($null -ne $disks) {
        $which = $null
        if ($Path) {
            $which = $Path
        }
        $open = @([Hvps.Disk]::Close($which))
    }
    [pscustomobject]@{
        PSTypeName = 'Hvps.ReaderState'
        OpenPaths  = [string[]] $open
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
