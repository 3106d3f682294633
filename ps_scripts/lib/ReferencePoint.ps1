# Reference points of a VM.

function Get-HvpsWmiReferencePoint {
    <#
    .SYNOPSIS
    Msvm_VirtualSystemReferencePoint instances of a VM.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm)
    $parameters = @{
        InputObject = $Vm
        ClassName   = 'Msvm_VirtualSystemReferencePoint'
        Association = 'Msvm_ReferencePointOfVirtualSystem'
    }
    Get-HvpsAssociated @parameters
}

function ConvertTo-HvpsReferencePointInfo {
    <#
    .SYNOPSIS
    A reference point as an object of the contract.
    .NOTES
    In this property 1 is log based and 2 is RCT (docs/hyperv-facts.md#reference-point-type).
    #>
    [CmdletBinding()]
    [OutputType('Hvps.ReferencePointInfo')]
    param(
        [Parameter(Mandatory = $true)] [object] $Instance,
        [Parameter(Mandatory = $true)] [guid] $VmId
    )
    $kind = 'rct'
    if (1 -eq [int] $Instance.ReferencePointType) {
        $kind = 'log'
    }
    $words = @{ 1 = 'application'; 2 = 'crash' }
    [pscustomobject]@{
        PSTypeName      = 'Hvps.ReferencePointInfo'
        VmId            = ConvertTo-HvpsGuid -Value $VmId
        InstanceId      = [string] $Instance.InstanceID
        Kind            = $kind
        Consistency     = ConvertTo-HvpsWord -Value $Instance.ConsistencyLevel -Words $words -Otherwise 'unknown'
        DiskInstanceIds = [string[]] @($Instance.VirtualDiskIdentifiers | Where-Object { $null -ne $_ })
        RctIds          = [string[]] @($Instance.ResilientChangeTrackingIdentifiers |
                Where-Object { $null -ne $_ })
    }
}
