# Parts of a new VM, from a plan of formats/vm_plan.py.

function ConvertTo-HvpsTable {
    <#
    .SYNOPSIS
    The members of an object as a table for splatting; members that are null are left out.
    #>
    [CmdletBinding()]
    [OutputType([hashtable])]
    param([Parameter(Mandatory = $true)] [object] $InputObject)
    $table = @{}
    foreach ($member in $InputObject.PSObject.Properties) {
        if ($null -ne $member.Value) {
            $table[$member.Name] = $member.Value
        }
    }
    $table
}

function Set-HvpsPart {
    <#
    .SYNOPSIS
    Sets a part of a VM; a refusal becomes a warning.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [string] $What,
        [Parameter(Mandatory = $true)] [AllowNull()] [object] $Values,
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [Collections.Generic.List[string]] $Warnings,
        [Parameter(Mandatory = $true)] [scriptblock] $Set
    )
    if ($null -eq $Values) {
        return
    }
    $table = ConvertTo-HvpsTable -InputObject $Values
    if ($table.Count -eq 0) {
        return
    }
    try {
        & $Set $table
    }
    catch {
        $Warnings.Add(('{0}: {1}' -f $What, $_.Exception.Message))
    }
}

function Add-HvpsAdapter {
    <#
    .SYNOPSIS
    Adds the network adapters of a plan in place of the one that New-VM made, and returns them.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Vm,
        [Parameter(Mandatory = $true)] [object] $Plan,
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [Collections.Generic.List[string]] $Warnings
    )
    foreach ($adapter in @(Hyper-V\Get-VMNetworkAdapter -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ })) {
        Hyper-V\Remove-VMNetworkAdapter -VMNetworkAdapter $adapter -ErrorAction Stop
    }
    foreach ($wanted in @($Plan.adapters | Where-Object { $null -ne $_ })) {
        $table = ConvertTo-HvpsTable -InputObject $wanted
        $table.Remove('settings')
        $table.Remove('vlan')
        $table.Remove('bandwidth')
        try {
            $adapter = Hyper-V\Add-VMNetworkAdapter -VM $Vm @table -Passthru -ErrorAction Stop
        }
        catch {
            $Warnings.Add(('network adapter {0}: {1}' -f $wanted.Name, $_.Exception.Message))
            continue
        }
        $what = 'settings of network adapter {0}' -f $wanted.Name
        Set-HvpsPart -What $what -Values $wanted.settings -Warnings $Warnings -Set {
            param([hashtable] $Values)
            Hyper-V\Set-VMNetworkAdapter -VMNetworkAdapter $adapter @Values -ErrorAction Stop
        }
        # One by one: a minimum may not fit the switch.
        foreach ($limit in @($wanted.bandwidth | Where-Object { $null -ne $_ })) {
            $what = 'bandwidth of network adapter {0}' -f $wanted.Name
            Set-HvpsPart -What $what -Values $limit -Warnings $Warnings -Set {
                param([hashtable] $Values)
                Hyper-V\Set-VMNetworkAdapter -VMNetworkAdapter $adapter @Values -ErrorAction Stop
            }
        }
        $what = 'VLAN of network adapter {0}' -f $wanted.Name
        Set-HvpsPart -What $what -Values $wanted.vlan -Warnings $Warnings -Set {
            param([hashtable] $Values)
            Hyper-V\Set-VMNetworkAdapterVlan -VMNetworkAdapter $adapter @Values -ErrorAction Stop
        }
        $adapter
    }
}

function Add-HvpsDrive {
    <#
    .SYNOPSIS
    Adds the controllers, disk drives and DVD drives of a plan, without the DVD drive that New-VM made.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Vm,
        [Parameter(Mandatory = $true)] [object] $Plan,
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [Collections.Generic.List[string]] $Warnings
    )
    foreach ($drive in @(Hyper-V\Get-VMDvdDrive -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ })) {
        Hyper-V\Remove-VMDvdDrive -VMDvdDrive $drive -ErrorAction Stop
    }
    $count = @(Hyper-V\Get-VMScsiController -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ }).Count
    for (; $count -lt $Plan.scsi_controllers; $count++) {
        Hyper-V\Add-VMScsiController -VM $Vm -ErrorAction Stop
    }
    foreach ($disk in @($Plan.disks | Where-Object { $null -ne $_ })) {
        $table = ConvertTo-HvpsTable -InputObject $disk
        $table.Remove('limits')
        try {
            $drive = Hyper-V\Add-VMHardDiskDrive -VM $Vm @table -Passthru -ErrorAction Stop
        }
        catch {
            $code = Get-HvpsNativeCode -Text $_.Exception.Message -Exception $_.Exception
            $id = Get-HvpsDiskErrorId -Code $code -Fallback 'Hvps.DiskUnreadable'
            $message = 'cannot attach {0}: {1}' -f $disk.Path, $_.Exception.Message
            throw (New-HvpsError -Id $id -Message $message -Native $code -Cause $_.Exception)
        }
        Set-HvpsPart -What ('limits of {0}' -f $disk.Path) -Values $disk.limits -Warnings $Warnings -Set {
            param([hashtable] $Values)
            Hyper-V\Set-VMHardDiskDrive -VMHardDiskDrive $drive @Values -ErrorAction Stop
        }
    }
    foreach ($dvd in @($Plan.dvd | Where-Object { $null -ne $_ })) {
        Set-HvpsPart -What 'DVD drive' -Values $dvd -Warnings $Warnings -Set {
            param([hashtable] $Values)
            Hyper-V\Add-VMDvdDrive -VM $Vm @Values -ErrorAction Stop
        }
    }
}

function Set-HvpsTpm {
    <#
    .SYNOPSIS
    Gives a VM a vTPM: with the key protector of the plan if this host can use it, else with a new one if it may.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Vm,
        [Parameter(Mandatory = $true)] [object] $Plan,
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [Collections.Generic.List[string]] $Warnings
    )
    if ($null -eq $Plan.tpm) {
        return
    }
    if ($null -ne $Plan.tpm.protector) {
        try {
            $protector = [Convert]::FromBase64String([string] $Plan.tpm.protector)
            Hyper-V\Set-VMKeyProtector -VM $Vm -KeyProtector $protector -ErrorAction Stop
            Hyper-V\Enable-VMTPM -VM $Vm -ErrorAction Stop
            return
        }
        catch {
            $Warnings.Add(('key protector of the vTPM: {0}' -f $_.Exception.Message))
        }
    }
    if (-not $Plan.tpm.new) {
        return
    }
    try {
        Hyper-V\Set-VMKeyProtector -VM $Vm -NewLocalKeyProtector -ErrorAction Stop
        Hyper-V\Enable-VMTPM -VM $Vm -ErrorAction Stop
    }
    catch {
        $Warnings.Add(('new vTPM: {0}' -f $_.Exception.Message))
    }
}

function Set-HvpsFirmware {
    <#
    .SYNOPSIS
    Sets firmware and boot order of a VM of generation 2.
    .NOTES
    Boot entries that are files are in the NVRAM of the VM, which a plan does not have.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Vm,
        [Parameter(Mandatory = $true)] [object] $Plan,
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [object[]] $Adapters,
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [Collections.Generic.List[string]] $Warnings
    )
    Set-HvpsPart -What 'firmware' -Values $Plan.firmware -Warnings $Warnings -Set {
        param([hashtable] $Values)
        Hyper-V\Set-VMFirmware -VM $Vm @Values -ErrorAction Stop
    }
    $drives = @(
        Hyper-V\Get-VMHardDiskDrive -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ }
        Hyper-V\Get-VMDvdDrive -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ }
    )
    $devices = @(
        foreach ($entry in @($Plan.boot | Where-Object { $null -ne $_ })) {
            if ($null -ne $entry.adapter) {
                $Adapters | Where-Object { $_.Name -ceq $entry.adapter } | Select-Object -First 1
            }
            else {
                $drives | Where-Object {
                    [int] $_.ControllerType -eq $entry.type -and $_.ControllerNumber -eq $entry.number -and
                    $_.ControllerLocation -eq $entry.location
                }
            }
        }
    )
    if ($devices.Count -gt 0) {
        try {
            Hyper-V\Set-VMFirmware -VM $Vm -BootOrder $devices -ErrorAction Stop
        }
        catch {
            $Warnings.Add(('boot order: {0}' -f $_.Exception.Message))
        }
    }
}

function Set-HvpsService {
    <#
    .SYNOPSIS
    Enables and disables integration services, which are named by the end of their ids: names are localized.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Vm,
        [Parameter(Mandatory = $true)] [object] $Plan,
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [Collections.Generic.List[string]] $Warnings
    )
    if ($null -eq $Plan.services) {
        return
    }
    try {
        foreach ($service in @(Hyper-V\Get-VMIntegrationService -VM $Vm -ErrorAction Stop)) {
            $wanted = $Plan.services.PSObject.Properties[([string] $service.Id).Split('\')[-1]]
            if ($null -eq $wanted -or [bool] $wanted.Value -eq [bool] $service.Enabled) {
                continue
            }
            if ($wanted.Value) {
                Hyper-V\Enable-VMIntegrationService -VMIntegrationService $service -ErrorAction Stop
            }
            else {
                Hyper-V\Disable-VMIntegrationService -VMIntegrationService $service -ErrorAction Stop
            }
        }
    }
    catch {
        $Warnings.Add(('integration services: {0}' -f $_.Exception.Message))
    }
}
