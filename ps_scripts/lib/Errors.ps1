# Errors of the contract. A script ends without an error, or with one terminating error whose
# FullyQualifiedErrorId starts with an Hvps id, followed by ",native=0x..." if Windows gave a code.
# Decisions depend on ids, categories and codes; texts are in the language of the host
# (docs/hyperv-facts.md#localized-text).

function Get-HvpsErrorTable {
    <#
    .SYNOPSIS
    Errors of the contract, as in hvpsbridge/contract/errors.py: id, category, codes of the Hyper-V services,
    codes of disks.
    .NOTES
    Where a refusal carries several codes, the first row that has one of them decides.
    #>
    [CmdletBinding()]
    param()
    @(
        , @('Hvps.CommitForkFailed', 'DeviceError', @(0x80048102L, 0x800703EEL), @())
        , @('Hvps.NoSpace', 'LimitsExceeded', @(0x80070070L, 0x80070027L, 112),
                @(39, 112, 0x80070070L, 0x80070027L))
        , @('Hvps.LogonRightMissing', 'AuthenticationError', @(0x8007052FL, 0x80070569L), @())
        , @('Hvps.FileLocked', 'ResourceBusy', @(0x80070020L), @())
        , @('Hvps.VmBusy', 'ResourceBusy', @(32774, 32775), @())
        , @('Hvps.AccessDenied', 'PermissionDenied', @(32769, 0x80070005L, 5), @(5, 1314, 0x80070005L))
        , @('Hvps.FileNotFound', 'ObjectNotFound', @(), @(2, 3, 0x80070002L, 0x80070003L))
        , @('Hvps.DiskBusy', 'ResourceBusy', @(), @(32, 0x80070020L, 0xC03A001EL))
        , @('Hvps.ChainBroken', 'InvalidData', @(),
                @(0xC03A000DL, 0xC03A000EL, 0xC03A000FL, 0xC03A0016L, 0xC03A0017L, 0xC03A0018L, 0xC03A0019L))
        , @('Hvps.TrackingUnusable', 'ResourceUnavailable', @(),
                @(0xC03A0029L, 0xC03A002AL, 0xC03A0030L, 0xC03A0020L, 0xC03A0021L, 0xC03A0022L, 0xC03A0023L,
                    0xC03A0024L))
        , @('Hvps.DiskUnreadable', 'OpenError', @(), @())
        , @('Hvps.ReadFailed', 'ReadError', @(), @())
        , @('Hvps.WriteFailed', 'WriteError', @(), @())
        , @('Hvps.FileExists', 'ResourceExists', @(), @(80, 183))
        , @('Hvps.BadRequest', 'InvalidArgument', @(), @())
        , @('Hvps.FormatUnsupported', 'NotImplemented', @(), @())
        , @('Hvps.VmNotFound', 'ObjectNotFound', @(), @())
        , @('Hvps.CheckpointNotFound', 'ObjectNotFound', @(), @())
        , @('Hvps.ConsistencyFailed', 'InvalidResult', @(), @())
        , @('Hvps.JobFailed', 'InvalidResult', @(), @())
        , @('Hvps.JobBusy', 'ResourceBusy', @(), @())
        , @('Hvps.JobTimedOut', 'OperationTimeout', @(), @())
        , @('Hvps.ScriptsRefused', 'SecurityError', @(), @())
        , @('Hvps.Unexpected', 'NotSpecified', @(), @())
    )
}

function New-HvpsError {
    <#
    .SYNOPSIS
    Creates an error record of the contract, to be thrown.
    .PARAMETER Native
    HRESULT, WMI or Win32 code, if it is known.
    #>
    [CmdletBinding()]
    [OutputType([Management.Automation.ErrorRecord])]
    param(
        [Parameter(Mandatory = $true)] [string] $Id,
        [Parameter(Mandatory = $true)] [string] $Message,
        [object] $Native = $null,
        [Exception] $Cause = $null
    )
    $exception = New-Object -TypeName System.InvalidOperationException -ArgumentList $Message, $Cause
    $fullId = $Id
    if ($null -ne $Native -and 0 -ne $Native) {
        # -band keeps the 32 bits of a negative HRESULT.
        $fullId = '{0},native=0x{1:X8}' -f $Id, ([long] $Native -band 0xFFFFFFFFL)
    }
    $category = (Get-HvpsErrorTable | Where-Object { $_[0] -eq $Id })[1]
    New-Object -TypeName System.Management.Automation.ErrorRecord -ArgumentList @(
        $exception, $fullId, [Management.Automation.ErrorCategory] $category, $null)
}

function Find-HvpsObject {
    <#
    .SYNOPSIS
    What a script block finds of a VM; nothing if the VM does not exist.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [scriptblock] $Find)
    try {
        & $Find
    }
    catch {
        if ($_.FullyQualifiedErrorId -notlike 'Hvps.VmNotFound*') {
            throw
        }
    }
}

function Get-HvpsNativeCode {
    <#
    .SYNOPSIS
    The code of an error: of a Win32Exception, or an HRESULT or WMI code in the text.
    #>
    [CmdletBinding()]
    [OutputType([long])]
    param([Parameter(Mandatory = $true)] [AllowEmptyString()] [string] $Text, [Exception] $Exception = $null)
    for ($inner = $Exception; $null -ne $inner; $inner = $inner.InnerException) {
        if ($inner -is [ComponentModel.Win32Exception]) {
            return [long] $inner.NativeErrorCode
        }
    }
    if ($Text -match '0x([0-9A-Fa-f]{8})') {
        return [Convert]::ToInt64($Matches[1], 16)
    }
    if ($Text -match '\((32[67]\d\d)\)') {
        return [long] $Matches[1]
    }
    [long] 0
}

function Get-HvpsErrorId {
    <#
    .SYNOPSIS
    The id for a refusal of the Hyper-V services, by its code and the codes in its text.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param(
        [Parameter(Mandatory = $true)] [AllowEmptyString()] [string] $Text,
        [long] $Code = 0,
        [Parameter(Mandatory = $true)] [string] $Fallback
    )
    $codes = @($Code) + @([regex]::Matches($Text, '0x([0-9A-Fa-f]{8})') |
        ForEach-Object { [Convert]::ToInt64($_.Groups[1].Value, 16) })
    foreach ($row in Get-HvpsErrorTable) {
        if (@($codes | Where-Object { $row[2] -contains $_ }).Count -gt 0) {
            return $row[0]
        }
    }
    $Fallback
}

function Get-HvpsDiskErrorId {
    <#
    .SYNOPSIS
    The id for a code from opening or querying a disk.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([long] $Code = 0, [Parameter(Mandatory = $true)] [string] $Fallback)
    foreach ($row in Get-HvpsErrorTable) {
        if ($row[3] -contains $Code) {
            return $row[0]
        }
    }
    $Fallback
}

function ConvertTo-HvpsError {
    <#
    .SYNOPSIS
    Any error record as one of the contract; errors of the contract are returned as they are.
    #>
    [CmdletBinding()]
    [OutputType([Management.Automation.ErrorRecord])]
    param([Parameter(Mandatory = $true)] [Management.Automation.ErrorRecord] $Record)
    if ($Record.FullyQualifiedErrorId -like 'Hvps.*') {
        return $Record
    }
    for ($inner = $Record.Exception; $null -ne $inner; $inner = $inner.InnerException) {
        # The C# in lib/reader has ids for its errors.
        if ($inner.GetType().FullName -eq 'Hvps.Failure') {
            return New-HvpsError -Id $inner.Id -Message $inner.Message -Native $inner.Native -Cause $inner
        }
    }
    $original = [string] $Record.FullyQualifiedErrorId
    $message = '{0} [{1}; {2}]' -f $Record.Exception.Message, $original, $Record.Exception.GetType().FullName
    $code = Get-HvpsNativeCode -Text ($original + ' ' + $Record.Exception.Message) -Exception $Record.Exception
    for ($inner = $Record.Exception; $code -eq 0 -and $null -ne $inner; $inner = $inner.InnerException) {
        $result = [long] $inner.HResult -band 0xFFFFFFFFL
        # Every exception of .NET has a code 0x8013xxxx, which says nothing about Windows.
        if ($result -ge 0x80000000L -and ($result -band 0xFFFF0000L) -ne 0x80130000L) {
            $code = $result
        }
    }
    $id = 'Hvps.Unexpected'
    if ($original -match '^(ScriptContainedMaliciousContent|CannotDefineNewType|.*InConstrainedLanguage)') {
        $id = 'Hvps.ScriptsRefused'
    }
    elseif ($original -match '^AccessDenied' -or [string] $Record.CategoryInfo.Category -eq 'PermissionDenied') {
        $id = 'Hvps.AccessDenied'
    }
    elseif ($original -match '^ObjectInUse' -or [string] $Record.CategoryInfo.Category -eq 'ResourceBusy') {
        $id = 'Hvps.VmBusy'
    }
    New-HvpsError -Id $id -Message $message -Native $code -Cause $Record.Exception
}
