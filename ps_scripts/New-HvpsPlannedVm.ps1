<#
.SYNOPSIS
    Makes a planned VM of a configuration file, with a new id, and removes it again if that fails.
.DESCRIPTION
    ImportSystemDefinition has no parameter for the name, so the planned VM gets its name and the mark as soon as the
    job has ended. Its adapters are disconnected: a switch that the host does not have would prevent the rest.
.PARAMETER Path
    Configuration file on the host (.vmcx).
.PARAMETER Name
    Name of the VM.
.PARAMETER Folder
    Folder of the VM.
.PARAMETER Mark
    Its notes while it is made.
.OUTPUTS
    Hvps.PlannedVmMade
      VmId         guid     its id
      Notes        text     notes in its configuration
      DiskPaths    text[]   files of its disks, as its configuration has them
      Checkpoints  int      how many checkpoints its configuration refers to
#>
[CmdletBinding()]
[OutputType('Hvps.PlannedVmMade')]
param(
    [Parameter(Mandatory = $true)] [string] $Path,
    [Parameter(Mandatory = $true)] [string] $Name,
    [Parameter(Mandatory = $true)] [string] $Folder,
    [Parameter(Mandatory = $true)] [string] $Mark
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/PlannedVm.ps1"

function Set-HvpsPlannedMark {
    <#
    .SYNOPSIS
    Gives a planned VM its name, the mark, its folder, and no automatic start.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Setting)
    $properties = @{
        InstanceID             = @('string', [string] $Setting.InstanceID)
        ElementName            = @('string', $Name)
        Notes                  = @('string', [string[]] @($Mark))
        AutomaticStartupAction = @('uint16', 2)
    }
    foreach ($root in @('Configuration', 'Snapshot', 'Suspend', 'SwapFile', 'GuestState')) {
        # The last one came with Windows Server 1709.
        if ($null -ne $Setting.PSObject.Properties[$root + 'DataRoot']) {
            $properties[$root + 'DataRoot'] = @('string', $Folder)
        }
    }
    $given = @{
        SystemSettings = ConvertTo-HvpsEmbedded -ClassName Msvm_VirtualSystemSettingData -Properties $properties
    }
    $null = Invoke-HvpsWaited -Method 'ModifySystemSettings' -Arguments $given -What 'the renaming'
}

function Disconnect-HvpsPlanned {
    <#
    .SYNOPSIS
    Disables the connections of a planned VM; they keep their VLAN and other settings.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Setting)
    $class = 'Msvm_EthernetPortAllocationSettingData'
    $changes = @(Get-HvpsPlannedPart -Setting $Setting -ClassName $class | Where-Object { 3 -ne $_.EnabledState } |
            ForEach-Object {
                ConvertTo-HvpsEmbedded -ClassName $class -Properties @{
                    InstanceID   = @('string', [string] $_.InstanceID)
                    EnabledState = @('uint16', 3)
                    HostResource = @('string', [string[]] @())
                }
            })
    if ($changes.Count -gt 0) {
        $given = @{ ResourceSettings = [string[]] $changes }
        $null = Invoke-HvpsWaited -Method 'ModifyResourceSettings' -Arguments $given -What 'disconnecting the adapters'
    }
}

$planned = $null
$kept = $false
try {
    $given = @{ SystemDefinitionFile = $Path; GenerateNewSystemIdentifier = $true }
    $imported = Invoke-HvpsWaited -Method 'ImportSystemDefinition' -Arguments $given -What "the import of $Path"
    $class = 'Msvm_PlannedComputerSystem'
    $planned = Get-HvpsResult -Job $imported.Ended -Reference $imported.Result.ImportedSystem -ClassName $class
    if ($null -eq $planned) {
        # Set although there was a job, as others have seen.
        $planned = Get-HvpsResult -Reference $imported.Result.ImportedSystem -ClassName $class
    }
    if ($null -eq $planned) {
        $message = 'the configuration was imported, but its job was gone before it named the planned VM'
        throw (New-HvpsError -Id 'Hvps.JobFailed' -Message $message)
    }
    $setting = Get-HvpsPlannedSetting -Planned $planned
    Set-HvpsPlannedMark -Setting $setting
    Disconnect-HvpsPlanned -Setting $setting
    $parameters = @{
        InputObject = $planned
        ClassName   = 'Msvm_VirtualSystemSettingData'
        Association = 'Msvm_SnapshotOfVirtualSystem'
    }
    $checkpoints = @(Get-HvpsAssociated @parameters)
    [pscustomobject]@{
        PSTypeName  = 'Hvps.PlannedVmMade'
        VmId        = ([guid] $planned.Name).ToString('d')
        Notes       = Get-HvpsNote -Setting $setting
        DiskPaths   = [string[]] @(Get-HvpsWmiDisk -Setting $setting | ForEach-Object { $_.Path })
        Checkpoints = $checkpoints.Count
    }
    $kept = $true
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
finally {
    # Runs as well when the client stops the pipeline.
    if ($null -ne $planned -and -not $kept) {
        try {
            Remove-HvpsPlanned -Planned $planned
        }
        catch {
            Write-Verbose -Message ([string] $_)
        }
    }
}
