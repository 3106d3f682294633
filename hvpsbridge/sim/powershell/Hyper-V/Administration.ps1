# Commands that make and change VMs, as far as restores and the conformance kit use them.

# Files that New-VHD made and no VM has yet, by path.
$script:LooseDisks = @{}

function New-VM {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Position = 0)] [Alias('VMName')] [string] $Name,
        [int16] $Generation = 1, [long] $MemoryStartupBytes, [string] $Path, [switch] $NoVHD, [version] $Version
    )
    if ($PSCmdlet.ShouldProcess($Name)) {
        $asked = @{ name = $Name; generation = [int] $Generation; folder = $Path; memory_bytes = $MemoryStartupBytes }
        if ($Version) {
            $asked['version'] = [string] $Version
        }
        Write-HvReply $PSCmdlet 'NewVM' (Invoke-Model 'vm.new_vm' $asked) $Name
    }
}

function Set-VM {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [string] $Notes, [Microsoft.HyperV.PowerShell.CheckpointType] $CheckpointType,
        [Microsoft.HyperV.PowerShell.StartAction] $AutomaticStartAction, [int] $AutomaticStartDelay,
        [Microsoft.HyperV.PowerShell.StopAction] $AutomaticStopAction, [bool] $AutomaticCheckpointsEnabled
    )
    process {
        $asked = @{ vm = [string] $VM.Id; members = @{} }
        if ($PSBoundParameters.ContainsKey('Notes')) {
            $asked['notes'] = $Notes
        }
        if ($PSBoundParameters.ContainsKey('CheckpointType')) {
            $asked['policy'] = [string] $CheckpointType
        }
        foreach ($name in 'AutomaticStartAction', 'AutomaticStartDelay', 'AutomaticStopAction') {
            if ($PSBoundParameters.ContainsKey($name)) {
                $asked['members'][$name] = [int] $PSBoundParameters[$name]
            }
        }
        if ($PSBoundParameters.ContainsKey('AutomaticCheckpointsEnabled')) {
            $asked['members']['AutomaticCheckpointsEnabled'] = $AutomaticCheckpointsEnabled
        }
        Write-HvReply $PSCmdlet 'SetVM' (Invoke-Model 'vm.set_vm' $asked) $VM
    }
}

function New-VHD {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, Position = 0)] [string] $Path,
        [Parameter(Mandatory = $true)] [uint64] $SizeBytes,
        [switch] $Dynamic, [switch] $Fixed,
        [ValidateSet(512, 4096)] [uint32] $LogicalSectorSizeBytes = 512,
        [ValidateSet(512, 4096)] [uint32] $PhysicalSectorSizeBytes = 4096
    )
    $script:LooseDisks[$Path] = @{
        size_bytes = [long] $SizeBytes; sector_bytes = [int] $LogicalSectorSizeBytes; fixed = [bool] $Fixed
    }
}

function Add-VMHardDiskDrive {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [ValidateSet('IDE', 'SCSI')] [string] $ControllerType,
        [Nullable[int]] $ControllerNumber, [Nullable[int]] $ControllerLocation,
        [Parameter(Mandatory = $true)] [string] $Path, [switch] $Passthru
    )
    process {
        $asked = @{ vm = [string] $VM.Id; path = $Path }
        if ($script:LooseDisks.ContainsKey($Path)) {
            $asked += $script:LooseDisks[$Path]
        }
        if ($null -ne $ControllerLocation) {
            $asked['slot'] = '{0}{1}:{2}' -f $ControllerType, $ControllerNumber, $ControllerLocation
        }
        $reply = Invoke-Model 'vm.add_drive' $asked
        if ($reply.ContainsKey('result') -and -not $Passthru) {
            $reply['result'] = @()
        }
        Write-HvReply $PSCmdlet 'AddVMHardDiskDrive' $reply $VM
    }
}

function Start-VM {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM
    )
    process {
        Write-HvReply $PSCmdlet 'StartVM' (Invoke-Model 'vm.start_vm' @{ vm = [string] $VM.Id }) $VM
    }
}

function Stop-VM {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [switch] $TurnOff, [switch] $Force
    )
    process {
        $asked = @{ vm = [string] $VM.Id; action = $(if ($TurnOff) { 'power_off' } else { 'stop' }) }
        Write-HvReply $PSCmdlet 'StopVM' (Invoke-Model 'vm.set_state' $asked) $VM
    }
}

function Remove-VMSavedState {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM
    )
    process {
        Write-HvReply $PSCmdlet 'RemoveVMSavedState' (Invoke-Model 'vm.remove_saved_state' @{ vm = [string] $VM.Id }) $VM
    }
}

function Remove-VM {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [switch] $Force
    )
    process {
        Write-HvReply $PSCmdlet 'RemoveVM' (Invoke-Model 'vm.remove_vm' @{ vm = [string] $VM.Id }) $VM
    }
}

function Restore-VMSnapshot {
    [CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'Medium')]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)] [Alias('VMCheckpoint')]
        [Microsoft.HyperV.PowerShell.VMSnapshot] $VMSnapshot
    )
    process {
        $reply = Invoke-Model 'vm.apply_snapshot' @{ snapshot = [string] $VMSnapshot.Id }
        Write-HvReply $PSCmdlet 'RestoreVMSnapshot' $reply $VMSnapshot
    }
}

function Move-VMStorage {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [Parameter(Mandatory = $true)] [string] $DestinationStoragePath
    )
    process {
        $asked = @{ vm = [string] $VM.Id; folder = $DestinationStoragePath }
        Write-HvReply $PSCmdlet 'MoveVMStorage' (Invoke-Model 'vm.move_storage' $asked) $VM
    }
}
