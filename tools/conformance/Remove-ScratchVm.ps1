<#
.SYNOPSIS
    Removes a scratch VM, its checkpoints, and the files in its folder. Disks in other folders stay.
.PARAMETER VmId
    Id of the VM.
.PARAMETER Token
    The token that New-ScratchVm got.
#>
[CmdletBinding(SupportsShouldProcess = $true)]
[OutputType('Hvps.ProbeFact')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [Parameter(Mandatory = $true)] [string] $Token
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Probe.ps1"
#% include "lib/ScratchFiles.ps1"

function Get-ScratchChain {
    <#
    .SYNOPSIS
    A file of a virtual disk and its parents.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [string] $Path)
    while ($Path) {
        $Path
        try {
            $Path = [string] (Hyper-V\Get-VHD -Path $Path -ErrorAction Stop).ParentPath
        }
        catch {
            Write-Verbose -Message ([string] $_)
            return
        }
    }
}

function Get-ScratchDiskFile {
    <#
    .SYNOPSIS
    Files of the disks of the scratch VM: of those it has, and of one that New-ScratchVm made but did not attach.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [object] $Vm, [Parameter(Mandatory = $true)] [string] $Folder)
    foreach ($drive in @(Get-ScratchDrive -Vm $Vm)) {
        Get-ScratchChain -Path ([string] $drive.Path)
    }
    foreach ($name in @('dynamic.vhdx', 'fixed.vhdx', 'sector4k.vhdx', 'old.vhd')) {
        $path = '{0}\{1}' -f $Folder, $name
        if ([IO.File]::Exists($path)) {
            $path
        }
    }
}

try {
    #% include "lib/HyperV.ps1"
    $vm = Get-ScratchVm -VmId $VmId -Token $Token
    if ($PSCmdlet.ShouldProcess([string] $vm.Name, 'remove the scratch VM and its disks')) {
        if ([int] $vm.State -ne 3) {
            Hyper-V\Stop-VM -VM $vm -TurnOff -Force -ErrorAction Stop
        }
        # Checkpoints first: those of a VM that is gone merge later, and hold the files meanwhile.
        foreach ($snapshot in @(Hyper-V\Get-VMSnapshot -VM $vm -ErrorAction Stop)) {
            try {
                Hyper-V\Remove-VMSnapshot -VMSnapshot $snapshot -Confirm:$false -ErrorAction Stop
            }
            catch {
                Write-Verbose -Message ([string] $_)
            }
        }
        $null = Wait-ScratchMerge -VmId $VmId
        $folder = Get-ScratchFolder -Vm $vm
        $disks = @(Get-ScratchDiskFile -Vm $vm -Folder $folder | Sort-Object -Unique)
        Hyper-V\Remove-VM -VM $vm -Force -ErrorAction Stop
        # A disk elsewhere was attached by hand, and is not the kit's.
        $mine = @($disks | Where-Object {
                $_.StartsWith("$folder\", [StringComparison]::OrdinalIgnoreCase) })
        $left = @($disks | Where-Object { $_ -notin $mine })
        # Each with files of change tracking beside it.
        $left += @(Remove-ScratchFile -Path @($mine | ForEach-Object { $_, "$_.rct", "$_.mrt" }))
        Clear-ScratchFolder -Path $folder
        Write-ProbeFact -Name 'scratch.removed' -Value $mine
        Write-ProbeFact -Name 'scratch.left' -Value $left
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
