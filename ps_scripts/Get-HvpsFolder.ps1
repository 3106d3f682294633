<#
.SYNOPSIS
    Looks at a folder for restored disks, and which of some files are there.
.PARAMETER Path
    Folder; the host's folder of VMs without it.
.PARAMETER Files
    Files and folders to look for.
.OUTPUTS
    Hvps.FolderInfo
      Path        text     the folder
      Exists      bool     whether it is there
      FreeBytes   int      free space where it is or would be
      Compressed  bool     whether new files there would be compressed
      Encrypted   bool     whether new files there would be encrypted
      Found       text[]   those of the files that are there
#>
[CmdletBinding()]
[OutputType('Hvps.FolderInfo')]
param(
    [string] $Path,
    [string[]] $Files
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Reader.ps1"
try {
    Import-HvpsReader
    $place = $Path
    if (-not $place) {
        #% include "lib/HyperV.ps1"
        $place = [string] (Hyper-V\Get-VMHost -ErrorAction Stop).VirtualMachinePath
    }
    $free = [uint64] 0
    $attributes = [long] [Hvps.HostFolder]::Look($place, [ref] $free)
    [pscustomobject]@{
        PSTypeName = 'Hvps.FolderInfo'
        Path       = $place
        Exists     = [Hvps.HostFolder]::Exists($place)
        FreeBytes  = $free
        Compressed = ($attributes -band 0x800) -ne 0
        Encrypted  = ($attributes -band 0x4000) -ne 0
        Found      = [string[]] @($Files | Where-Object { $_ -and [Hvps.HostFolder]::Exists($_) })
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
