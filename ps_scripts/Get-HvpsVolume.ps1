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
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
    $paths = @([string] $vm.ConfigurationLocation, [string] $vm.SnapshotFileLocation)
    foreach ($row in @(Get-HvpsDriveChain -Vm $vm)) {
        if ($row.Drive.Path -and $null -eq $row.Drive.DiskNumber) {
            # Include the file itself: if it cannot be queried its chain is empty, but its volume still counts.
            $paths += [string] $row.Drive.Path
            $paths += @($row.Chain | ForEach-Object { [string] $_.Path })
        }
    }
    # A volume can be mounted in a folder of another one: the longest mount point above a path is that of its volume.
    $volumes = @(Get-CimInstance -ClassName Win32_Volume -ErrorAction Stop |
            Where-Object { $_.Name -and $null -ne $_.Capacity } |
            Sort-Object -Property @{ Expression = { $_.Name.Length }; Descending = $true })
    $used = @{}
    foreach ($path in $paths) {
        foreach ($volume in $volumes) {
            if ($path.StartsWith($volume.Name, [StringComparison]::OrdinalIgnoreCase)) {
                $used[$volume.Name] = $volume
                break
            }
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
