# Stand-in for what hvps uses of FailoverClusters. What it answers is decided in sim/standin/clusters.py.
Set-StrictMode -Version 3.0
. "$PSScriptRoot/../Model.ps1"

enum ClusterResourceState {
    Inherited = 0
    Initializing = 1
    Online = 2
    Offline = 3
    Failed = 4
    Pending = 128
    OnlinePending = 129
    OfflinePending = 130
}

# Rows of the reply; its error is reported as one of the cmdlet.
function Read-Reply($Cmdlet, [string] $Class, [hashtable] $Reply, $Target) {
    if (-not $Reply.ContainsKey('error')) {
        return $Reply['result']
    }
    $refusal = $Reply['error']
    $record = [Management.Automation.ErrorRecord]::new(
        [Exception]::new([string] $refusal['message']),
        ('{0},Microsoft.FailoverClusters.PowerShell.{1}' -f $refusal['identifier'], $Class),
        [Management.Automation.ErrorCategory] $refusal['category'], $Target)
    if ($refusal['terminating']) {
        $Cmdlet.ThrowTerminatingError($record)
    }
    $Cmdlet.WriteError($record)
}

function New-Resource([hashtable] $Row) {
    $made = [pscustomobject]@{
        PSTypeName   = 'Microsoft.FailoverClusters.PowerShell.ClusterResource'
        Name         = [string] $Row['Name']
        Id           = [string] $Row['Id']
        ResourceType = [string] $Row['ResourceType']
        OwnerGroup   = [string] $Row['OwnerGroup']
        OwnerNode    = [string] $Row['OwnerNode']
        State        = [ClusterResourceState] [int] $Row['State']
    }
    # For the commands that take the object.
    Add-Member -InputObject $made -MemberType NoteProperty -Name 'ModelVm' -Value ([string] $Row['Vm']) -PassThru
}

function Get-Cluster {
    [CmdletBinding()]
    param([Parameter(Position = 0)] [string] $Name, [string] $Domain)
    foreach ($row in Read-Reply $PSCmdlet 'GetClusterCommand' (Invoke-Model 'vm.cluster') $Name) {
        [pscustomobject]@{ PSTypeName = 'Microsoft.FailoverClusters.PowerShell.Cluster'; Name = [string] $row['Name'] }
    }
}

function Get-ClusterResource {
    [CmdletBinding()]
    param([Parameter(ValueFromPipelineByPropertyName = $true, Mandatory = $true)] [guid] $VMId)
    process {
        $reply = Invoke-Model 'vm.cluster_resources' @{ vm = [string] $VMId }
        foreach ($row in Read-Reply $PSCmdlet 'GetResourceCommand' $reply $VMId) {
            New-Resource $row
        }
    }
}

function Stop-ClusterResource {
    [CmdletBinding()]
    param(
        [Parameter(ValueFromPipeline = $true, Mandatory = $true)] [psobject] $InputObject,
        [int] $Wait, [switch] $IgnoreLocked
    )
    process {
        $reply = Invoke-Model 'vm.stop_resource' @{ vm = [string] $InputObject.ModelVm }
        foreach ($row in Read-Reply $PSCmdlet 'StopResourceCommand' $reply $InputObject) {
            New-Resource $row
        }
    }
}

function Start-ClusterResource {
    [CmdletBinding()]
    param(
        [Parameter(ValueFromPipeline = $true, Mandatory = $true)] [psobject] $InputObject,
        [int] $Wait, [switch] $IgnoreLocked
    )
    process {
        $reply = Invoke-Model 'vm.start_resource' @{ vm = [string] $InputObject.ModelVm }
        foreach ($row in Read-Reply $PSCmdlet 'StartResourceCommand' $reply $InputObject) {
            New-Resource $row
        }
    }
}

Export-ModuleMember -Function Get-Cluster, Get-ClusterResource, Start-ClusterResource, Stop-ClusterResource
