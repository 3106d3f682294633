<#
.SYNOPSIS
    Creates a recovery checkpoint of a VM and names it.
.DESCRIPTION
    No cmdlet creates recovery checkpoints (docs/hyperv-facts.md#recovery-checkpoint). CreateSnapshot has no
    parameter for the name, so the checkpoint is renamed as soon as it is listed
    (docs/hyperv-facts.md#checkpoint-name). After a crash in between it can be found as the only new checkpoint.
.PARAMETER VmId
    Id of the VM.
.PARAMETER Name
    Name of the checkpoint.
.PARAMETER Consistency
    Application or crash.
.PARAMETER IgnoreDisks
    Leave out disks that cannot be checkpointed.
.PARAMETER JobSeconds
    How long to wait for the WMI job.
.OUTPUTS
    Hvps.CheckpointInfo
      VmId          guid     id of the VM
      CheckpointId  guid     id
      Name          text     name
      Kind          word     SnapshotType
      Created       time     creation time
      ParentId      guid?    parent checkpoint
      DiskPaths     text[]   frozen files
#>
[CmdletBinding()]
[OutputType('Hvps.CheckpointInfo')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [Parameter(Mandatory = $true)] [string] $Name,
    [Parameter(Mandatory = $true)] [ValidateSet('application', 'crash')] [string] $Consistency,
    [Parameter(Mandatory = $true)] [bool] $IgnoreDisks,
    [Parameter(Mandatory = $true)] [int] $JobSeconds
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/Checkpoint.ps1"

# A new checkpoint may be listed late (docs/hyperv-facts.md#checkpoint-listed-late).
$ListedSeconds = 60
$Recovery = 32768

try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
    $before = @(Get-HvpsSnapshot -Vm $vm | ForEach-Object { [guid] $_.Id })
    $properties = @{
        ConsistencyLevel            = @('uint8', $(if ($Consistency -eq 'application') { 1 } else { 2 }))
        IgnoreNonSnapshottableDisks = @('boolean', $IgnoreDisks)
    }
    $class = Get-CimClass -Namespace $HvpsNamespace -ClassName Msvm_VirtualSystemSnapshotSettingData -ErrorAction Stop
    if ($null -ne $class.CimClassProperties['GuestBackupType']) {
        # Copy: another product may own the guest's log truncation. Windows Server 2016 lacks the property.
        $properties['GuestBackupType'] = @('uint8', 2)
    }
    $parameters = @{
        Service   = 'Msvm_VirtualSystemSnapshotService'
        Method    = 'CreateSnapshot'
        Arguments = @{
            AffectedSystem   = Get-HvpsWmiVm -VmId $VmId
            SnapshotSettings = ConvertTo-HvpsEmbedded -ClassName $class.CimClassName -Properties $properties
            SnapshotType     = [uint16] $Recovery
        }
    }
    try {
        $result = Invoke-HvpsMethod @parameters
        $job = Wait-HvpsJob -Result $result -Seconds $JobSeconds -What 'the checkpoint'
    }
    catch {
        # If it is not space, rights, locks or another operation, the cause is in the guest.
        $failed = $_
        if ($Consistency -eq 'application' -and $failed.FullyQualifiedErrorId -match '^Hvps\.JobFailed') {
            throw (New-HvpsError -Id 'Hvps.ConsistencyFailed' -Message $failed.Exception.Message `
                    -Native (Get-HvpsNativeCode -Text $failed.FullyQualifiedErrorId) -Cause $failed.Exception)
        }
        throw
    }
    $made = $null
    if ($null -ne $job) {
        $made = Get-HvpsAssociated -InputObject $job -ClassName Msvm_VirtualSystemSettingData `
            -Association Msvm_AffectedJobElement | Select-Object -First 1
    }
    elseif ($null -ne $result.ResultingSnapshot) {
        $made = Get-CimInstance -InputObject $result.ResultingSnapshot -ErrorAction Stop
    }
    $end = [DateTime]::UtcNow.AddSeconds($ListedSeconds)
    $snapshot = $null
    while ($true) {
        $listed = @(Get-HvpsSnapshot -Vm $vm)
        if ($null -ne $made) {
            $snapshot = $listed | Where-Object { [guid] $_.Id -eq [guid] $made.ConfigurationID } |
                Select-Object -First 1
        }
        else {
            # The job was removed before it could be queried: a single new recovery checkpoint must be the one.
            $new = @($listed | Where-Object { $before -notcontains [guid] $_.Id -and 1 -eq [int] $_.SnapshotType })
            if ($new.Count -eq 1) {
                $snapshot = $new[0]
            }
        }
        if ($null -ne $snapshot) {
            break
        }
        if ([DateTime]::UtcNow -gt $end) {
            throw (New-HvpsError -Id 'Hvps.JobFailed' -Message 'the checkpoint was created but is not listed')
        }
        Start-Sleep -Milliseconds 250
    }
    Hyper-V\Rename-VMSnapshot -VMSnapshot $snapshot -NewName $Name -Confirm:$false -ErrorAction Stop
    $snapshot = Get-HvpsSnapshot -Vm $vm | Where-Object { $_.Id -eq $snapshot.Id } | Select-Object -First 1
    ConvertTo-HvpsCheckpointInfo -Snapshot $snapshot -VmId $VmId
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
