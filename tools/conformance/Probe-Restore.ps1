<#
.SYNOPSIS
    What restores in place rely on: writes through an attached handle, a disk that is renamed, and the heartbeat.
.DESCRIPTION
    Writes 64 KiB into the first disk of the scratch VM, renames that disk and its files of change tracking for a
    moment, and starts the VM. A VM that runs is turned off and started again, and its disks are left alone.
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

$WriteBytes = 65536
$WriteOffset = 1MB
$HeartbeatSeconds = 120
$NoGuestSeconds = 10

function Test-ScratchWrite {
    <#
    .SYNOPSIS
    Writes through an attached handle as a restore does, flushes, detaches, and reads it back.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [string] $Path)
    $data = New-Object -TypeName 'byte[]' -ArgumentList $WriteBytes
    (New-Object -TypeName Random).NextBytes($data)
    $codes = @{}
    $disk = New-Object -TypeName HvpsProbe.ScratchDisk -ArgumentList @($Path, $false, $false)
    try {
        $codes.Open = $disk.OpenCode
        $codes.Attach = $disk.Attach($false, $false)
        $codes.Write = $disk.Transfer($WriteOffset, $data, $true).Code
        $codes.Flush = $disk.Flush()
        $codes.Detach = $disk.Detach()
    }
    finally {
        $disk.Dispose()
    }
    Write-ProbeFact -Name 'restore.write_codes' -Value $codes
    Write-ProbeFact -Name 'restore.write_works' -Value ($codes.Attach -eq 0 -and $codes.Write -eq 0)
    Write-ProbeFact -Name 'restore.flush_works' -Value ($codes.Flush -eq 0)
    $back = New-Object -TypeName 'byte[]' -ArgumentList $WriteBytes
    $disk = New-Object -TypeName HvpsProbe.ScratchDisk -ArgumentList @($Path, $false, $true)
    try {
        $null = $disk.Attach($true, $false)
        $null = $disk.Transfer($WriteOffset, $back, $false)
    }
    finally {
        $disk.Dispose()
    }
    $same = [Convert]::ToBase64String($data) -ceq [Convert]::ToBase64String($back)
    Write-ProbeFact -Name 'restore.written_stays' -Value $same
}

function Get-ScratchChangeCode {
    <#
    .SYNOPSIS
    The code with which a disk answers what changed since an id; null without an answer that tells.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [string] $Path, [Parameter(Mandatory = $true)] [string] $RctId)
    foreach ($infoOnly in @($true, $false)) {
        $disk = New-Object -TypeName HvpsProbe.ScratchDisk -ArgumentList @($Path, $infoOnly, $true)
        try {
            if (-not $infoOnly) {
                $null = $disk.Attach($true, $false)
            }
            $code = $disk.Changes($RctId, $disk.Size().Processed).Code
        }
        finally {
            $disk.Dispose()
        }
        if ($code -eq 0) {
            break
        }
    }
    $code
}

function Test-ScratchRename {
    <#
    .SYNOPSIS
    Whether a disk still knows an id of change tracking after it was renamed and got its name back.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [string] $Path)
    $made = New-ScratchCheckpoint -VmId $VmId
    if ($null -eq $made.Setting) {
        throw (New-HvpsError -Id 'Hvps.JobFailed' -Message 'no recovery checkpoint was made')
    }
    try {
        $id = ''
        foreach ($infoOnly in @($true, $false)) {
            $disk = New-Object -TypeName HvpsProbe.ScratchDisk -ArgumentList @($Path, $infoOnly, $true)
            try {
                if (-not $infoOnly) {
                    $null = $disk.Attach($true, $false)
                }
                if (-not $id) {
                    $id = $disk.Tracking().Text
                }
            }
            finally {
                $disk.Dispose()
            }
        }
    }
    finally {
        $null = Remove-ScratchCheckpoint -VmId $VmId -Setting $made.Setting
    }
    if (-not $id) {
        Write-ProbeFact -Name 'restore.rename_codes' -Value $null
        return
    }
    $away = Get-ScratchAwayPath -Path $Path
    $codes = @{ Before = Get-ScratchChangeCode -Path $Path -RctId $id }
    $files = @(Move-ScratchDisk -Path $Path -Destination $away)
    try {
        $codes.Away = Get-ScratchChangeCode -Path $away -RctId $id
    }
    finally {
        $null = Move-ScratchDisk -Path $away -Destination $Path
    }
    $codes.After = Get-ScratchChangeCode -Path $Path -RctId $id
    Write-ProbeFact -Name 'restore.renamed_files' -Value $files
    Write-ProbeFact -Name 'restore.rename_codes' -Value $codes
    if ($codes.Before -eq 0) {
        Write-ProbeFact -Name 'restore.ids_after_rename' -Value ($codes.After -eq 0)
    }
}

function Watch-ScratchHeartbeat {
    <#
    .SYNOPSIS
    Starts the VM and watches what Get-VM shows of its heartbeat.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm, [Parameter(Mandatory = $true)] [int] $Seconds)
    Hyper-V\Start-VM -VM $Vm -ErrorAction Stop
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $trace = New-Object -TypeName Collections.Generic.List[object]
    $before = 'none'
    $first = $null
    while ($clock.Elapsed.TotalSeconds -lt $Seconds -and $null -eq $first) {
        $now = Hyper-V\Get-VM -Id $VmId -ErrorAction Stop
        $shown = $null
        if ($null -ne $now.Heartbeat) {
            $shown = [long] $now.Heartbeat
        }
        $at = [Math]::Round($clock.Elapsed.TotalSeconds, 3)
        if ("$shown" -cne $before) {
            $trace.Add(@{ At = $at; State = [long] $now.State; Heartbeat = $shown })
            $before = "$shown"
        }
        # OkApplicationsUnknown, OkApplicationsHealthy, OkApplicationsCritical
        if ($shown -in @(5, 6, 7)) {
            $first = $at
        }
        else {
            Start-Sleep -Milliseconds 200
        }
    }
    Write-ProbeFact -Name 'restore.heartbeat_trace' -Value $trace.ToArray()
    if ($null -ne $first) {
        Write-ProbeFact -Name 'restore.heartbeat_seconds' -Value $first
    }
}

try {
    #% include "lib/HyperV.ps1"
    $vm = Get-ScratchVm -VmId $VmId -Token $Token
    if (-not $PSCmdlet.ShouldProcess([string] $vm.Name, 'write into a disk, rename it for a moment, start the VM')) {
        return
    }
    Import-ScratchDisk
    $path = [string] @(Get-ScratchDrive -Vm $vm)[0].Path
    $away = Get-ScratchAwayPath -Path $path
    if (-not [HvpsProbe.ScratchDisk]::Exists($path) -and [HvpsProbe.ScratchDisk]::Exists($away)) {
        # A probe that was killed.
        $null = Move-ScratchDisk -Path $away -Destination $path
    }
    $off = [int] $vm.State -eq 3
    if ($off) {
        Test-ScratchWrite -Path $path
        Test-ScratchRename -Path $path
        try {
            Watch-ScratchHeartbeat -Vm $vm -Seconds $NoGuestSeconds
        }
        finally {
            Hyper-V\Stop-VM -VM $vm -TurnOff -Force -ErrorAction Stop
        }
    }
    else {
        Hyper-V\Stop-VM -VM $vm -TurnOff -Force -ErrorAction Stop
        Watch-ScratchHeartbeat -Vm $vm -Seconds $HeartbeatSeconds
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
