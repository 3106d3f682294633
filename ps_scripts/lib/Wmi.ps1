# Hyper-V's WMI provider, for what the cmdlets do not offer. Uses CIM cmdlets only. REF parameters are returned with
# their keys only, so the instances are read again before they are used.

$HvpsNamespace = 'root/virtualization/v2'

# Msvm_ConcreteJob.JobState: running; completed (docs/hyperv-facts.md#jobs).
$HvpsJobGoing = @(2, 3, 4, 5, 6)
$HvpsJobGood = @(7, 32768)

# How long a query about a job is repeated, in seconds: what the job made is known by no other way.
$HvpsPatienceSeconds = 3

function Invoke-HvpsAgain {
    <#
    .SYNOPSIS
    Runs a block, and runs it again for some seconds after errors that may pass.
    .PARAMETER WhileBusy
    Only an object in use may pass. Without it every error may, unless something does not exist or is denied.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [int] $Seconds,
        [Parameter(Mandatory = $true)] [scriptblock] $Action,
        [switch] $WhileBusy
    )
    $end = [DateTime]::UtcNow.AddSeconds($Seconds)
    while ($true) {
        try {
            return & $Action
        }
        catch {
            $category = [string] $_.CategoryInfo.Category
            if ($WhileBusy) {
                $mayPass = $category -eq 'ResourceBusy'
            }
            else {
                $mayPass = $category -ne 'PermissionDenied' -and -not (Test-HvpsNotFound -Record $_)
            }
            if (-not $mayPass -or [DateTime]::UtcNow -gt $end) {
                throw
            }
        }
        Start-Sleep -Milliseconds 250
    }
}

function Get-HvpsResult {
    <#
    .SYNOPSIS
    What a method made, by its ended job or else by the reference that it returned; nothing if neither names it.
    #>
    [CmdletBinding()]
    param(
        [AllowNull()] [object] $Job,
        [AllowNull()] [object] $Reference,
        [Parameter(Mandatory = $true)] [string] $ClassName
    )
    if ($null -ne $Job) {
        $parameters = @{ InputObject = $Job; ClassName = $ClassName; Association = 'Msvm_AffectedJobElement' }
        Invoke-HvpsAgain -Seconds $HvpsPatienceSeconds -Action { Get-HvpsAssociated @parameters } |
            Select-Object -First 1
    }
    elseif ($null -ne $Reference) {
        Invoke-HvpsAgain -Seconds $HvpsPatienceSeconds -Action {
            Get-CimInstance -InputObject $Reference -ErrorAction Stop
        }
    }
}

function Get-HvpsWmiVm {
    <#
    .SYNOPSIS
    Msvm_ComputerSystem of a VM; throws Hvps.VmNotFound. Its key is the guid in upper case.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [guid] $VmId)
    $filter = "Name='{0}'" -f $VmId.ToString('d').ToUpperInvariant()
    $parameters = @{ Namespace = $HvpsNamespace; ClassName = 'Msvm_ComputerSystem'; Filter = $filter }
    $found = @(Get-CimInstance @parameters -ErrorAction Stop | Where-Object { $null -ne $_ })
    if ($found.Count -eq 0) {
        throw (New-HvpsError -Id 'Hvps.VmNotFound' -Message "VM $VmId does not exist")
    }
    $found[0]
}

function Invoke-HvpsMethod {
    <#
    .SYNOPSIS
    Calls a method of a service class; returns ReturnValue and the out parameters by name.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [string] $Service,
        [Parameter(Mandatory = $true)] [string] $Method,
        [Parameter(Mandatory = $true)] [hashtable] $Arguments
    )
    $instance = Get-CimInstance -Namespace $HvpsNamespace -ClassName $Service -ErrorAction Stop
    Invoke-CimMethod -InputObject $instance -MethodName $Method -Arguments $Arguments -ErrorAction Stop
}

function Get-HvpsAssociated {
    <#
    .SYNOPSIS
    Instances of a class that are associated with another instance.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $InputObject,
        [Parameter(Mandatory = $true)] [string] $ClassName,
        [Parameter(Mandatory = $true)] [string] $Association
    )
    $parameters = @{ InputObject = $InputObject; ResultClassName = $ClassName; Association = $Association }
    Get-CimAssociatedInstance @parameters -ErrorAction Stop | Where-Object { $null -ne $_ }
}

function Get-HvpsWmiCheckpoint {
    <#
    .SYNOPSIS
    Msvm_VirtualSystemSettingData of a checkpoint; nothing if there is none with that id.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm, [Parameter(Mandatory = $true)] [guid] $CheckpointId)
    $parameters = @{
        InputObject = $Vm
        ClassName   = 'Msvm_VirtualSystemSettingData'
        Association = 'Msvm_SnapshotOfVirtualSystem'
    }
    Get-HvpsAssociated @parameters | Where-Object { $CheckpointId -eq [guid] $_.ConfigurationID }
}

function Get-HvpsWmiDisk {
    <#
    .SYNOPSIS
    The virtual hard disks in the settings of a VM or checkpoint: InstanceId and Path.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Setting)
    $parameters = @{
        InputObject = $Setting
        ClassName   = 'Msvm_StorageAllocationSettingData'
        Association = 'Msvm_VirtualSystemSettingDataComponent'
    }
    Get-HvpsAssociated @parameters |
        Where-Object { $_.ResourceSubType -eq 'Microsoft:Hyper-V:Virtual Hard Disk' } |
        ForEach-Object {
            [pscustomobject]@{ InstanceId = [string] $_.InstanceID; Path = [string] @($_.HostResource)[0] }
        }
}

function ConvertTo-HvpsEmbedded {
    <#
    .SYNOPSIS
    An embedded WMI instance as CIM-XML text (docs/hyperv-facts.md#embedded-instances).
    .PARAMETER Properties
    Name to (CIM type, value), for example @{ ConsistencyLevel = @('uint8', 1) }. A value may be an array.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param(
        [Parameter(Mandatory = $true)] [string] $ClassName,
        [Parameter(Mandatory = $true)] [hashtable] $Properties
    )
    $text = '<INSTANCE CLASSNAME="{0}">' -f $ClassName
    foreach ($name in @($Properties.Keys | Sort-Object)) {
        $type = [string] $Properties[$name][0]
        if ($Properties[$name][1] -is [array]) {
            $values = @($Properties[$name][1] |
                    ForEach-Object { '<VALUE>{0}</VALUE>' -f [Security.SecurityElement]::Escape([string] $_) })
            $text += '<PROPERTY.ARRAY NAME="{0}" TYPE="{1}"><VALUE.ARRAY>{2}</VALUE.ARRAY></PROPERTY.ARRAY>' -f @(
                $name, $type, (-join $values))
            continue
        }
        $value = [Convert]::ToString($Properties[$name][1], [Globalization.CultureInfo]::InvariantCulture)
        if ($type -eq 'boolean') {
            $value = $value.ToUpperInvariant()
        }
        $text += '<PROPERTY NAME="{0}" TYPE="{1}"><VALUE>{2}</VALUE></PROPERTY>' -f @(
            $name, $type, [Security.SecurityElement]::Escape($value))
    }
    $text + '</INSTANCE>'
}

function Wait-HvpsJob {
    <#
    .SYNOPSIS
    Waits for the job that a method started. Returns the ended job; nothing if there was none or it is gone.
    .DESCRIPTION
    Jobs are removed some minutes after they end. A job that is gone has ended, and the caller must look for its
    result. A job that failed, or a method that refused, is an error of the contract.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Result,
        [Parameter(Mandatory = $true)] [int] $Seconds,
        [Parameter(Mandatory = $true)] [string] $What
    )
    $code = [int] $Result.ReturnValue
    if ($code -eq 0) {
        return
    }
    if ($code -ne 4096) {
        # What the pages of the snapshot service name, as other services return it
        # (docs/hyperv-facts.md#wmi-return-codes).
        $same = @{ 1 = 32770; 2 = 32768; 3 = 32772; 4 = 32773; 5 = 32775; 6 = 32773 }[$code]
        if ($null -eq $same) {
            $same = $code
        }
        $id = Get-HvpsErrorId -Text '' -Code $same -Fallback 'Hvps.JobFailed'
        throw (New-HvpsError -Id $id -Message "$What was refused ($code)" -Native $code)
    }
    $end = [DateTime]::UtcNow.AddSeconds($Seconds)
    while ($true) {
        try {
            $job = Invoke-HvpsAgain -Seconds $HvpsPatienceSeconds -Action {
                Get-CimInstance -InputObject $Result.Job -ErrorAction Stop
            }
        }
        catch {
            if (Test-HvpsNotFound -Record $_) {
                return
            }
            throw
        }
        if ($null -eq $job) {
            return
        }
        if ($HvpsJobGoing -notcontains [int] $job.JobState) {
            break
        }
        if ([DateTime]::UtcNow -gt $end) {
            $message = "$What did not end within $Seconds s: job $($job.InstanceID)"
            throw (New-HvpsError -Id 'Hvps.JobTimedOut' -Message $message)
        }
        # Short: what a job made has no name of ours before its end is seen.
        Start-Sleep -Milliseconds 50
    }
    if ($HvpsJobGood -contains [int] $job.JobState -and 0 -eq [int] $job.ErrorCode) {
        return $job
    }
    $text = [string] $job.ErrorDescription
    $native = Get-HvpsNativeCode -Text $text
    if ($native -eq 0) {
        $native = [long] $job.ErrorCode
    }
    $id = Get-HvpsErrorId -Text $text -Code ([long] $job.ErrorCode) -Fallback 'Hvps.JobFailed'
    if ($id -eq 'Hvps.VmBusy') {
        # The host took the call: what is busy may be in the guest, and another kind of checkpoint may work.
        $id = 'Hvps.JobBusy'
    }
    $message = '{0} failed in state {1} ({2}): {3}' -f $What, $job.JobState, $job.ErrorCode, $text
    throw (New-HvpsError -Id $id -Message $message -Native $native)
}

function Test-HvpsNotFound {
    <#
    .SYNOPSIS
    Whether an error means that a WMI object is gone: WBEM_E_NOT_FOUND, or the category.
    #>
    [CmdletBinding()]
    [OutputType([bool])]
    param([Parameter(Mandatory = $true)] [Management.Automation.ErrorRecord] $Record)
    'ObjectNotFound' -eq [string] $Record.CategoryInfo.Category -or
    $Record.FullyQualifiedErrorId -match '0x80041002' -or
    ([long] $Record.Exception.HResult -band 0xFFFFFFFFL) -eq 0x80041002L
}
