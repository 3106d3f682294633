<#
.SYNOPSIS
    Creates a recovery checkpoint of a VM and names it.
.DESCRIPTION
    No cmdlet creates recovery checkpoints (docs/hyperv-facts.md#recovery-checkpoint). CreateSnapshot has no
    parameter for the name, so the checkpoint is renamed as soon as its job has ended, before any cmdlet lists it
    (docs/hyperv-facts.md#checkpoint-name). It is known by the result of its job only: a new checkpoint may be
    anybody's. If it cannot be named it is removed again.
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

function Set-HvpsCheckpointName {
    <#
    .SYNOPSIS
    Renames a checkpoint through WMI, which needs no cmdlet to list it.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Setting,
        [Parameter(Mandatory = $true)] [string] $Name,
        [Parameter(Mandatory = $true)] [int] $Seconds
    )
    $properties = @{ InstanceID = @('string', [string] $Setting.InstanceID); ElementName = @('string', $Name) }
    $embedded = ConvertTo-HvpsEmbedded -ClassName Msvm_VirtualSystemSettingData -Properties $properties
    $parameters = @{
        Service   = 'Msvm_VirtualSystemManagementService'
        Method    = 'ModifySystemSettings'
        Arguments = @{ SystemSettings = $embedded }
    }
    $null = Wait-HvpsJob -Result (Invoke-HvpsMethod @parameters) -Seconds $Seconds -What 'the renaming'
}

function Undo-HvpsCheckpoint {
    <#
    .SYNOPSIS
    Starts to remove the checkpoint that this script made. Never throws: the first error matters.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Setting)
    try {
        $parameters = @{
            Service   = 'Msvm_VirtualSystemSnapshotService'
            Method    = 'DestroySnapshot'
            Arguments = @{ AffectedSnapshot = $Setting }
        }
        $null = Invoke-HvpsMethod @parameters
    }
    catch {
        Write-Verbose -Message ([string] $_)
    }
}

try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
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
    if ($null -eq $made) {
        $message = 'the checkpoint was created, but its job was gone before it named it'
        throw (New-HvpsError -Id 'Hvps.JobFailed' -Message $message)
    }
    try {
        Set-HvpsCheckpointName -Setting $made -Name $Name -Seconds $JobSeconds
    }
    catch {
        # Without its name nothing would show that it is ours.
        Undo-HvpsCheckpoint -Setting $made
        throw
    }
    $end = [DateTime]::UtcNow.AddSeconds($ListedSeconds)
    while ($true) {
        $snapshot = Get-HvpsSnapshot -Vm $vm | Where-Object { [guid] $_.Id -eq [guid] $made.ConfigurationID } |
            Select-Object -First 1
        if ($null -ne $snapshot) {
            break
        }
        if ([DateTime]::UtcNow -gt $end) {
            throw (New-HvpsError -Id 'Hvps.JobFailed' -Message 'the checkpoint was created but is not listed')
        }
        Start-Sleep -Milliseconds 250
    }
    ConvertTo-HvpsCheckpointInfo -Snapshot $snapshot -VmId $VmId
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
