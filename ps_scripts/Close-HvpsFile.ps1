<#
.SYNOPSIS
    Writes what Windows holds of a file that is written to the disk, and closes it or detaches the disk in it.
.PARAMETER Path
    File on the host.
.OUTPUTS
    Hvps.FileClosed
      Closed  bool     false if this process did not have it open
#>
[CmdletBinding()]
[OutputType('Hvps.FileClosed')]
param(
    [Parameter(Mandatory = $true)] [string] $Path
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
try {
    $closed = $false
    # Without the compiled reader nothing is open.
    $files = 'Hvps.NewFile' -as [type]
    if ($null -ne $files) {
        $closed = [Hvps.NewFile]::Close($Path) -or [Hvps.WritableDisk]::Close($Path)
    }
    [pscustomobject]@{ PSTypeName = 'Hvps.FileClosed'; Closed = $closed }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
