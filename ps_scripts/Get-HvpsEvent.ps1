<#
.SYNOPSIS
    Lists entries of the Hyper-V event logs about a VM, newest first.
.DESCRIPTION
    An entry is about the VM if its data has the id of the VM or one of its disk files
    (docs/hyperv-facts.md#event-logs). A log that cannot be read is left out.
.PARAMETER VmId
    Id of the VM.
.PARAMETER Seconds
    Age of the oldest entry.
.PARAMETER Disks
    Its disk files without drive and extension.
.PARAMETER Most
    Maximum number of entries.
.OUTPUTS
    Hvps.EventInfo
      Log      text     name of the log
      EventId  int      id
      Level    int      1 critical, 2 error, 3 warning, 4 information
      Time     time     when it was logged
      Text     text     message, at most 1000 letters
#>
[CmdletBinding()]
[OutputType('Hvps.EventInfo')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [Parameter(Mandatory = $true)] [int] $Seconds,
    [string[]] $Disks,
    [Parameter(Mandatory = $true)] [int] $Most
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
try {
    $logs = @('Microsoft-Windows-Hyper-V-VMMS-Admin', 'Microsoft-Windows-Hyper-V-Worker-Admin',
        'Microsoft-Windows-VHDMP-Operational')
    # The file itself, its children and its tracking files: disk.vhdx, disk_<guid>.avhdx, disk.vhdx.rct.
    $patterns = @([regex]::Escape($VmId.ToString('d'))) + @($Disks | Where-Object { $_ } |
            ForEach-Object { [regex]::Escape($_.Replace('&', '&amp;')) + '[._]' })
    $about = New-Object -TypeName regex -ArgumentList ($patterns -join '|'), 'IgnoreCase'
    $since = [DateTime]::Now.AddSeconds(-$Seconds)
    $found = @(foreach ($log in $logs) {
            try {
                $filter = @{ LogName = $log; StartTime = $since }
                Get-WinEvent -FilterHashtable $filter -MaxEvents 1000 -ErrorAction Stop |
                    Where-Object { $about.IsMatch($_.ToXml()) }
            }
            catch {
                # No entries, no such log, or no right to read it: evidence is never worth an error.
                continue
            }
        })
    $invariant = [Globalization.CultureInfo]::InvariantCulture
    foreach ($entry in @($found | Sort-Object -Property TimeCreated -Descending | Select-Object -First $Most)) {
        $text = [string] $entry.Message
        [pscustomobject]@{
            PSTypeName = 'Hvps.EventInfo'
            Log        = [string] $entry.LogName
            EventId    = [int] $entry.Id
            Level      = [int] $entry.Level
            Time       = $entry.TimeCreated.ToUniversalTime().ToString('o', $invariant)
            Text       = $text.Substring(0, [Math]::Min($text.Length, 1000))
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
