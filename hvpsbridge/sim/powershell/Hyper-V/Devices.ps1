# Commands that set parts of adapters and drives, and the vTPM.

function Set-VMNetworkAdapter {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VMNetworkAdapter] $VMNetworkAdapter,
        [Microsoft.HyperV.PowerShell.OnOffState] $MacAddressSpoofing, [Microsoft.HyperV.PowerShell.OnOffState] $DhcpGuard,
        [Microsoft.HyperV.PowerShell.OnOffState] $RouterGuard, [Microsoft.HyperV.PowerShell.OnOffState] $AllowTeaming,
        [Microsoft.HyperV.PowerShell.OnOffState] $IeeePriorityTag, [Microsoft.HyperV.PowerShell.OnOffState] $DeviceNaming,
        [uint32] $VmqWeight, [uint32] $IovWeight, [uint32] $DynamicIPAddressLimit, [uint32] $StormLimit,
        [Microsoft.HyperV.PowerShell.VMNetworkAdapterPortMirroringMode] $PortMirroring, [switch] $DynamicMacAddress,
        [long] $MaximumBandwidth, [long] $MinimumBandwidthAbsolute, [uint32] $MinimumBandwidthWeight
    )
    process {
        $names = @{ VmqWeight = 'VMQWeight'; PortMirroring = 'PortMirroringMode' }
        foreach ($name in 'MacAddressSpoofing', 'DhcpGuard', 'RouterGuard', 'AllowTeaming', 'IeeePriorityTag',
            'DeviceNaming', 'IovWeight', 'DynamicIPAddressLimit', 'StormLimit', 'MaximumBandwidth',
            'MinimumBandwidthAbsolute', 'MinimumBandwidthWeight') {
            $names[$name] = $name
        }
        $asked = @{
            vm = [string] $VMNetworkAdapter.VMId; id = [string] $VMNetworkAdapter.Id
            members = (Get-HvMember $PSBoundParameters $names)
        }
        if ($DynamicMacAddress) {
            $asked['members']['DynamicMacAddressEnabled'] = $true
        }
        Write-HvReply $PSCmdlet 'SetVMNetworkAdapter' (Invoke-Model 'vm.set_adapter' $asked) $VMNetworkAdapter
    }
}

function Connect-VMNetworkAdapter {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VMNetworkAdapter[]] $VMNetworkAdapter,
        [Parameter(Mandatory = $true)] [string] $SwitchName
    )
    process {
        foreach ($adapter in $VMNetworkAdapter) {
            $asked = @{ vm = [string] $adapter.VMId; id = [string] $adapter.Id; switch = $SwitchName }
            Write-HvReply $PSCmdlet 'ConnectVMNetworkAdapter' (Invoke-Model 'vm.connect_adapter' $asked) $adapter
        }
    }
}

function Set-VMNetworkAdapterVlan {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VMNetworkAdapter] $VMNetworkAdapter,
        [switch] $Untagged, [switch] $Access, [int] $VlanId, [switch] $Trunk, [int] $NativeVlanId,
        [string] $AllowedVlanIdList, [switch] $Isolated, [switch] $Community, [int] $PrimaryVlanId, [int] $SecondaryVlanId
    )
    process {
        $members = Get-HvMember $PSBoundParameters @{
            VlanId = 'AccessVlanId'; NativeVlanId = 'NativeVlanId'; AllowedVlanIdList = 'AllowedVlanIdListString'
            PrimaryVlanId = 'PrimaryVlanId'; SecondaryVlanId = 'SecondaryVlanId'
        }
        $members['OperationMode'] = $(if ($Access) { 1 } elseif ($Trunk) { 2 } elseif ($Isolated -or $Community) { 3 } else { 0 })
        $members['PrivateVlanMode'] = $(if ($Isolated) { 1 } elseif ($Community) { 2 } else { 0 })
        $asked = @{ vm = [string] $VMNetworkAdapter.VMId; id = [string] $VMNetworkAdapter.Id; members = $members }
        Write-HvReply $PSCmdlet 'SetVMNetworkAdapterVlan' (Invoke-Model 'vm.set_vlan' $asked) $VMNetworkAdapter
    }
}

function Add-VMDvdDrive {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [int] $ControllerNumber, [int] $ControllerLocation, [string] $Path
    )
    process {
        $controller = $(if ($VM.Generation -eq 1) { 'ide' } else { 'scsi' })
        $asked = @{ vm = [string] $VM.Id; slot = '{0}{1}:{2}' -f $controller, $ControllerNumber, $ControllerLocation }
        if ($Path) {
            $asked['path'] = $Path
        }
        Write-HvReply $PSCmdlet 'AddVMDvdDrive' (Invoke-Model 'vm.add_dvd' $asked) $VM
    }
}

function Remove-VMDvdDrive {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.DvdDrive] $VMDvdDrive
    )
    process {
        $asked = @{ vm = [string] $VMDvdDrive.VMId; slot = (Get-HvSlot $VMDvdDrive) }
        Write-HvReply $PSCmdlet 'RemoveVMDvdDrive' (Invoke-Model 'vm.remove_dvd' $asked) $VMDvdDrive
    }
}

function Set-VMHardDiskDrive {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.HardDiskDrive] $VMHardDiskDrive,
        [uint64] $MinimumIOPS, [uint64] $MaximumIOPS
    )
    process {
        $asked = @{
            vm = [string] $VMHardDiskDrive.VMId; slot = (Get-HvSlot $VMHardDiskDrive)
            members = (Get-HvMember $PSBoundParameters @{ MinimumIOPS = 'MinimumIOPS'; MaximumIOPS = 'MaximumIOPS' })
        }
        Write-HvReply $PSCmdlet 'SetVMHardDiskDrive' (Invoke-Model 'vm.set_drive' $asked) $VMHardDiskDrive
    }
}

function Set-VMKeyProtector {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [byte[]] $KeyProtector, [switch] $NewLocalKeyProtector
    )
    process {
        $asked = @{ vm = [string] $VM.Id }
        if (-not $NewLocalKeyProtector) {
            $asked['protector'] = [int[]] $KeyProtector
        }
        Write-HvReply $PSCmdlet 'SetVMKeyProtector' (Invoke-Model 'vm.set_key_protector' $asked) $VM
    }
}

function Enable-VMTPM {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM
    )
    process {
        Write-HvReply $PSCmdlet 'EnableVMTPM' (Invoke-Model 'vm.enable_tpm' @{ vm = [string] $VM.Id }) $VM
    }
}
