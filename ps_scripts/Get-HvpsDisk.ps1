<#
.SYNOPSIS
    Lists the disk drives of a VM, with what decides whether they can be backed up.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.DiskInfo
      VmId                 guid     id of the VM
      InstanceId           text?    InstanceID of the storage allocation
      ControllerType       word     kind
      ControllerNumber     int      number
      ControllerLocation   int      location
      Path                 text?    top of the chain
      Chain                text[]   files, top first; empty if not readable
      PassThrough          bool     a physical disk of the host
      Shared               bool     shared with other VMs
      Format               word     of the top file
      Kind                 word     of the top file
      SizeBytes            int      virtual size
      FileBytes            int      of the top file
      LogicalSectorBytes   int      bytes
      PhysicalSectorBytes  int      bytes
      BlockBytes           int      0 if fixed
      DiskId               guid?    VirtualDiskId
      Error                text?    why the file could not be queried
#>
[CmdletBinding()]
[OutputType('Hvps.DiskInfo')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/Chain.ps1"
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
    # Drives and storage allocations are matched by path. If a merge ends between the two listings the path of the
    # drive changes, so drives without a match are listed again, and so they are when WMI fails.
    $rounds = 3
    for ($round = 1; $round -le $rounds; $round++) {
        $rows = @(Get-HvpsDriveChain -Vm $vm)
        $allocations = @{}
        try {
            $settings = @(Get-HvpsAssociated -InputObject (Get-HvpsWmiVm -VmId $VmId) `
                    -ClassName Msvm_VirtualSystemSettingData -Association Msvm_SettingsDefineState)
            foreach ($setting in $settings) {
                foreach ($disk in @(Get-HvpsWmiDisk -Setting $setting)) {
                    $allocations[$disk.Path.ToUpperInvariant()] = $disk.InstanceId
                }
            }
        }
        catch {
            # Without its InstanceId a disk has no id of change tracking: it is compared.
            Write-Verbose "the storage allocations cannot be read: $_"
        }
        $lonely = @($rows | Where-Object {
                $_.Drive.Path -and $null -eq $_.Drive.DiskNumber -and
                -not $allocations.ContainsKey(([string] $_.Drive.Path).ToUpperInvariant())
            })
        if ($lonely.Count -eq 0 -or $round -eq $rounds) {
            break
        }
        Start-Sleep -Milliseconds 300
    }
    $formats = @{ 2 = 'vhd'; 3 = 'vhdx'; 4 = 'vhdset' }
    $kinds = @{ 2 = 'fixed'; 3 = 'dynamic'; 4 = 'differencing' }
    foreach ($row in $rows) {
        $drive = $row.Drive
        $passThrough = $null -ne $drive.DiskNumber
        $path = $null
        if ($drive.Path -and -not $passThrough) {
            $path = [string] $drive.Path
        }
        $chain = @($row.Chain)
        $problem = $null
        if ($null -ne $row.Problem) {
            $problem = '{0}: {1}' -f @($row.Problem.FullyQualifiedErrorId.Split(',')[0], $row.Problem.Exception.Message)
        }
        $instance = $null
        if ($null -ne $path -and $allocations.ContainsKey($path.ToUpperInvariant())) {
            $instance = [string] $allocations[$path.ToUpperInvariant()]
        }
        $info = [ordered]@{
            PSTypeName          = 'Hvps.DiskInfo'
            VmId                = ConvertTo-HvpsGuid -Value $VmId
            InstanceId          = $instance
            ControllerType      = Get-HvpsController -Drive $drive
            ControllerNumber    = [int] $drive.ControllerNumber
            ControllerLocation  = [int] $drive.ControllerLocation
            Path                = $path
            Chain               = [string[]] @($chain | ForEach-Object { [string] $_.Path })
            PassThrough         = $passThrough
            Shared              = [bool] $drive.SupportPersistentReservations
            Format              = 'unknown'
            Kind                = 'unknown'
            SizeBytes           = [uint64] 0
            FileBytes           = [uint64] 0
            LogicalSectorBytes  = [int] 0
            PhysicalSectorBytes = [int] 0
            BlockBytes          = [int] 0
            DiskId              = $null
            Error               = $problem
        }
        if ($chain.Count -gt 0) {
            $vhd = $chain[0]
            $info['Format'] = ConvertTo-HvpsWord -Value $vhd.VhdFormat -Words $formats -Otherwise 'unknown'
            $info['Kind'] = ConvertTo-HvpsWord -Value $vhd.VhdType -Words $kinds -Otherwise 'unknown'
            $info['SizeBytes'] = [uint64] $vhd.Size
            $info['FileBytes'] = [uint64] $vhd.FileSize
            $info['LogicalSectorBytes'] = [int] $vhd.LogicalSectorSize
            $info['PhysicalSectorBytes'] = [int] $vhd.PhysicalSectorSize
            $info['BlockBytes'] = [int] $vhd.BlockSize
            $info['DiskId'] = ConvertTo-HvpsGuid -Value $vhd.DiskIdentifier
        }
        [pscustomobject] $info
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
