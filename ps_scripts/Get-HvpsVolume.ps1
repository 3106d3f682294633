<#
.SYNOPSIS
    Space on every volume that holds files of a VM.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.VolumeInfo
      Root        text     mount point
      FreeBytes   int      free
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
            # The file itself, too: its chain is empty when it cannot be asked, and its volume counts all the same.
            $paths += [string] $row.Drive.Path
            $paths += @($row.Chain | ForEach-Object { [string] $_.Path })
        }
    }
    # Folders mounted into a volume are volumes of their own: the longest mount point above a path is its.
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
