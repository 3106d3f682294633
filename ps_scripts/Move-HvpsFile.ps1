<#
.SYNOPSIS
    Renames a disk file, or one of its change tracking; another file of the new name is left alone.
.PARAMETER Path
    File on the host.
.PARAMETER Destination
    Its new path on the same volume.
.OUTPUTS
    Hvps.FileMoved
      Path  text     the new path
#>
[CmdletBinding()]
[OutputType('Hvps.FileMoved')]
param(
    [Parameter(Mandatory = $true)] [string] $Path,
    [Parameter(Mandatory = $true)] [string] $Destination
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Reader.ps1"
try {
    Import-HvpsReader
    [Hvps.NewFile]::Move($Path, $Destination)
    [pscustomobject]@{ PSTypeName = 'Hvps.FileMoved'; Path = $Destination }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
