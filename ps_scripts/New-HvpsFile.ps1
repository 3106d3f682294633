<#
.SYNOPSIS
    Makes a file of a given size in a folder, which is made if it does not exist.
.PARAMETER Path
    File on the host; one that exists is left alone.
.PARAMETER SizeBytes
    Size of the file, bytes.
.OUTPUTS
    Hvps.FileMade
      Path     text     the file
      Folders  text[]   folders that were made for it
#>
[CmdletBinding()]
[OutputType('Hvps.FileMade')]
param(
    [Parameter(Mandatory = $true)] [string] $Path,
    [Parameter(Mandatory = $true)] [uint64] $SizeBytes
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Reader.ps1"
try {
    Import-HvpsReader
    $folders = [Hvps.HostFolder]::Make($Path.Substring(0, $Path.LastIndexOf('\')))
    [Hvps.NewFile]::Create($Path, [long] $SizeBytes)
    [pscustomobject]@{
        PSTypeName = 'Hvps.FileMade'
        Path       = $Path
        Folders    = [string[]] $folders
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
