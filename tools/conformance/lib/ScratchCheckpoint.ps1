# Recovery checkpoints of a scratch VM, made and removed by WMI calls that record what they see.

function New-ScratchCheckpoint {
    <#
    .SYNOPSIS
    A recovery checkpoint: its settings, the job as it went by, and how long that took. Its name tells whose it is.
    #>
    [CmdletBinding()]
    [OutputType([hashtable])]
    param(
        [Parameter(Mandatory = $true)] [guid] $VmId,
        [Parameter()] [int] $ConsistencyLevel = 2,
        [Parameter()] [switch] $Unnamed
    )
    $properties = @{
        ConsistencyLevel            = @('uint8', $ConsistencyLevel)
        IgnoreNonSnapshottableDisks = @('boolean', $true)
    }
    $parameters = @{
        Service   = 'Msvm_VirtualSystemSnapshotService'
        Method    = 'CreateSnapshot'
        Arguments = @{
            AffectedSystem   = Get-HvpsWmiVm -VmId $VmId
            SnapshotSettings = ConvertTo-HvpsEmbedded -ClassName 'Msvm_VirtualSystemSnapshotSettingData' `
                -Properties $properties
            SnapshotType     = [uint16] 32768
        }
    }
    $before = @(Get-ScratchSetting -VmId $VmId | ForEach-Object { [string] $_.InstanceID })
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $result = Invoke-HvpsMethod @parameters
    $seen = @{ ReturnValue = [long] $result.ReturnValue; Trace = @(); Job = $null; Setting = $null }
    if ($null -ne $result.Job) {
        $seen.Trace = @(Watch-ScratchJob -Reference $result.Job)
        $last = @($seen.Trace)[-1]
        $seen.Job = $result.Job
        if ([long] $last.State -eq 7 -or [long] $last.State -eq 32768) {
            $job = Get-ScratchJob -Reference $result.Job
            if ($null -ne $job) {
                $seen.Setting = Get-HvpsAssociated -InputObject $job -ClassName Msvm_VirtualSystemSettingData `
                    -Association Msvm_AffectedJobElement | Select-Object -First 1
            }
        }
    }
    elseif ($null -ne $result.ResultingSnapshot) {
        $seen.Setting = Get-CimInstance -InputObject $result.ResultingSnapshot -ErrorAction Stop
    }
    $seen.Seconds = [Math]::Round($clock.Elapsed.TotalSeconds, 3)
    if ($null -eq $seen.Setting -and [long] $result.ReturnValue -in @(0, 4096)) {
        # The job did not tell. Another product may back up all VMs, and then two are new: neither is taken.
        $new = @(Get-ScratchSetting -VmId $VmId | Where-Object { [string] $_.InstanceID -notin $before })
        if ($new.Count -eq 1) {
            $seen.Setting = $new[0]
        }
    }
    if ($null -ne $seen.Setting -and -not $Unnamed) {
        # Set-ScratchVm removes it by this name if this probe is killed.
        $null = Rename-ScratchSetting -Setting $seen.Setting -Name (Get-ScratchName)
    }
    $seen
}

function Get-ScratchName {
    <#
    .SYNOPSIS
    A name for a checkpoint of the kit, which Set-ScratchVm knows.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param()
    'hvps scratch {0}' -f [guid]::NewGuid()
}

function Rename-ScratchSetting {
    <#
    .SYNOPSIS
    Names a checkpoint as hvps does; the code that came back.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Setting, [Parameter(Mandatory = $true)] [string] $Name)
    $properties = @{ InstanceID = @('string', [string] $Setting.InstanceID); ElementName = @('string', $Name) }
    $parameters = @{
        Service   = 'Msvm_VirtualSystemManagementService'
        Method    = 'ModifySystemSettings'
        Arguments = @{
            SystemSettings = ConvertTo-HvpsEmbedded -ClassName Msvm_VirtualSystemSettingData -Properties $properties
        }
    }
    try {
        $result = Invoke-HvpsMethod @parameters
        $trace = @()
        if ($null -ne $result.Job) {
            $trace = @(Watch-ScratchJob -Reference $result.Job)
        }
        @{ ReturnValue = [long] $result.ReturnValue; Trace = $trace }
    }
    catch {
        @{ ReturnValue = -1; Error = Get-ProbeFailure -Record $_ }
    }
}

function Get-ScratchSetting {
    <#
    .SYNOPSIS
    Settings of the recovery checkpoints of the scratch VM.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [guid] $VmId)
    $parameters = @{
        InputObject = Get-HvpsWmiVm -VmId $VmId
        ClassName   = 'Msvm_VirtualSystemSettingData'
        Association = 'Msvm_SnapshotOfVirtualSystem'
    }
    Get-HvpsAssociated @parameters |
        Where-Object { $_.VirtualSystemType -eq 'Microsoft:Hyper-V:Snapshot:Recovery' }
}

function Get-ScratchJob {
    <#
    .SYNOPSIS
    A job, or nothing when it is gone.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Reference)
    try {
        Get-CimInstance -InputObject $Reference -ErrorAction Stop
    }
    catch {
        Write-Verbose -Message ([string] $_)
    }
}

function Watch-ScratchJob {
    <#
    .SYNOPSIS
    The states of a job until it ends or is gone, one line each time something changes.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Reference, [Parameter()] [int] $Seconds = 600)
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $before = ''
    while ($clock.Elapsed.TotalSeconds -lt $Seconds) {
        $job = Get-ScratchJob -Reference $Reference
        if ($null -eq $job) {
            return @{ At = [Math]::Round($clock.Elapsed.TotalSeconds, 3); State = -1 }
        }
        $state = [long] $job.JobState
        $shown = '{0} {1}' -f $state, $job.PercentComplete
        if ($shown -cne $before) {
            @{
                At        = [Math]::Round($clock.Elapsed.TotalSeconds, 3)
                State     = $state
                Percent   = [long] $job.PercentComplete
                ErrorCode = [long] $job.ErrorCode
                ErrorText = [string] $job.ErrorDescription
            }
            $before = $shown
        }
        if ($state -ge 7) {
            return
        }
        Start-Sleep -Milliseconds 100
    }
}

function Remove-ScratchCheckpoint {
    <#
    .SYNOPSIS
    Destroys a recovery checkpoint of the scratch VM and waits for its merge.
    #>
    [CmdletBinding()]
    [OutputType([hashtable])]
    param([Parameter(Mandatory = $true)] [guid] $VmId, [Parameter(Mandatory = $true)] [object] $Setting)
    $parameters = @{
        Service   = 'Msvm_VirtualSystemSnapshotService'
        Method    = 'DestroySnapshot'
        Arguments = @{ AffectedSnapshot = $Setting }
    }
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $result = Invoke-HvpsMethod @parameters
    $trace = @()
    if ($null -ne $result.Job) {
        $trace = @(Watch-ScratchJob -Reference $result.Job)
    }
    $merged = Wait-ScratchMerge -VmId $VmId
    @{
        ReturnValue = [long] $result.ReturnValue
        Trace       = $trace
        Merged      = $merged
        Seconds     = [Math]::Round($clock.Elapsed.TotalSeconds, 3)
    }
}

function Get-ScratchFrozenPath {
    <#
    .SYNOPSIS
    Files of the disks of a checkpoint.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Setting)
    Get-HvpsWmiDisk -Setting $Setting | ForEach-Object { [string] $_.Path }
}
