# Planned VMs: what ImportSystemDefinition makes of a configuration file. No cmdlet lists them
# (docs/hyperv-facts.md#planned-vms).

# How long a job about a planned VM may take.
$HvpsPlannedSeconds = 600

function Get-HvpsPlanned {
    <#
    .SYNOPSIS
    Msvm_PlannedComputerSystem of all planned VMs, or of one.
    #>
    [CmdletBinding()]
    param([AllowNull()] [object] $PlannedId = $null)
    $parameters = @{ Namespace = $HvpsNamespace; ClassName = 'Msvm_PlannedComputerSystem' }
    if ($null -ne $PlannedId) {
        $parameters['Filter'] = "Name='{0}'" -f ([guid] $PlannedId).ToString('d').ToUpperInvariant()
    }
    Get-CimInstance @parameters -ErrorAction Stop | Where-Object { $null -ne $_ }
}

function Get-HvpsPlannedSetting {
    <#
    .SYNOPSIS
    Msvm_VirtualSystemSettingData of a planned VM.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Planned)
    $parameters = @{
        InputObject = $Planned
        ClassName   = 'Msvm_VirtualSystemSettingData'
        Association = 'Msvm_SettingsDefineState'
    }
    $setting = Get-HvpsAssociated @parameters | Select-Object -First 1
    if ($null -eq $setting) {
        throw (New-HvpsError -Id 'Hvps.JobFailed' -Message "planned VM $($Planned.Name) has no settings")
    }
    $setting
}

function Get-HvpsPlannedPart {
    <#
    .SYNOPSIS
    Parts of a class in the settings of a planned VM.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Setting,
        [Parameter(Mandatory = $true)] [string] $ClassName
    )
    $parameters = @{
        InputObject = $Setting
        ClassName   = $ClassName
        Association = 'Msvm_VirtualSystemSettingDataComponent'
    }
    Get-HvpsAssociated @parameters
}

function Get-HvpsNote {
    <#
    .SYNOPSIS
    The notes in settings, an array of lines, as one text.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [object] $Setting)
    @($Setting.Notes | Where-Object { $null -ne $_ }) -join "`n"
}

function Invoke-HvpsWaited {
    <#
    .SYNOPSIS
    Calls a method of the service that manages VMs and waits for its job: the result, with the job as Ended.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [string] $Method,
        [Parameter(Mandatory = $true)] [hashtable] $Arguments,
        [Parameter(Mandatory = $true)] [string] $What
    )
    $service = 'Msvm_VirtualSystemManagementService'
    $result = Invoke-HvpsMethod -Service $service -Method $Method -Arguments $Arguments
    $job = Wait-HvpsJob -Result $result -Seconds $HvpsPlannedSeconds -What $What
    [pscustomobject]@{ Result = $result; Ended = $job }
}

function Remove-HvpsPlanned {
    <#
    .SYNOPSIS
    Removes a planned VM.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Planned)
    $null = Invoke-HvpsWaited -Method 'DestroySystem' -Arguments @{ AffectedSystem = $Planned } -What 'the removal'
}
