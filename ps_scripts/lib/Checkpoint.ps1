# Checkpoints of a VM.

function Get-HvpsSnapshot {
    <#
    .SYNOPSIS
    The VM's checkpoints. They are filtered here, because the cmdlet fails if nothing matches a filter.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm)
    Hyper-V\Get-VMSnapshot -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ }
}

function ConvertTo-HvpsCheckpointInfo {
    <#
    .SYNOPSIS
    A checkpoint as an object of the contract.
    #>
    [CmdletBinding()]
    [OutputType('Hvps.CheckpointInfo')]
    param(
        [Parameter(Mandatory = $true)] [object] $Snapshot,
        [Parameter(Mandatory = $true)] [guid] $VmId,
        [AllowNull()] [object] $NameError = $null
    )
    # SnapshotType (docs/hyperv-facts.md#snapshot-types).
    $words = @{ 0 = 'standard'; 1 = 'recovery'; 2 = 'planned'; 6 = 'replica'; 7 = 'replica'; 8 = 'replica' }
    $drives = @(Hyper-V\Get-VMHardDiskDrive -VMSnapshot $Snapshot -ErrorAction Stop |
        Where-Object { $null -ne $_ -and $_.Path -and $null -eq $_.DiskNumber })
    [pscustomobject]@{
        PSTypeName   = 'Hvps.CheckpointInfo'
        VmId         = ConvertTo-HvpsGuid -Value $VmId
        CheckpointId = ConvertTo-HvpsGuid -Value $Snapshot.Id
        Name         = [string] $Snapshot.Name
        Kind         = ConvertTo-HvpsWord -Value $Snapshot.SnapshotType -Words $words -Otherwise 'other'
        Created      = ConvertTo-HvpsTime -Value $Snapshot.CreationTime
        ParentId     = ConvertTo-HvpsGuid -Value $Snapshot.ParentSnapshotId
        DiskPaths    = [string[]] @($drives | ForEach-Object { [string] $_.Path })
        NameError    = $NameError
    }
}
