<#
.SYNOPSIS
    Creates a recovery checkpoint of a VM and names it.
.DESCRIPTION
    No cmdlet creates recovery checkpoints (docs/hyperv-facts.md#recovery-checkpoint). CreateSnapshot has no
    parameter for the name, so the checkpoint is renamed as soon as its job has ended, before any cmdlet lists it
    (docs/hyperv-facts.md#checkpoint-name). It is known by the result of its job only: a new checkpoint may be
    anybody's. If it cannot be named, NameError says why, and the caller knows it by its id.
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
      NameError     text?    why it does not have the wanted name
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
# How long a name is tried again while the checkpoint is busy, and how long its job may take.
$BusySeconds = 10
$RenameSeconds = 60
$Recovery = 32768

function Set-HvpsCheckpointName {
    <#
    .SYNOPSIS
    Renames a checkpoint through WMI, which needs no cmdlet to list it. Returns the error if it cannot.
    #>
    [CmdletBinding()]
    [OutputType([Management.Automation.ErrorRecord])]
    param([Parameter(Mandatory = $true)] [object] $Setting, [Parameter(Mandatory = $true)] [string] $Name)
    $properties = @{ InstanceID = @('string', [string] $Setting.InstanceID); ElementName = @('string', $Name) }
    $embedded = ConvertTo-HvpsEmbedded -ClassName Msvm_VirtualSystemSettingData -Properties $properties
    $parameters = @{
        Service   = 'Msvm_VirtualSystemManagementService'
        Method    = 'ModifySystemSettings'
        Arguments = @{ SystemSettings = $embedded }
    }
    $end = [DateTime]::UtcNow.AddSeconds($BusySeconds)
    while ($true) {
        try {
            $null = Wait-HvpsJob -Result (Invoke-HvpsMethod @parameters) -Seconds $RenameSeconds -What 'the renaming'
            return
        }
        catch {
            $busy = 'ResourceBusy' -eq [string] $_.CategoryInfo.Category
            $problem = ConvertTo-HvpsError -Record $_
        }
        # VMMS may still be closing the job that made the checkpoint.
        if (-not $busy -or [DateTime]::UtcNow -gt $end) {
            return $problem
        }
        Start-Sleep -Milliseconds 250
    }
}

function Rename-HvpsSnapshot {
    <#
    .SYNOPSIS
    Renames a checkpoint by cmdlet, the second way. Returns the error if it cannot.
    #>
    [CmdletBinding()]
    [OutputType([Management.Automation.ErrorRecord])]
    param([Parameter(Mandatory = $true)] [object] $Snapshot, [Parameter(Mandatory = $true)] [string] $Name)
    try {
        Hyper-V\Rename-VMSnapshot -VMSnapshot $Snapshot -NewName $Name -ErrorAction Stop
    }
    catch {
        ConvertTo-HvpsError -Record $_
    }
}

function Wait-HvpsSnapshot {
    <#
    .SYNOPSIS
    The checkpoint as the cmdlets know it, once they list it.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm, [Parameter(Mandatory = $true)] [guid] $CheckpointId)
    $end = [DateTime]::UtcNow.AddSeconds($ListedSeconds)
    while ($true) {
        $snapshot = Get-HvpsSnapshot -Vm $Vm | Where-Object { $CheckpointId -eq [guid] $_.Id } |
            Select-Object -First 1
        if ($null -ne $snapshot) {
            return $snapshot
        }
        if ([DateTime]::UtcNow -gt $end) {
            throw (New-HvpsError -Id 'Hvps.JobFailed' -Message 'the checkpoint was created but is not listed')
        }
        Start-Sleep -Milliseconds 250
    }
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
    $problem = Set-HvpsCheckpointName -Setting $made -Name $Name
    $id = [guid] $made.ConfigurationID
    $nameError = $null
    try {
        $snapshot = Wait-HvpsSnapshot -Vm $vm -CheckpointId $id
        if ($null -ne $problem) {
            $again = Rename-HvpsSnapshot -Snapshot $snapshot -Name $Name
            if ($null -ne $again) {
                $nameError = '{0}; {1}' -f $problem.Exception.Message, $again.Exception.Message
            }
            # Its name may have been set all the same.
            $snapshot = Wait-HvpsSnapshot -Vm $vm -CheckpointId $id
        }
        if ($Name -ceq [string] $snapshot.Name) {
            $nameError = $null
        }
        ConvertTo-HvpsCheckpointInfo -Snapshot $snapshot -VmId $VmId -NameError $nameError
    }
    catch {
        # Without its name nothing shows that it is ours, unless the caller gets its id.
        if ($null -ne $problem) {
            Undo-HvpsCheckpoint -Setting $made
        }
        throw
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
