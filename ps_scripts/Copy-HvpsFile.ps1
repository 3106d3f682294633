<#
.SYNOPSIS
    Copies a disk file. A file that is overwritten keeps its access rights.
.PARAMETER Path
    File on the host.
.PARAMETER Destination
    Path of the copy.
.PARAMETER Overwrite
    Replace the content of the file there; without it, one that exists is left alone.
.OUTPUTS
    Hvps.FileCopied
      Path  text     of the copy
#>
[CmdletBinding()]
[OutputType('Hvps.FileCopied')]
param(
    [Parameter(Mandatory = $true)] [string] $Path,
    [Parameter(Mandatory = $true)] [string] $Destination,
    [bool] $Overwrite
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Reader.ps1"
try {
    Import-HvpsReader
    [Hvps.NewFile]::Copy($Path, $Destination, $Overwrite)
    [pscustomobject]@{ PSTypeName = 'Hvps.FileCopied'; Path = $Destination }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
