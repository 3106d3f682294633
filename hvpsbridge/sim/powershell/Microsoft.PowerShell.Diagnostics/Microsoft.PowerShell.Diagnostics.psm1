# Stand-in for Get-WinEvent over the model's event logs.
Set-StrictMode -Version 3.0
. "$PSScriptRoot/../Model.ps1"

function Write-EventRefusal($Cmdlet, [hashtable] $Refusal, $Target) {
    $record = [Management.Automation.ErrorRecord]::new(
        [Exception]::new([string] $Refusal['message']),
        ('{0},Microsoft.PowerShell.Commands.GetWinEventCommand' -f $Refusal['identifier']),
        [Management.Automation.ErrorCategory] $Refusal['category'], $Target)
    if ($Refusal['terminating']) {
        $Cmdlet.ThrowTerminatingError($record)
    }
    $Cmdlet.WriteError($record)
}

function Get-WinEvent {
    [CmdletBinding(DefaultParameterSetName = 'GetLogSet')]
    param(
        [Parameter(ParameterSetName = 'GetLogSet', Position = 0)] [string[]] $LogName,
        [Parameter(ParameterSetName = 'HashQuerySet', Position = 0, Mandatory = $true)] [hashtable[]] $FilterHashtable,
        [long] $MaxEvents, [switch] $Oldest, [switch] $Force, [string] $ComputerName, [pscredential] $Credential
    )
    $filters = $(if ($PSCmdlet.ParameterSetName -ceq 'HashQuerySet') { $FilterHashtable } else { @{ LogName = $LogName } })
    foreach ($filter in $filters) {
        $unknown = @($filter.Keys | Where-Object { $_ -notin 'LogName', 'Id', 'StartTime' })
        if ($unknown.Count) {
            throw [NotSupportedException]::new("the stand-in Get-WinEvent knows no filter key $($unknown -join ', ')")
        }
        $asked = @{
            logs  = [string[]] @($filter['LogName'])
            ids   = [int[]] @($filter['Id'] | Where-Object { $null -ne $_ })
        }
        if ($filter['StartTime']) {
            $asked['after'] = ([DateTime] $filter['StartTime']).ToUniversalTime().ToString('o')
        }
        $reply = Invoke-Model 'event.list' $asked
        if ($reply.ContainsKey('error')) {
            Write-EventRefusal $PSCmdlet $reply['error'] $null
            continue
        }
        $answer = $reply['result']
        if (-not @($answer['logs']).Count) {
            $message = "There is not an event log that matches `"$($asked['logs'])`"."
            $refusal = @{ identifier = 'NoMatchingLogsFound'; category = 'ObjectNotFound'; message = $message }
            Write-EventRefusal $PSCmdlet $refusal $null
            continue
        }
        $found = @($answer['events'])
        if (-not $found.Count) {
            $message = 'No events were found that match the specified selection criteria.'
            $refusal = @{ identifier = 'NoMatchingEventsFound'; category = 'ObjectNotFound'; message = $message }
            Write-EventRefusal $PSCmdlet $refusal $null
            continue
        }
        if ($Oldest) {
            [array]::Reverse($found)
        }
        if ($MaxEvents) {
            $found = $found[0..([Math]::Min($MaxEvents, $found.Count) - 1)]
        }
        foreach ($event in $found) {
            $shown = [pscustomobject]@{
                PSTypeName       = 'System.Diagnostics.Eventing.Reader.EventLogRecord'
                Id               = [int] $event['Id']
                LogName          = [string] $event['LogName']
                Level            = [byte] $event['Level']
                TimeCreated      = ConvertFrom-ModelTime $event['TimeCreated']
                MachineName      = [string] $event['MachineName']
                Message          = [string] $event['Message']
            }
            $xml = [string] $event['Xml']
            $shown.PSObject.Methods.Add([psscriptmethod]::new('ToXml', { $xml }.GetNewClosure()))
            $shown
        }
    }
}
