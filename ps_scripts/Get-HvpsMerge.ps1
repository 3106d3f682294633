<#
.SYNOPSIS
    Tells whether disks of a VM are merging, and lists every file of its chains.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.MergeState
      VmId               guid     id of the VM
      Merging            bool     status says that its disks may change
      OperationalStatus  int[]    VMOperationalStatus numbers
      ChainPaths         text[]   every file of every chain
      UnreadPaths        text[]   files of drives whose chain cannot be read now
#>
[CmdletBinding()]
[OutputType('Hvps.MergeState')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Chain.ps1"

# A checkpoint is created, applied (two numbers) or deleted; disks are merged; the VM is backed up
# (docs/hyperv-facts.md#operational-status).
$BusyStatus = @(32768, 32769, 23769, 32770, 32772, 32776)

try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
    $status = [int[]] @($vm.OperationalStatus | Where-Object { $null -ne $_ } | ForEach-Object { [int] $_ })
    $paths = @()
    $unread = @()
    # The caller asks again by itself.
    foreach ($row in @(Get-HvpsDriveChain -Vm $vm -BusySeconds 0)) {
        if ($null -ne $row.Problem) {
            $unread += [string] $row.Drive.Path
        }
        $paths += @($row.Chain | ForEach-Object { [string] $_.Path })
    }
    [pscustomobject]@{
        PSTypeName        = 'Hvps.MergeState'
        VmId              = ConvertTo-HvpsGuid -Value $VmId
        Merging           = @($status | Where-Object { $BusyStatus -contains $_ }).Count -gt 0
        OperationalStatus = $status
        ChainPaths        = [string[]] $paths
        UnreadPaths       = [string[]] $unread
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
