<#
.SYNOPSIS
    Which handles of frozen disks answer about change tracking, and whether WMI does; codes of each refusal.
.PARAMETER VmId
    Id of the scratch VM.
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
#% include "lib/Wmi.ps1"
#% include "lib/Probe.ps1"
#% include "lib/ScratchDisk.ps1"
#% include "lib/ScratchCheckpoint.ps1"

function Test-ScratchHandle {
    <#
    .SYNOPSIS
    Tracking state and change query on one kind of handle.
    #>
    [CmdletBinding()]
    [OutputType([hashtable])]
    param(
        [Parameter(Mandatory = $true)] [string] $Path,
        [Parameter(Mandatory = $true)] [string] $Kind,
        [Parameter()] [AllowEmptyString()] [string] $RctId
    )
    $disk = New-Object -TypeName HvpsProbe.ScratchDisk -ArgumentList @($Path, ($Kind -eq 'info'), $true)
    try {
        $seen = @{ Open = $disk.OpenCode; Attach = $null }
        if ($disk.OpenCode -ne 0) {
            return $seen
        }
        if ($Kind -eq 'attached') {
            $seen.Attach = $disk.Attach($true, $false)
        }
        $size = $disk.Size()
        $state = $disk.Tracking()
        $seen.Size = @{ Code = $size.Code; Bytes = $size.Processed; Sector = $size.Count }
        $seen.Tracking = @{
            Code = $state.Code; Enabled = $state.Flag; Newer = $state.Count; HasId = $state.Text -ne ''
        }
        $seen.Id = $state.Text
        if ($RctId) {
            $changes = $disk.Changes($RctId, $size.Processed)
            $seen.Changes = @{ Code = $changes.Code; Ranges = $changes.Count; Processed = $changes.Processed }
        }
        $seen
    }
    finally {
        $disk.Dispose()
    }
}

try {
    #% include "lib/HyperV.ps1"
    $vm = Get-ScratchVm -VmId $VmId -Token $Token
    if (-not $PSCmdlet.ShouldProcess([string] $vm.Name, 'make a recovery checkpoint and ask its disks')) {
        return
    }
    Import-ScratchDisk
    $made = New-ScratchCheckpoint -VmId $VmId
    if ($null -eq $made.Setting) {
        throw (New-HvpsError -Id 'Hvps.JobFailed' -Message 'no recovery checkpoint was made')
    }
    try {
        $ids = @{}
        $handles = @{}
        foreach ($path in @(Get-ScratchFrozenPath -Setting $made.Setting)) {
            $file = $path.Substring($path.LastIndexOf('\') + 1)
            $handles[$file] = @{}
            foreach ($kind in @('attached', 'plain', 'info')) {
                $known = [string] $ids[$path]
                $seen = Test-ScratchHandle -Path $path -Kind $kind -RctId $known
                if ($seen.ContainsKey('Id')) {
                    if (-not $known) {
                        $ids[$path] = [string] $seen.Id
                    }
                    $seen.Remove('Id')
                }
                $handles[$file][$kind] = $seen
            }
        }
        Write-ProbeFact -Name 'tracking.handles' -Value $handles
        $service = 'Msvm_ImageManagementService'
        foreach ($path in @($ids.Keys | Where-Object { $ids[$_] })) {
            $disk = New-Object -TypeName HvpsProbe.ScratchDisk -ArgumentList @($path, $false, $true)
            $size = $disk.Size().Processed
            $disk.Dispose()
            $arguments = @{
                Path = $path; LimitId = [string] $ids[$path]; ByteOffset = [uint64] 0; ByteLength = [uint64] $size
            }
            $whole = Invoke-HvpsMethod -Service $service -Method 'GetVirtualDiskChanges' -Arguments $arguments
            Write-ProbeFact -Name 'wmi_changes.return_value' -Value ([long] $whole.ReturnValue)
            Write-ProbeFact -Name 'wmi_changes.arrays' -Value ([long] $whole.ReturnValue -ne 4096)
            Write-ProbeFact -Name 'wmi_changes.whole_length' -Value ([long] $whole.ReturnValue -in @(0, 4096))
            break
        }
    }
    finally {
        $null = Remove-ScratchCheckpoint -VmId $VmId -Setting $made.Setting
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
