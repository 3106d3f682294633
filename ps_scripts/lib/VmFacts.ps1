# What decides whether a VM can be backed up.

function Get-HvpsSettingByVm {
    <#
    .SYNOPSIS
    Instances of a class of settings, as a list by the id of their VM; null if they cannot be read.
    .DESCRIPTION
    One query serves all VMs of a host. The InstanceID is Microsoft:GUID\..., where the GUID is the id of a VM or of
    a checkpoint (docs/hyperv-facts.md#disk-merge-settings).
    .PARAMETER VmId
    Only those of this VM.
    #>
    [CmdletBinding()]
    [OutputType([hashtable])]
    param([Parameter(Mandatory = $true)] [string] $ClassName, [Nullable[guid]] $VmId)
    $parameters = @{ Namespace = $HvpsNamespace; ClassName = $ClassName }
    if ($null -ne $VmId) {
        $parameters['Filter'] = "InstanceID LIKE 'Microsoft:{0}%'" -f ([guid] $VmId).ToString('d').ToUpperInvariant()
    }
    $found = @{}
    try {
        foreach ($setting in @(Get-CimInstance @parameters -ErrorAction Stop | Where-Object { $null -ne $_ })) {
            if ([string] $setting.InstanceID -match '^Microsoft:([0-9A-Fa-f-]{36})') {
                $id = $Matches[1].ToLowerInvariant()
                $found[$id] = @($found[$id] | Where-Object { $null -ne $_ }) + $setting
            }
        }
    }
    catch {
        Write-Verbose "$ClassName cannot be read: $_"
        return $null
    }
    $found
}

function Get-HvpsCommitFork {
    <#
    .SYNOPSIS
    Events 3216 of the Worker log, as Time (UTC) and Text (XML): the disk switch of a checkpoint was rolled back
    while the VM ran (docs/hyperv-facts.md#commit-forks).
    #>
    [CmdletBinding()]
    param()
    try {
        $filter = @{ LogName = 'Microsoft-Windows-Hyper-V-Worker-Admin'; Id = 3216 }
        foreach ($found in @(Get-WinEvent -FilterHashtable $filter -ErrorAction Stop)) {
            [pscustomobject]@{
                Time = ([datetime] $found.TimeCreated).ToUniversalTime()
                Text = $found.ToXml().ToLowerInvariant()
            }
        }
    }
    catch {
        # No such events, or no such log: these ids do not depend on the language.
        if ($_.FullyQualifiedErrorId -notmatch '^(NoMatchingEventsFound|NoMatchingLogsFound)') {
            throw
        }
    }
}

function Get-HvpsWorkerStart {
    <#
    .SYNOPSIS
    When the worker process of a VM started (UTC); nothing if it has none, or if that cannot be read.
    .NOTES
    A VM gets a new worker process when it is started or restored, and keeps it when its guest reboots
    (docs/hyperv-facts.md#worker-process).
    #>
    [CmdletBinding()]
    [OutputType([datetime])]
    param([Parameter(Mandatory = $true)] [guid] $VmId)
    try {
        $process = Get-HvpsOptional -InputObject (Get-HvpsWmiVm -VmId $VmId) -Name ProcessID -Default 0
        if ($process -gt 0) {
            $worker = Get-CimInstance -ClassName Win32_Process -Filter "ProcessId=$process" -ErrorAction Stop
            if ($null -ne $worker) {
                ([datetime] $worker.CreationDate).ToUniversalTime()
            }
        }
    }
    catch {
        Write-Verbose "the start of VM $VmId cannot be read: $_"
    }
}

function Get-HvpsSecurity {
    <#
    .SYNOPSIS
    Shielded and TpmEnabled of a VM; null where they cannot be read.
    .PARAMETER Settings
    From Get-HvpsSettingByVm. The cmdlet is asked for a VM that is not there.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm, [AllowNull()] [hashtable] $Settings)
    $security = @{ Shielded = $null; TpmEnabled = $null }
    try {
        $id = ([guid] $Vm.Id).ToString('d')
        if ($null -ne $Settings -and $Settings.ContainsKey($id)) {
            $setting = @($Settings[$id])[0]
            $security['Shielded'] = [bool] $setting.ShieldingRequested
            $security['TpmEnabled'] = [bool] $setting.TpmEnabled
        }
        else {
            $shown = Hyper-V\Get-VMSecurity -VM $Vm -ErrorAction Stop
            $security['Shielded'] = [bool] $shown.Shielded
            $security['TpmEnabled'] = [bool] $shown.TpmEnabled
        }
    }
    catch {
        Write-Verbose "the security settings of a VM cannot be read: $_"
    }
    $security
}

function Get-HvpsMergeEnabled {
    <#
    .SYNOPSIS
    Whether disk merging is enabled for a VM; null if no setting says so.
    .NOTES
    An export without storage disables it until an administrator enables it again
    (docs/hyperv-facts.md#export-disables-merging).
    .PARAMETER Settings
    From Get-HvpsSettingByVm.
    #>
    [CmdletBinding()]
    [OutputType([bool])]
    param([Parameter(Mandatory = $true)] [guid] $VmId, [AllowNull()] [hashtable] $Settings)
    if ($null -eq $Settings -or -not $Settings.ContainsKey($VmId.ToString('d'))) {
        return $null
    }
    $states = @($Settings[$VmId.ToString('d')] | ForEach-Object { Get-HvpsOptional -InputObject $_ -Name EnabledState })
    if ($states -contains 0) {
        return $false
    }
    if ($states -contains 1) {
        return $true
    }
    $null
}

function Get-HvpsHostFact {
    <#
    .SYNOPSIS
    What ConvertTo-HvpsVmInfo needs and what one query answers for all VMs of a host.
    .PARAMETER VmId
    Only for this VM.
    .PARAMETER ReadEvents
    Read the event log, too.
    #>
    [CmdletBinding()]
    [OutputType([hashtable])]
    param([Nullable[guid]] $VmId, [bool] $ReadEvents)
    $facts = @{
        Merge    = Get-HvpsSettingByVm -ClassName Msvm_DiskMergeSettingData -VmId $VmId
        Security = Get-HvpsSettingByVm -ClassName Msvm_SecuritySettingData -VmId $VmId
        Forks    = $null
    }
    if ($ReadEvents) {
        try {
            $facts['Forks'] = @(Get-HvpsCommitFork)
        }
        catch {
            Write-Verbose "the event log cannot be read: $_"
        }
    }
    $facts
}

function ConvertTo-HvpsVmInfo {
    <#
    .SYNOPSIS
    A VM as an object of the contract; nothing if it has left the host meanwhile.
    .PARAMETER Facts
    From Get-HvpsHostFact.
    #>
    [CmdletBinding()]
    [OutputType('Hvps.VmInfo')]
    param([Parameter(Mandatory = $true)] [object] $Vm, [Parameter(Mandatory = $true)] [hashtable] $Facts)
    # VMState, CheckpointType and ReplicationMode (docs/hyperv-facts.md#vm-states,
    # docs/hyperv-facts.md#checkpoint-type-disabled).
    # Fast saved and hibernated VMs do not run and hold their memory elsewhere, as saved ones do.
    $states = @{
        2 = 'running'; 3 = 'off'; 4 = 'stopping'; 6 = 'saved'; 9 = 'paused'; 10 = 'starting'; 11 = 'resetting'
        32773 = 'saving'; 32776 = 'pausing'; 32777 = 'resuming'; 32779 = 'saved'; 32780 = 'saving'
        32781 = 'stopping'; 32782 = 'resetting'; 32783 = 'saved'; 32784 = 'servicing'
    }
    foreach ($critical in 32785..32796) {
        $states[$critical] = 'critical'
    }
    $policies = @{ 2 = 'disabled'; 3 = 'production'; 4 = 'production_only'; 5 = 'standard' }
    $modes = @{ 0 = 'none'; 1 = 'primary'; 2 = 'replica'; 3 = 'test_replica'; 4 = 'extended_replica' }
    # Hyper-V reads members when they are used, and PowerShell takes one that fails for null.
    $settingsError = $null
    $unread = @('Name', 'State', 'Version', 'ReplicationMode' | Where-Object {
            $null -eq (Get-HvpsOptional -InputObject $Vm -Name $_)
        })
    if ($unread.Count -gt 0) {
        $settingsError = 'the host does not tell {0}' -f ($unread -join ', ')
        try {
            $null = Get-HvpsVmObject -VmId $Vm.Id
        }
        catch {
            if ($_.FullyQualifiedErrorId -like 'Hvps.VmNotFound*') {
                return
            }
        }
    }
    $id = ([guid] $Vm.Id).ToString('d')
    $security = Get-HvpsSecurity -Vm $Vm -Settings $Facts['Security']
    $forkCount = $null
    $lastFork = $null
    if ($null -ne $Facts['Forks']) {
        $forks = @($Facts['Forks'] | Where-Object { $null -ne $_ -and $_.Text.Contains($id) })
        if ($forks.Count -gt 0) {
            $started = Get-HvpsWorkerStart -VmId $Vm.Id
            $forks = @($forks | Where-Object { $null -eq $started -or $_.Time -ge $started } |
                    Sort-Object -Property Time)
        }
        $forkCount = [int] $forks.Count
        if ($forks.Count -gt 0) {
            $lastFork = ConvertTo-HvpsTime -Value $forks[-1].Time
        }
    }
    $uptime = 0
    if ($null -ne $Vm.Uptime) {
        $uptime = [Math]::Floor(([TimeSpan] $Vm.Uptime).TotalSeconds)
    }
    [pscustomobject]@{
        PSTypeName           = 'Hvps.VmInfo'
        VmId                 = ConvertTo-HvpsGuid -Value $Vm.Id
        Name                 = [string] $Vm.Name
        State                = ConvertTo-HvpsWord -Value $Vm.State -Words $states -Otherwise 'other'
        OperationalStatus    = [int[]] @($Vm.OperationalStatus | Where-Object { $null -ne $_ } |
                ForEach-Object { [int] $_ })
        Generation           = [int] $Vm.Generation
        Version              = [string] $Vm.Version
        CheckpointPolicy     = ConvertTo-HvpsWord -Value $Vm.CheckpointType -Words $policies -Otherwise 'unknown'
        AutomaticCheckpoints = [bool] (Get-HvpsOptional -InputObject $Vm -Name AutomaticCheckpointsEnabled)
        ParentCheckpointId   = ConvertTo-HvpsGuid -Value $Vm.ParentSnapshotId
        ReplicationMode      = ConvertTo-HvpsWord -Value $Vm.ReplicationMode -Words $modes -Otherwise 'none'
        IsClustered          = [bool] $Vm.IsClustered
        Shielded             = $security['Shielded']
        TpmEnabled           = $security['TpmEnabled']
        MergeEnabled         = Get-HvpsMergeEnabled -VmId $Vm.Id -Settings $Facts['Merge']
        CommitForkEvents     = $forkCount
        LastCommitFork       = $lastFork
        ConfigurationPath    = [string] $Vm.ConfigurationLocation
        CheckpointPath       = [string] $Vm.SnapshotFileLocation
        UptimeSeconds        = [long] $uptime
        ProcessorCount       = [int] $Vm.ProcessorCount
        MemoryBytes          = [uint64] $Vm.MemoryStartup
        SettingsError        = $settingsError
    }
}
