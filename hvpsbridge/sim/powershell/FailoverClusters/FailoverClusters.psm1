# Stand-in for Get-Cluster: the cluster of this host, or an error if it is in none.
Set-StrictMode -Version 3.0
. "$PSScriptRoot/../Model.ps1"

function Get-Cluster {
    [CmdletBinding()]
    param([Parameter(Position = 0)] [string] $Name, [string] $Domain)
    $reply = Invoke-Model 'vm.cluster'
    if ($reply.ContainsKey('error')) {
        $refusal = $reply['error']
        $record = [Management.Automation.ErrorRecord]::new(
            [Exception]::new([string] $refusal['message']),
            ('{0},Microsoft.FailoverClusters.PowerShell.GetClusterCommand' -f $refusal['identifier']),
            [Management.Automation.ErrorCategory] $refusal['category'], $Name)
        if ($refusal['terminating']) {
            $PSCmdlet.ThrowTerminatingError($record)
        }
        $PSCmdlet.WriteError($record)
        return
    }
    foreach ($row in $reply['result']) {
        [pscustomobject]@{ PSTypeName = 'Microsoft.FailoverClusters.PowerShell.Cluster'; Name = [string] $row['Name'] }
    }
}
