<#
.SYNOPSIS
    Lists the space on every volume that has files of a VM.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.VolumeInfo
      Root        text     mount point
      FreeBytes   int      free space
      TotalBytes  int      size
#>
[CmdletBinding()]
[OutputType('Hvps.VolumeInfo')]
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
    $used = @{}
    foreach ($path in @(Get-HvpsVmPath -Vm $vm)) {
        $volume = Find-HvpsVolume -Path $path -Volumes $volumes
        if ($null -ne $volume) {
            $used[$volume.Name] = $volume
        }
    }
    foreach ($name in @($used.Keys | Sort-Object)) {
        [pscustomobject]@{
            PSTypeName = 'Hvps.VolumeInfo'
            Root       = [string] $name
            FreeBytes  = [uint64] $used[$name].FreeSpace
            TotalBytes = [uint64] $used[$name].Capacity
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
