<#
.SYNOPSIS
    Lists the volumes and shares that have files of a VM.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.StorageInfo
      VmId        guid     id of the VM
      Root        text     mount point, or \\server\share
      Kind        word     NTFS, ReFS, CSV, SMB or other
      FileSystem  text?    name of the file system
      FreeBytes   int?     free space; null for a share
      TotalBytes  int?     size; null for a share
#>
[CmdletBinding()]
[OutputType('Hvps.StorageInfo')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Chain.ps1"
#% include "lib/Volume.ps1"
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
    $volumes = @(Get-HvpsVolumeList)
    $found = @{}
    foreach ($path in @(Get-HvpsVmPath -Vm $vm)) {
        $volume = Find-HvpsVolume -Path $path -Volumes $volumes
        $root = Get-HvpsShare -Path $path
        $kind = 'smb'
        $fileSystem = $null
        $free = $null
        $total = $null
        if ($null -ne $volume) {
            $root = [string] $volume.Name
            $kinds = @{ 'NTFS' = 'ntfs'; 'ReFS' = 'refs'; 'CSVFS' = 'csv' }
            $fileSystem = [string] $volume.FileSystem
            $kind = $(if ($kinds.ContainsKey($fileSystem)) { $kinds[$fileSystem] } else { 'other' })
            $free = [uint64] $volume.FreeSpace
            $total = [uint64] $volume.Capacity
        }
        elseif ($null -eq $root) {
            $root = [IO.Path]::GetPathRoot($path)
            $kind = 'other'
        }
        if (-not $root -or $found.ContainsKey($root)) {
            continue
        }
        $found[$root] = [pscustomobject]@{
            PSTypeName = 'Hvps.StorageInfo'
            VmId       = ConvertTo-HvpsGuid -Value $VmId
            Root       = $root
            Kind       = $kind
            FileSystem = $fileSystem
            FreeBytes  = $free
            TotalBytes = $total
        }
    }
    foreach ($root in @($found.Keys | Sort-Object)) {
        $found[$root]
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
