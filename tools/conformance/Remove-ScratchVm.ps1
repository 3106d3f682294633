<#
.SYNOPSIS
    Removes a scratch VM and the files of its disks.
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

function Clear-ScratchFolder {
    <#
    .SYNOPSIS
    Removes the empty folders of the scratch VM. A folder with a file in it stays.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [string] $Path)
    if (-not [IO.Directory]::Exists($Path)) {
        return
    }
    $inside = @([IO.Directory]::GetDirectories($Path, '*', [IO.SearchOption]::AllDirectories))
    foreach ($folder in @(@($inside | Sort-Object -Property Length -Descending) + $Path)) {
        try {
            [IO.Directory]::Delete($folder, $false)
        }
        catch [IO.IOException] {
            Write-Verbose -Message "$folder stays: $_"
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
        # A disk is a chain of files while the VM has checkpoints, each with files of change tracking beside it.
        $paths = @(Get-ScratchDrive -Vm $vm | ForEach-Object { Get-ScratchChain -Path ([string] $_.Path) })
        $place = ([string] $vm.Path).TrimEnd('\')
        Hyper-V\Remove-VM -VM $vm -Force -ErrorAction Stop
        foreach ($path in $paths) {
            foreach ($file in @($path, "$path.rct", "$path.mrt")) {
                Remove-Item -LiteralPath $file -Force -ErrorAction SilentlyContinue
            }
        }
        Clear-ScratchFolder -Path $place
        Write-ProbeFact -Name 'scratch.removed' -Value $paths
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
