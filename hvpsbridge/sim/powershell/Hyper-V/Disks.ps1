# Commands that show drives and virtual disk files.

function Get-VMHardDiskDrive {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory = $true, ValueFromPipeline = $true)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(ParameterSetName = 'VMSnapshot', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('VMCheckpoint')] [Microsoft.HyperV.PowerShell.VMSnapshot] $VMSnapshot,
        [Parameter(ParameterSetName = 'VMDriveController', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [object[]] $VMDriveController,
        [Nullable[Microsoft.HyperV.PowerShell.ControllerType]] $ControllerType,
        [Nullable[int]] $ControllerNumber,
        [Nullable[int]] $ControllerLocation,
        [Parameter(ParameterSetName = 'VMName')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'VMName')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'VMName')] [pscredential] $Credential
    )
    process {
        $replies = @()
        if ($PSCmdlet.ParameterSetName -ceq 'VMSnapshot') {
            $replies = @(Invoke-Model 'vm.drives' @{ snapshot = [string] $VMSnapshot.Id })
        }
        else {
            $replies = @(Get-HvTarget $PSCmdlet 'GetVMHardDiskDriveCommand' $PSBoundParameters |
                    ForEach-Object { Invoke-Model 'vm.drives' @{ vm = $_ } })
        }
        foreach ($reply in $replies) {
            if ($reply.ContainsKey('result')) {
                $reply['result'] = @($reply['result'] | Where-Object {
                        ($null -eq $ControllerType -or [int] $ControllerType -eq $_['ControllerType']) -and
                        ($null -eq $ControllerNumber -or $ControllerNumber -eq $_['ControllerNumber']) -and
                        ($null -eq $ControllerLocation -or $ControllerLocation -eq $_['ControllerLocation'])
                    })
            }
            Write-HvReply $PSCmdlet 'GetVMHardDiskDriveCommand' $reply $VMName
        }
    }
}

function Get-VHD {
    [CmdletBinding(DefaultParameterSetName = 'Path')]
    param(
        [Parameter(ParameterSetName = 'Path', Position = 0, Mandatory = $true, ValueFromPipeline = $true,
            ValueFromPipelineByPropertyName = $true)]
        [Alias('FullName')] [string[]] $Path,
        [Parameter(ParameterSetName = 'Disk', Mandatory = $true)] [Alias('Number')] [uint32] $DiskNumber,
        [Parameter(ParameterSetName = 'VMId', Mandatory = $true)] [Alias('Id')] [guid[]] $VMId,
        [object[]] $CimSession, [string[]] $ComputerName, [pscredential] $Credential
    )
    process {
        if (-not (Assert-HvLocal $PSCmdlet 'GetVHD' $PSBoundParameters)) {
            return
        }
        $paths = $Path
        if ($PSCmdlet.ParameterSetName -ceq 'Disk') {
            $refusal = @{ message = "no disk $DiskNumber"; identifier = 'ObjectNotFound'; category = 'ObjectNotFound' }
            Write-HvRefusal $PSCmdlet 'GetVHD' $refusal $DiskNumber
            return
        }
        if ($PSCmdlet.ParameterSetName -ceq 'VMId') {
            $paths = @($VMId | ForEach-Object { (Invoke-Model 'vm.drives' @{ vm = [string] $_ })['result'] } |
                    ForEach-Object { $_['Path'] })
        }
        Write-HvReply $PSCmdlet 'GetVHD' (Invoke-Model 'vm.vhds' @{ paths = $paths }) $null
    }
}

function Resize-VHD {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        [Parameter(Position = 0, Mandatory = $true)] [string] $Path,
        [Parameter(Position = 1, Mandatory = $true)] [uint64] $SizeBytes
    )
    if ($PSCmdlet.ShouldProcess($Path)) {
        $asked = @{ path = $Path; size_bytes = [long] $SizeBytes }
        Write-HvReply $PSCmdlet 'ResizeVhd' (Invoke-Model 'vm.resize_vhd' $asked) $Path
    }
}
