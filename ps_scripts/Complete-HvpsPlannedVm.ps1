<#
.SYNOPSIS
    Makes a VM of a planned VM, off: with other files for its disks, validated and realized.
.DESCRIPTION
    Drives keep their places. The file of a disk that is not restored, and an ISO file that the host does not have, are
    taken out of their drives. If realizing fails, the planned VM stays; after that, the VM is removed again.
.PARAMETER PlannedId
    Id of the planned VM.
.PARAMETER Json
    What to change, formats/planned_vm.py.
.OUTPUTS
    Hvps.VmMade
      VmId      guid    its id
      Name      text    its name
      Path      text    folder of its configuration
      Warnings  text[]  settings that the host refused, one line each
#>
[CmdletBinding()]
[OutputType('Hvps.VmMade')]
param(
    [Parameter(Mandatory = $true)] [guid] $PlannedId,
    [Parameter(Mandatory = $true)] [string] $Json
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/PlannedVm.ps1"
#% include "lib/MadeVm.ps1"

function Set-HvpsPlannedFile {
    <#
    .SYNOPSIS
    Puts the files of a plan into the drives of a planned VM.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Setting,
        [Parameter(Mandatory = $true)] [object] $Plan
    )
    $class = 'Msvm_StorageAllocationSettingData'
    $changes = @()
    $removed = @()
    $left = @($Plan.disks | Where-Object { $null -ne $_ })
    $isos = @($Plan.isos | Where-Object { $null -ne $_ })
    foreach ($file in @(Get-HvpsPlannedPart -Setting $Setting -ClassName $class)) {
        $path = [string] @($file.HostResource)[0]
        if ('Microsoft:Hyper-V:Virtual Hard Disk' -ne $file.ResourceSubType) {
            # An ISO file, or a floppy disk.
            if ($isos -notcontains $path) {
                $removed += $file
            }
            continue
        }
        $wanted = @($left | Where-Object { $path -eq $_.from })
        if ($wanted.Count -eq 0) {
            $removed += $file
            continue
        }
        $left = @($left | Where-Object { $path -ne $_.from })
        $changes += ConvertTo-HvpsEmbedded -ClassName $class -Properties @{
            InstanceID   = @('string', [string] $file.InstanceID)
            HostResource = @('string', [string[]] @([string] $wanted[0].to))
        }
    }
    if ($left.Count -gt 0) {
        throw (New-HvpsError -Id 'Hvps.JobFailed' -Message "the configuration has no disk $($left[0].from)")
    }
    if ($changes.Count -gt 0) {
        $given = @{ ResourceSettings = [string[]] $changes }
        $null = Invoke-HvpsWaited -Method 'ModifyResourceSettings' -Arguments $given -What 'setting the files of disks'
    }
    if ($removed.Count -gt 0) {
        if ($removed[0] -is [Microsoft.Management.Infrastructure.CimInstance]) {
            # References are taken from an array of their own type only.
            $removed = [Microsoft.Management.Infrastructure.CimInstance[]] $removed
        }
        $given = @{ ResourceSettings = $removed }
        $null = Invoke-HvpsWaited -Method 'RemoveResourceSettings' -Arguments $given -What 'removing files from drives'
    }
}

function Set-HvpsRealAdapter {
    <#
    .SYNOPSIS
    Gives adapters of the new VM dynamic addresses, and connects them, as the plan says.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Vm,
        [Parameter(Mandatory = $true)] [object] $Plan,
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [Collections.Generic.List[string]] $Warnings
    )
    $wanted = @($Plan.adapters | Where-Object { $null -ne $_ })
    if ($Plan.keep_macs -and $wanted.Count -eq 0) {
        return
    }
    foreach ($adapter in @(Hyper-V\Get-VMNetworkAdapter -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ })) {
        $name = [string] $adapter.Name
        if (-not $Plan.keep_macs) {
            try {
                Hyper-V\Set-VMNetworkAdapter -VMNetworkAdapter $adapter -DynamicMacAddress -ErrorAction Stop
            }
            catch {
                $Warnings.Add(('address of network adapter {0}: {1}' -f $name, $_.Exception.Message))
            }
        }
        # Of several with one name, in order.
        $first = $wanted | Where-Object { $name -ceq $_.name } | Select-Object -First 1
        if ($null -ne $first) {
            $wanted = @($wanted | Where-Object { -not [object]::ReferenceEquals($_, $first) })
            try {
                $switch = [string] $first.switch
                Hyper-V\Connect-VMNetworkAdapter -VMNetworkAdapter $adapter -SwitchName $switch -ErrorAction Stop
            }
            catch {
                $Warnings.Add(('network adapter {0}: {1}' -f $name, $_.Exception.Message))
            }
        }
    }
}

try {
    #% include "lib/HyperV.ps1"
    $plan = ConvertFrom-Json -InputObject $Json
    $planned = @(Get-HvpsPlanned -PlannedId $PlannedId)
    if ($planned.Count -eq 0) {
        throw (New-HvpsError -Id 'Hvps.VmNotFound' -Message "planned VM $PlannedId does not exist")
    }
    $setting = Get-HvpsPlannedSetting -Planned $planned[0]
    if ($plan.mark -cne (Get-HvpsNote -Setting $setting)) {
        throw (New-HvpsError -Id 'Hvps.VmNotFound' -Message "planned VM $PlannedId is not one of this restore")
    }
    Set-HvpsPlannedFile -Setting $setting -Plan $plan
    $given = @{ PlannedSystem = $planned[0] }
    $null = Invoke-HvpsWaited -Method 'ValidatePlannedSystem' -Arguments $given -What 'validating the VM'
    $real = Invoke-HvpsWaited -Method 'RealizePlannedSystem' -Arguments $given -What 'realizing the VM'
    $id = $PlannedId
    $class = 'Msvm_ComputerSystem'
    $made = Get-HvpsResult -Job $real.Ended -Reference $real.Result.ResultingSystem -ClassName $class
    if ($null -ne $made -and $made.Name -match '^[0-9A-Fa-f-]{36}$') {
        $id = [guid] $made.Name
    }
    $vm = Get-HvpsVmObject -VmId $id
    $warnings = New-Object -TypeName 'System.Collections.Generic.List[string]'
    Complete-HvpsVm -Vm $vm -Plan $plan -Warnings $warnings -Steps {
        Set-HvpsRealAdapter -Vm $vm -Plan $plan -Warnings $warnings
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
