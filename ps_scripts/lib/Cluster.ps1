# Resources of clustered VMs (docs/hyperv-facts.md#cluster-resources).

function Get-HvpsRoleResource {
    <#
    .SYNOPSIS
    The cluster resource that starts and stops a VM.
    .NOTES
    The VM has another resource, which registers its configuration; that one stays online.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [guid] $VmId)
    if (-not (Get-Command -Name Get-ClusterResource -ErrorAction SilentlyContinue)) {
        throw (New-HvpsError -Id 'Hvps.Unexpected' -Message 'the host has no module FailoverClusters')
    }
    $found = @(Get-ClusterResource -VMId $VmId -ErrorAction Stop -WarningAction SilentlyContinue |
            Where-Object { $null -ne $_ -and [string] $_.ResourceType -eq 'Virtual Machine' })
    if ($found.Count -ne 1) {
        $message = 'the cluster has {0} resources that run VM {1}' -f $found.Count, $VmId
        throw (New-HvpsError -Id 'Hvps.Unexpected' -Message $message)
    }
    $found[0]
}

function ConvertTo-HvpsRole {
    <#
    .SYNOPSIS
    A cluster resource as an object of the contract.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Resource,
        [Parameter(Mandatory = $true)] [guid] $VmId
    )
    $words = @{ 2 = 'online'; 3 = 'offline'; 4 = 'failed'; 128 = 'pending'; 129 = 'pending'; 130 = 'pending' }
    [pscustomobject]@{
        PSTypeName = 'Hvps.ClusterRole'
        VmId       = ConvertTo-HvpsGuid -Value $VmId
        Name       = [string] $Resource.Name
        State      = ConvertTo-HvpsWord -Value $Resource.State -Words $words -Otherwise 'other'
    }
}
