<#
.SYNOPSIS
    Removes a VM that a restore was making, but not its files. One that is gone counts as removed.
.DESCRIPTION
    An id alone removes nothing: the VM must be off, in the folder of that restore, and have its mark as notes, or
    neither notes nor disks if the restore was killed before it could set the mark. The VM of a drill may run.
.PARAMETER VmId
    Id of the VM.
.PARAMETER Folder
    Its folder; a VM that is elsewhere is left alone.
.PARAMETER Mark
    Its notes; a VM with other notes is left alone.
.PARAMETER TurnOff
    Turn it off first if it runs.
.OUTPUTS
    Hvps.Removal
      Removed  bool     false if it did not exist
#>
[CmdletBinding()]
[OutputType('Hvps.Removal')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [Parameter(Mandatory = $true)] [string] $Folder,
    [Parameter(Mandatory = $true)] [string] $Mark,
    [bool] $TurnOff
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
try {
    #% include "lib/HyperV.ps1"
    $vm = Find-HvpsObject -Find { Get-HvpsVmObject -VmId $VmId }
    $removed = $false
    if ($null -ne $vm) {
        $notes = [string] $vm.Notes
        $drives = @(Hyper-V\Get-VMHardDiskDrive -VM $vm -ErrorAction Stop | Where-Object { $null -ne $_ })
        $mine = $Mark -ceq $notes -or ($notes -eq '' -and $drives.Count -eq 0)
        $off = [int] $vm.State -eq 3
        if (-not $mine -or -not ($off -or $TurnOff) -or $Folder -ne [string] $vm.Path) {
            $message = "VM $VmId is not one that this restore was making; it is left alone"
            throw (New-HvpsError -Id 'Hvps.BadRequest' -Message $message)
        }
        if (-not $off) {
            Hyper-V\Stop-VM -VM $vm -TurnOff -Force -ErrorAction Stop
        }
        Hyper-V\Remove-VM -VM $vm -Force -ErrorAction Stop
        $removed = $true
    }
    [pscustomobject]@{ PSTypeName = 'Hvps.Removal'; Removed = $removed }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
