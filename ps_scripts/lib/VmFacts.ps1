# What decides whether a VM can be backed up.

function Get-HvpsForkEvent {
    <#
    .SYNOPSIS
    Events 3216 of the Worker log as XML text: the disk switch of a checkpoint was rolled back while the VM ran
    (docs/hyperv-facts.md#commit-forks).
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param()
    try {
        $filter = @{ LogName = 'Microsoft-Windows-Hyper-V-Worker-Admin'; Id = 3216 }
        foreach ($found in @(Get-WinEvent -FilterHashtable $filter -ErrorAction Stop)) {
            $found.ToXml()
        }
    }
    catch {
        # No such events, or no such log: these ids do not depend on the language.
        if ($_.FullyQualifiedErrorId -notmatch '^(NoMatchingEventsFound|NoMatchingLogsFound)') {
            throw
        }
    }
}

function Test-HvpsMergeEnabled {
    <#
    .SYNOPSIS
    Whether disk merging is enabled for a VM: no setting disables it.
    .NOTES
    An export without storage disables it until an administrator enables it again
    (docs/hyperv-facts.md#export-disables-merging). Known gap: docs/hyperv-facts.md#disk-merge-settings.
    #>
    [CmdletBinding()]
    [OutputType([bool])]
    param([Parameter(Mandatory = $true)] [guid] $VmId)
    $vm = Get-HvpsWmiVm -VmId $VmId
    $settings = @(Get-HvpsAssociated -InputObject $vm -ClassName Msvm_VirtualSystemSettingData `
            -Association Msvm_SettingsDefineState)
    foreach ($setting in $settings) {
        $parameters = @{
            InputObject = $setting
            ClassName   = 'Msvm_DiskMergeSettingData'
            Association = 'Msvm_VirtualSystemSettingDataComponent'
        }
        foreach ($merge in @(Get-HvpsAssociated @parameters)) {
            if (0 -eq [int] $merge.EnabledState) {
                return $false
            }
        }
    }
    $true
}

function ConvertTo-HvpsVmInfo {
    <#
    .SYNOPSIS
    A VM as an object of the contract.
    .PARAMETER ForkEvents
    Texts from Get-HvpsForkEvent.
    .PARAMETER Problem
    Why the settings cannot be read; they are not asked for then.
    #>
    [CmdletBinding()]
    [OutputType('Hvps.VmInfo')]
    param(
        [Parameter(Mandatory = $true)] [object] $Vm,
        [AllowNull()] [AllowEmptyCollection()] [string[]] $ForkEvents,
        [string] $Problem
    )
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
    $security = [pscustomobject] @{}
    $mergeEnabled = $true
    $settingsError = $null
    if ($Problem) {
        $settingsError = $Problem
    }
    else {
        $security = Hyper-V\Get-VMSecurity -VM $Vm -ErrorAction Stop
        $mergeEnabled = Test-HvpsMergeEnabled -VmId $Vm.Id
    }
    $id = ([guid] $Vm.Id).ToString('d')
    $forks = @($ForkEvents | Where-Object { $_ -and $_.ToLowerInvariant().Contains($id) })
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
        Shielded             = [bool] (Get-HvpsOptional -InputObject $security -Name Shielded)
        TpmEnabled           = [bool] (Get-HvpsOptional -InputObject $security -Name TpmEnabled)
        MergeEnabled         = $mergeEnabled
        CommitForkEvents     = [int] $forks.Count
        ConfigurationPath    = [string] $Vm.ConfigurationLocation
        CheckpointPath       = [string] $Vm.SnapshotFileLocation
        UptimeSeconds        = [long] [Math]::Floor(([TimeSpan] $Vm.Uptime).TotalSeconds)
        ProcessorCount       = [int] $Vm.ProcessorCount
        MemoryBytes          = [uint64] $Vm.MemoryStartup
        SettingsError        = $settingsError
    }
}
