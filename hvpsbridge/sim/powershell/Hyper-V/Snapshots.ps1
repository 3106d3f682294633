# Commands that show, take, rename and remove checkpoints.

function Get-VMSnapshot {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory = $true, ValueFromPipeline = $true)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(ParameterSetName = 'Id')] [Nullable[guid]] $Id,
        [Parameter(ParameterSetName = 'Child', Mandatory = $true)] [Microsoft.HyperV.PowerShell.VMSnapshot] $ChildOf,
        [Parameter(ParameterSetName = 'Parent', Mandatory = $true)] [object] $ParentOf,
        [Parameter(Position = 1)] [string] $Name,
        [Alias('VMRecoveryCheckpoint')] [Nullable[Microsoft.HyperV.PowerShell.SnapshotType]] $SnapshotType,
        [object[]] $CimSession, [string[]] $ComputerName, [pscredential] $Credential
    )
    process {
        $replies = @()
        switch ($PSCmdlet.ParameterSetName) {
            'Id' { $replies = @(Invoke-Model 'vm.snapshots' @{ id = [string] $Id }) }
            'Child' {
                $all = Invoke-Model 'vm.snapshots' @{ vm = [string] $ChildOf.VMId }
                $all['result']['objects'] = @($all['result']['objects'] | Where-Object { $_['ParentSnapshotId'] -eq [string] $ChildOf.Id })
                $replies = @($all)
            }
            'Parent' {
                $owner = $(if ($ParentOf -is [Microsoft.HyperV.PowerShell.VirtualMachine]) { $ParentOf.Id } else { $ParentOf.VMId })
                $all = Invoke-Model 'vm.snapshots' @{ vm = [string] $owner }
                $all['result']['objects'] = @($all['result']['objects'] | Where-Object { $_['Id'] -eq [string] $ParentOf.ParentSnapshotId })
                $replies = @($all)
            }
            default {
                $replies = @(Get-HvTarget $PSCmdlet 'GetVMSnapshot' $PSBoundParameters |
                        ForEach-Object { Invoke-Model 'vm.snapshots' @{ vm = $_ } })
            }
        }
        foreach ($reply in $replies) {
            $filtered = $PSBoundParameters.ContainsKey('Name') -or $null -ne $SnapshotType
            if ($filtered -and $reply.ContainsKey('result')) {
                $matching = @($reply['result']['objects'] | Where-Object {
                        (-not $Name -or $_['Name'] -like $Name) -and
                        ($null -eq $SnapshotType -or [int] $SnapshotType -eq $_['SnapshotType'])
                    })
                $reply['result']['objects'] = $matching
                if (-not $matching.Count) {
                    # A filter without a match is an error (docs/hyperv-facts.md#snapshot-types).
                    $refusal = @{ message = 'no checkpoint fits'; identifier = 'ObjectNotFound'; category = 'ObjectNotFound' }
                    Write-HvRefusal $PSCmdlet 'GetVMSnapshot' $refusal $Name
                }
            }
            Write-HvReply $PSCmdlet 'GetVMSnapshot' $reply $VMName
        }
    }
}

function Checkpoint-VM {
    [CmdletBinding(SupportsShouldProcess = $true, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory = $true)] [Alias('VMName')] [string[]] $Name,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(Position = 1)] [Alias('CheckpointName')] [string] $SnapshotName = '',
        [switch] $AsJob, [switch] $Passthru,
        [Parameter(ParameterSetName = 'VMName')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'VMName')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'VMName')] [pscredential] $Credential
    )
    process {
        $bound = @{} + $PSBoundParameters
        if ($bound.ContainsKey('Name')) {
            $bound['VMName'] = $Name
        }
        foreach ($id in @(Get-HvTarget $PSCmdlet 'CheckpointVM' $bound)) {
            if ($PSCmdlet.ShouldProcess($id)) {
                $reply = Invoke-Model 'vm.checkpoint_vm' @{ vm = $id; name = $SnapshotName }
                if (-not $Passthru -and $reply.ContainsKey('result')) {
                    continue
                }
                Write-HvReply $PSCmdlet 'CheckpointVM' $reply $id
            }
        }
    }
}

function Rename-VMSnapshot {
    [CmdletBinding(SupportsShouldProcess = $true, DefaultParameterSetName = 'SnapshotName')]
    param(
        [Parameter(ParameterSetName = 'SnapshotObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('VMCheckpoint')] [Microsoft.HyperV.PowerShell.VMSnapshot] $VMSnapshot,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [Parameter(ParameterSetName = 'SnapshotName', Position = 0, Mandatory = $true)]
        [Parameter(ParameterSetName = 'VMObject', Position = 1, Mandatory = $true)] [string] $Name,
        [Parameter(ParameterSetName = 'SnapshotName', Position = 1, Mandatory = $true)] [string] $VMName,
        [Parameter(Position = 2, Mandatory = $true)] [string] $NewName,
        [Parameter(ParameterSetName = 'SnapshotName')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'SnapshotName')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'SnapshotName')] [pscredential] $Credential,
        [switch] $Passthru
    )
    process {
        $ids = @()
        if ($PSCmdlet.ParameterSetName -ceq 'SnapshotObject') {
            $ids = @([string] $VMSnapshot.Id)
        }
        else {
            $ids = @(Get-HvTarget $PSCmdlet 'RenameVMSnapshot' $PSBoundParameters |
                    ForEach-Object { (Invoke-Model 'vm.snapshots' @{ vm = $_ })['result']['objects'] } |
                    Where-Object { $_['Name'] -ceq $Name } | ForEach-Object { $_['Id'] })
        }
        foreach ($id in $ids) {
            if ($PSCmdlet.ShouldProcess($id)) {
                Write-HvReply $PSCmdlet 'RenameVMSnapshot' (Invoke-Model 'vm.rename_snapshot' @{ snapshot = $id; name = $NewName }) $id
                if ($Passthru) {
                    Write-HvReply $PSCmdlet 'RenameVMSnapshot' (Invoke-Model 'vm.snapshots' @{ id = $id }) $id
                }
            }
        }
    }
}

function Remove-VMSnapshot {
    [CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'Medium', DefaultParameterSetName = 'SnapshotName')]
    param(
        [Parameter(ParameterSetName = 'SnapshotObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('VMCheckpoint')] [Microsoft.HyperV.PowerShell.VMSnapshot[]] $VMSnapshot,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(ParameterSetName = 'SnapshotName', Position = 0, Mandatory = $true)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'SnapshotName', Position = 1)]
        [Parameter(ParameterSetName = 'VMObject', Position = 1)] [string[]] $Name,
        [Alias('IncludeAllChildCheckpoints')] [switch] $IncludeAllChildSnapshots, [switch] $AsJob, [switch] $Passthru,
        [Parameter(ParameterSetName = 'SnapshotName')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'SnapshotName')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'SnapshotName')] [pscredential] $Credential
    )
    process {
        $ids = @()
        if ($PSCmdlet.ParameterSetName -ceq 'SnapshotObject') {
            $ids = @($VMSnapshot | ForEach-Object { [string] $_.Id })
        }
        else {
            $ids = @(Get-HvTarget $PSCmdlet 'RemoveVMSnapshot' $PSBoundParameters |
                    ForEach-Object { (Invoke-Model 'vm.snapshots' @{ vm = $_ })['result']['objects'] } |
                    Where-Object { $row = $_; -not $Name -or @($Name | Where-Object { $row['Name'] -like $_ }).Count } |
                    ForEach-Object { $_['Id'] })
        }
        foreach ($id in $ids) {
            if ($PSCmdlet.ShouldProcess($id)) {
                Write-HvReply $PSCmdlet 'RemoveVMSnapshot' (Invoke-Model 'vm.remove_snapshot' @{ snapshot = $id }) $id
            }
        }
    }
}
