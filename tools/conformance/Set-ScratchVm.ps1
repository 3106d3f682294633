<#
.SYNOPSIS
    Does one thing to a scratch VM: writes into a disk, takes, applies or removes checkpoints, cuts the power, moves
    its disks.
.PARAMETER VmId
    Id of the VM.
.PARAMETER Token
    The token that New-ScratchVm got.
.PARAMETER Action
    What to do.
.PARAMETER Path
    Disk to write into; the VM must be off.
.PARAMETER Ranges
    Where to write: OFFSET:LENGTH,... in bytes.
.PARAMETER Seed
    Number from which the content is made.
.PARAMETER Checkpoint
    Id of a checkpoint.
#>
[CmdletBinding(SupportsShouldProcess = $true)]
[OutputType('Hvps.ProbeFact')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [Parameter(Mandatory = $true)] [string] $Token,
    [Parameter(Mandatory = $true)]
    [ValidateSet('write', 'checkpoint', 'uncheckpoint', 'apply', 'clean', 'cut', 'move')]
    [string] $Action,
    [Parameter()] [string] $Path,
    [Parameter()] [string] $Ranges,
    [Parameter()] [int] $Seed,
    [Parameter()] [guid] $Checkpoint
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Probe.ps1"
#% include "lib/ScratchDisk.ps1"
#% include "lib/ScratchFiles.ps1"

function Get-ScratchCheckpoint {
    <#
    .SYNOPSIS
    A checkpoint of the scratch VM.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm, [Parameter(Mandatory = $true)] [guid] $Id)
    $found = @(Hyper-V\Get-VMSnapshot -VM $Vm -ErrorAction Stop | Where-Object { $Id -eq [guid] $_.Id })
    if ($found.Count -ne 1) {
        throw (New-HvpsError -Id 'Hvps.CheckpointNotFound' -Message "checkpoint $Id does not exist")
    }
    $found[0]
}

try {
    #% include "lib/HyperV.ps1"
    $vm = Get-ScratchVm -VmId $VmId -Token $Token
    if (-not $PSCmdlet.ShouldProcess([string] $vm.Name, $Action)) {
        return
    }
    switch ($Action) {
        'write' {
            if (@(Get-ScratchDrive -Vm $vm | Where-Object { [string] $_.Path -eq $Path }).Count -ne 1) {
                throw (New-HvpsError -Id 'Hvps.BadRequest' -Message "$Path is no disk of the scratch VM: not touched")
            }
            if ([int] $vm.State -ne 3) {
                Write-ProbeFact -Name 'not_possible' -Value 'the scratch VM must be off; with a guest use --guest'
                return
            }
            Import-ScratchDisk
            foreach ($range in @($Ranges.Split(','))) {
                $ends = $range.Split(':')
                [HvpsProbe.ScratchDisk]::Write($Path, [long] $ends[0], [long] $ends[1], $Seed)
            }
            Write-ProbeFact -Name 'scratch.written' -Value $Ranges
        }
        'checkpoint' {
            $name = 'hvps scratch {0}' -f [guid]::NewGuid()
            $made = Hyper-V\Checkpoint-VM -VM $vm -SnapshotName $name -Passthru -ErrorAction Stop
            Write-ProbeFact -Name 'scratch.checkpoint' -Value ([string] $made.Id)
        }
        'uncheckpoint' {
            $snapshot = Get-ScratchCheckpoint -Vm $vm -Id $Checkpoint
            Hyper-V\Remove-VMSnapshot -VMSnapshot $snapshot -Confirm:$false -ErrorAction Stop
            Write-ProbeFact -Name 'scratch.merged' -Value (Wait-ScratchMerge -VmId $VmId)
        }
        'clean' {
            # What a proof that was killed left: checkpoints of the kit, by their names.
            $mine = @(Hyper-V\Get-VMSnapshot -VM $vm -ErrorAction Stop | Where-Object {
                    [string] $_.Name -cmatch '\Ahvps scratch [0-9a-f-]{36}n*\z' })
            foreach ($snapshot in $mine) {
                Hyper-V\Remove-VMSnapshot -VMSnapshot $snapshot -Confirm:$false -ErrorAction Stop
            }
            Write-ProbeFact -Name 'scratch.cleaned' -Value @($mine | ForEach-Object { [string] $_.Name })
            Write-ProbeFact -Name 'scratch.merged' -Value (Wait-ScratchMerge -VmId $VmId)
        }
        'apply' {
            $off = [int] $vm.State -eq 3
            $snapshot = Get-ScratchCheckpoint -Vm $vm -Id $Checkpoint
            Hyper-V\Restore-VMSnapshot -VMSnapshot $snapshot -Confirm:$false -ErrorAction Stop
            if (-not $off) {
                Hyper-V\Start-VM -VM $vm -ErrorAction Stop
            }
        }
        'cut' {
            $off = [int] $vm.State -eq 3
            if ($off) {
                Hyper-V\Start-VM -VM $vm -ErrorAction Stop
                Start-Sleep -Seconds 3
            }
            Hyper-V\Stop-VM -VM $vm -TurnOff -Force -ErrorAction Stop
            if (-not $off) {
                Hyper-V\Start-VM -VM $vm -ErrorAction Stop
            }
        }
        'move' {
            $number = [guid]::NewGuid().ToString('n').Substring(0, 8)
            $folder = '{0}\moved-{1}' -f (Get-ScratchFolder -Vm $vm), $number
            Hyper-V\Move-VMStorage -VM $vm -DestinationStoragePath $folder -ErrorAction Stop
            Write-ProbeFact -Name 'scratch.moved' -Value $folder
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
