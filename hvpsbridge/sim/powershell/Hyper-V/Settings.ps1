# Commands that set parts of a VM. What they set is shown by the commands of Hardware.ps1.

# Bound parameters as members of the object that shows them; enums as numbers.
function Get-HvMember([hashtable] $Bound, [hashtable] $Names) {
    $members = @{}
    foreach ($name in $Names.Keys) {
        if ($Bound.ContainsKey($name)) {
            $value = $Bound[$name]
            if ($value -is [Array]) {
                $value = @($value | ForEach-Object { [int] $_ })
            }
            elseif ($value -is [Enum]) {
                $value = [int] $value
            }
            $members[$Names[$name]] = $value
        }
    }
    $members
}

# Slot of a drive, as scsi0:1.
function Get-HvSlot($Drive) {
    '{0}{1}:{2}' -f ([string] $Drive.ControllerType).ToLower(), $Drive.ControllerNumber, $Drive.ControllerLocation
}

function Set-VMProcessor {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [long] $Count, [long] $Maximum, [long] $Reserve, [int] $RelativeWeight,
        [bool] $ExposeVirtualizationExtensions, [bool] $CompatibilityForMigrationEnabled,
        [bool] $CompatibilityForOlderOperatingSystemsEnabled, [long] $HwThreadCountPerCore
    )
    process {
        $names = @{}
        foreach ($name in 'Count', 'Maximum', 'Reserve', 'RelativeWeight', 'ExposeVirtualizationExtensions',
            'CompatibilityForMigrationEnabled', 'CompatibilityForOlderOperatingSystemsEnabled', 'HwThreadCountPerCore') {
            $names[$name] = $name
        }
        $asked = @{ vm = [string] $VM.Id; members = (Get-HvMember $PSBoundParameters $names) }
        Write-HvReply $PSCmdlet 'SetVMProcessor' (Invoke-Model 'vm.set_processor' $asked) $VM
    }
}

function Set-VMMemory {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [long] $StartupBytes, [long] $MinimumBytes, [long] $MaximumBytes, [int] $Buffer, [int] $Priority,
        [bool] $DynamicMemoryEnabled
    )
    process {
        $names = @{
            StartupBytes = 'Startup'; MinimumBytes = 'Minimum'; MaximumBytes = 'Maximum'; Buffer = 'Buffer'
            Priority = 'Priority'; DynamicMemoryEnabled = 'DynamicMemoryEnabled'
        }
        $asked = @{ vm = [string] $VM.Id; members = (Get-HvMember $PSBoundParameters $names) }
        Write-HvReply $PSCmdlet 'SetVMMemory' (Invoke-Model 'vm.set_memory' $asked) $VM
    }
}

function Set-VMFirmware {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [object[]] $BootOrder, [Microsoft.HyperV.PowerShell.OnOffState] $EnableSecureBoot,
        [string] $SecureBootTemplate, [Microsoft.HyperV.PowerShell.IPProtocolPreference] $PreferredNetworkBootProtocol,
        [Microsoft.HyperV.PowerShell.ConsoleModeType] $ConsoleMode,
        [Microsoft.HyperV.PowerShell.OnOffState] $PauseAfterBootFailure
    )
    process {
        $names = @{
            EnableSecureBoot = 'SecureBoot'; SecureBootTemplate = 'SecureBootTemplate'; ConsoleMode = 'ConsoleMode'
            PreferredNetworkBootProtocol = 'PreferredNetworkBootProtocol'
            PauseAfterBootFailure = 'PauseAfterBootFailure'
        }
        $asked = @{ vm = [string] $VM.Id; members = (Get-HvMember $PSBoundParameters $names) }
        if ($PSBoundParameters.ContainsKey('BootOrder')) {
            $asked['boot'] = @($BootOrder | ForEach-Object {
                    if ($_.GetType().Name -cin 'HardDiskDrive', 'DvdDrive') {
                        Get-HvSlot $_
                    }
                    else {
                        [string] $_.Id
                    }
                })
        }
        Write-HvReply $PSCmdlet 'SetVMFirmware' (Invoke-Model 'vm.set_firmware' $asked) $VM
    }
}

function Set-VMBios {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [switch] $EnableNumLock, [switch] $DisableNumLock,
        [Microsoft.HyperV.PowerShell.BootDevice[]] $StartupOrder
    )
    process {
        $members = Get-HvMember $PSBoundParameters @{ StartupOrder = 'StartupOrder' }
        if ($EnableNumLock -or $DisableNumLock) {
            $members['NumLockEnabled'] = [bool] $EnableNumLock
        }
        Write-HvReply $PSCmdlet 'SetVMBios' (Invoke-Model 'vm.set_bios' @{ vm = [string] $VM.Id; members = $members }) $VM
    }
}

function Set-HvService($Cmdlet, [string] $Verb, $Service) {
    $id = [string] $Service.Id
    # Microsoft:<id of the VM>\<id of the service>
    $reply = Invoke-Model "vm.$($Verb.ToLowerInvariant())_service" @{ vm = $id.Substring(10, 36); id = $id }
    Write-HvReply $Cmdlet "${Verb}VMIntegrationService" $reply $id
}

function Enable-VMIntegrationService {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VMIntegrationComponent] $VMIntegrationService
    )
    process {
        Set-HvService $PSCmdlet Enable $VMIntegrationService
    }
}

function Disable-VMIntegrationService {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VMIntegrationComponent] $VMIntegrationService
    )
    process {
        Set-HvService $PSCmdlet Disable $VMIntegrationService
    }
}

function Add-VMScsiController {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM
    )
    process {
        $reply = Invoke-Model 'vm.add_scsi_controller' @{ vm = [string] $VM.Id }
        Write-HvReply $PSCmdlet 'AddVMScsiController' $reply $VM
    }
}

function Add-VMNetworkAdapter {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [string] $Name, [string] $SwitchName, [bool] $IsLegacy, [string] $StaticMacAddress, [switch] $Passthru
    )
    process {
        $names = @{ Name = 'Name'; SwitchName = 'SwitchName'; IsLegacy = 'IsLegacy'; StaticMacAddress = 'MacAddress' }
        $members = Get-HvMember $PSBoundParameters $names
        if ($StaticMacAddress) {
            $members['DynamicMacAddressEnabled'] = $false
        }
        $reply = Invoke-Model 'vm.add_adapter' @{ vm = [string] $VM.Id; members = $members }
        if ($reply.ContainsKey('result') -and -not $Passthru) {
            $reply['result'] = @()
        }
        Write-HvReply $PSCmdlet 'AddVMNetworkAdapter' $reply $VM
    }
}

function Remove-VMNetworkAdapter {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VMNetworkAdapter] $VMNetworkAdapter
    )
    process {
        $asked = @{ vm = [string] $VMNetworkAdapter.VMId; id = [string] $VMNetworkAdapter.Id }
        Write-HvReply $PSCmdlet 'RemoveVMNetworkAdapter' (Invoke-Model 'vm.remove_adapter' $asked) $null
    }
}

function Get-VMSwitch {
    [CmdletBinding()]
    param(
        [Parameter(Position = 0)] [string] $Name
    )
    Write-HvReply $PSCmdlet 'GetVMSwitch' (Invoke-Model 'vm.switches') $null
}
