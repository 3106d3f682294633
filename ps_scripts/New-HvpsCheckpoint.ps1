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
# How long a call is tried again while the checkpoint is busy, or shows another name than it was given; and how long
# the renaming may take.
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
    try {
        $null = Invoke-HvpsAgain -WhileBusy -Seconds $BusySeconds -Action {
            Wait-HvpsJob -Result (Invoke-HvpsMethod @parameters) -Seconds $RenameSeconds -What 'the renaming'
        }
    }
    catch {
        ConvertTo-HvpsError -Record $_
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
        Invoke-HvpsAgain -WhileBusy -Seconds $BusySeconds -Action {
            Hyper-V\Rename-VMSnapshot -VMSnapshot $Snapshot -NewName $Name -ErrorAction Stop
        }
    }
    catch {
        ConvertTo-HvpsError -Record $_
    }
}

function Wait-HvpsSnapshot {
    <#
    .SYNOPSIS
    The checkpoint as the cmdlets know it, once they list it; with a name, once it shows, but for some seconds only.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Vm,
        [Parameter(Mandatory = $true)] [guid] $CheckpointId,
        [string] $Name = ''
    )
    $end = [DateTime]::UtcNow.AddSeconds($ListedSeconds)
    $shown = [DateTime]::UtcNow.AddSeconds($BusySeconds)
    while ($true) {
        $snapshot = Invoke-HvpsAgain -WhileBusy -Seconds $BusySeconds -Action { Get-HvpsSnapshot -Vm $Vm } |
            Where-Object { $CheckpointId -eq [guid] $_.Id } | Select-Object -First 1
        $named = $Name -eq '' -or ($null -ne $snapshot -and $Name -ceq [string] $snapshot.Name)
        if ($null -ne $snapshot -and ($named -or [DateTime]::UtcNow -gt $shown)) {
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
    $parameters = @{
        Job       = $job
        # A method that started a job may not have it.
        Reference = $(if ($null -eq $job) { $result.ResultingSnapshot })
        ClassName = 'Msvm_VirtualSystemSettingData'
    }
    $made = Get-HvpsResult @parameters
    if ($null -eq $made) {
        $message = 'the checkpoint was created, but its job was gone before it named it'
        throw (New-HvpsError -Id 'Hvps.JobFailed' -Message $message)
    }
    $problem = Set-HvpsCheckpointName -Setting $made -Name $Name
    $id = [guid] $made.ConfigurationID
    $nameError = 'the host took the name, but does not show it'
    try {
        if ($null -ne $problem) {
            $again = Rename-HvpsSnapshot -Snapshot (Wait-HvpsSnapshot -Vm $vm -CheckpointId $id) -Name $Name
            if ($null -ne $again) {
                $nameError = '{0}; {1}' -f $problem.Exception.Message, $again.Exception.Message
            }
        }
        $wanted = $(if ($null -eq $problem -or $null -eq $again) { $Name } else { '' })
        $snapshot = Wait-HvpsSnapshot -Vm $vm -CheckpointId $id -Name $wanted
        if ($Name -ceq [string] $snapshot.Name) {
            $nameError = $null
        }
        Invoke-HvpsAgain -WhileBusy -Seconds $BusySeconds -Action {
            ConvertTo-HvpsCheckpointInfo -Snapshot $snapshot -VmId $VmId -NameError $nameError
        }
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
