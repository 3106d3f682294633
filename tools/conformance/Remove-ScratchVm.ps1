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
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-ScratchVm -VmId $VmId -Token $Token
    if ($PSCmdlet.ShouldProcess([string] $vm.Name, 'remove the scratch VM and its disks')) {
        if ([int] $vm.State -ne 3) {
            Hyper-V\Stop-VM -VM $vm -TurnOff -Force -ErrorAction Stop
        }
        $paths = @(Get-ScratchDrive -Vm $vm | ForEach-Object { [string] $_.Path })
        Hyper-V\Remove-VM -VM $vm -Force -ErrorAction Stop
        foreach ($path in $paths) {
            Remove-Item -LiteralPath $path -Force -ErrorAction SilentlyContinue
        }
        Write-ProbeFact -Name 'scratch.removed' -Value $paths
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
