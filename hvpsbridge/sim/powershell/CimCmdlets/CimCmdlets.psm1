# Stand-in for the CIM cmdlets, with the documented parameters, over the model's WMI provider. Instances have exactly
# the properties of the class, with their .NET types, so other properties are errors in strict mode.
Set-StrictMode -Version 3.0
. "$PSScriptRoot/../Model.ps1"

$script:CimTypes = @{
    'string' = [string]; 'boolean' = [bool]; 'uint8' = [byte]; 'uint16' = [uint16]; 'uint32' = [uint32]
    'uint64' = [uint64]; 'sint32' = [int]; 'sint64' = [long]; 'datetime' = [DateTime]; 'interval' = [TimeSpan]
}
$script:CimBase = 'Microsoft.Management.Infrastructure.CimInstance'
$script:CimDefaultNamespace = 'root/cimv2'

# Terminating errors of the module itself. Errors of the model are non-terminating, as in the real module.
function Write-CimRefusal($Cmdlet, [string] $Command, [hashtable] $Refusal, $Target) {
    $code = [long] $(if ($Refusal['hresult']) { $Refusal['hresult'] } else { 0x80041001L })
    $exception = [Microsoft.Management.Infrastructure.CimException]::new([string] $Refusal['message'])
    $exception.HResult = [BitConverter]::ToInt32([BitConverter]::GetBytes($code), 0)
    $id = 'HRESULT 0x{0:x8},Microsoft.Management.Infrastructure.CimCmdlets.{1}' -f $code, $Command
    $category = @{ 0x80041002L = 'ObjectNotFound'; 0x80041010L = 'MetadataError'; 0x8004100EL = 'MetadataError'
        0x80041017L = 'InvalidArgument'; 0x80041055L = 'MetadataError'; 0x80041008L = 'InvalidArgument' }[$code]
    if ($null -eq $category) {
        $category = $Refusal['category']
    }
    $record = [Management.Automation.ErrorRecord]::new($exception, $id, $category, $Target)
    if ($Refusal['terminating']) {
        $Cmdlet.ThrowTerminatingError($record)
    }
    $Cmdlet.WriteError($record)
}

function ConvertTo-CimValue($Value, [string] $Type) {
    if ($null -eq $Value) {
        return $null
    }
    if ($Type.StartsWith('ref:')) {
        return New-CimReference $Type.Substring(4) $Value['keys']
    }
    if ($Type.EndsWith('[]')) {
        $element = $script:CimTypes[$Type.Substring(0, $Type.Length - 2)]
        $array = [Array]::CreateInstance($element, @($Value).Count)
        for ($i = 0; $i -lt $array.Length; $i++) {
            $array.SetValue([Management.Automation.LanguagePrimitives]::ConvertTo(@($Value)[$i], $element), $i)
        }
        return , $array
    }
    switch ($Type) {
        'datetime' { return ConvertFrom-ModelTime $Value }
        'interval' { return [TimeSpan]::FromSeconds($Value) }
    }
    [Management.Automation.LanguagePrimitives]::ConvertTo($Value, $script:CimTypes[$Type])
}

# With names of properties, others are null, as WMI leaves them.
function New-CimObject([hashtable] $Schema, [hashtable] $Row, [string[]] $Wanted) {
    $object = [psobject]::new()
    $object.PSObject.TypeNames.Clear()
    $object.PSObject.TypeNames.Add(('{0}#{1}/{2}' -f $script:CimBase, $Schema['namespace'], $Schema['name']))
    $object.PSObject.TypeNames.Add($script:CimBase)
    foreach ($name in $Schema['properties'].Keys) {
        $value = $null
        if ($null -eq $Wanted -or $Wanted -contains $name) {
            $value = ConvertTo-CimValue $Row[$name] $Schema['properties'][$name]
        }
        $object.PSObject.Properties.Add([psnoteproperty]::new($name, $value))
    }
    Add-CimSystem $object $Schema
}

# The value of a REF parameter: the class and its keys.
function New-CimReference([string] $Class, [hashtable] $Keys) {
    $object = [psobject]::new()
    $object.PSObject.TypeNames.Clear()
    $object.PSObject.TypeNames.Add(('{0}#root/virtualization/v2/{1}' -f $script:CimBase, $Class))
    $object.PSObject.TypeNames.Add($script:CimBase)
    foreach ($name in $Keys.Keys) {
        $object.PSObject.Properties.Add([psnoteproperty]::new($name, $Keys[$name]))
    }
    Add-CimSystem $object @{ name = $Class; namespace = 'root/virtualization/v2'; key = @($Keys.Keys); methods = @() }
}

function Add-CimSystem([psobject] $Object, [hashtable] $Schema) {
    # Windows shows namespaces of instances with ROOT in upper case.
    $system = [pscustomobject]@{
        Namespace = $Schema['namespace'] -creplace '^root', 'ROOT'; ServerName = $env:HVPS_SIM_NODE
        ClassName = $Schema['name']; Path = $null
    }
    $Object.PSObject.Properties.Add([psnoteproperty]::new('CimSystemProperties', $system))
    $Object.PSObject.Properties.Add([psnoteproperty]::new('CimClass', (New-CimClassObject $Schema)))
    $Object.PSObject.Properties.Add([psnoteproperty]::new('PSComputerName', $null))
    $Object
}

function New-CimClassObject([hashtable] $Schema) {
    $members = [Collections.Specialized.OrderedDictionary]::new([StringComparer]::OrdinalIgnoreCase)
    if ($Schema.ContainsKey('properties')) {
        foreach ($name in $Schema['properties'].Keys) {
            $members[$name] = [pscustomobject]@{
                Name       = $name
                CimType    = $Schema['properties'][$name]
                IsKey      = $Schema['key'] -contains $name
            }
        }
    }
    $class = [pscustomobject]@{
        CimClassName        = $Schema['name']
        CimSystemProperties = [pscustomobject]@{ ClassName = $Schema['name']; Namespace = $Schema['namespace'] }
        CimClassProperties  = $members
        CimClassMethods     = @($Schema['methods'])
        Key                 = $Schema['key']
    }
    $class.PSObject.TypeNames.Insert(0, 'Microsoft.Management.Infrastructure.CimClass')
    $class
}

function Assert-CimInstance([psobject] $Object) {
    if ($Object.PSObject.TypeNames -notcontains $script:CimBase) {
        throw [Management.Automation.PSInvalidCastException]::new("Cannot convert a $($Object.GetType().FullName) to a CimInstance.")
    }
}

# The identity of an instance: its class and the values of its key.
function Get-CimKey([psobject] $Object) {
    Assert-CimInstance $Object
    $keys = @{}
    foreach ($name in $Object.CimClass.Key) {
        $keys[$name] = $Object.PSObject.Properties[$name].Value
    }
    $keys
}

function Write-CimBlock($Cmdlet, [hashtable] $Block, [string[]] $Wanted, [bool] $KeyOnly) {
    if ($KeyOnly) {
        $Wanted = @($Block['schema']['key'])
    }
    foreach ($row in $Block['rows']) {
        $Cmdlet.WriteObject((New-CimObject $Block['schema'] $row $Wanted))
    }
}

function Get-CimInstance {
    [CmdletBinding(DefaultParameterSetName = 'ClassNameComputerSet')]
    param(
        [Parameter(ParameterSetName = 'ClassNameComputerSet', Position = 0, Mandatory = $true)] [string] $ClassName,
        [Parameter(ParameterSetName = 'CimInstanceComputerSet', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('CimInstance')] [psobject] $InputObject,
        [Parameter(ParameterSetName = 'QueryComputerSet', Mandatory = $true)] [string] $Query,
        [Parameter(ParameterSetName = 'ClassNameComputerSet')] [Parameter(ParameterSetName = 'QueryComputerSet')] [string] $Namespace,
        [Parameter(ParameterSetName = 'ClassNameComputerSet')] [string] $Filter,
        [Parameter(ParameterSetName = 'ClassNameComputerSet')] [Alias('SelectProperties')] [string[]] $Property,
        [Parameter(ParameterSetName = 'ClassNameComputerSet')] [switch] $KeyOnly,
        [Parameter(ParameterSetName = 'ClassNameComputerSet')] [Parameter(ParameterSetName = 'QueryComputerSet')] [string] $QueryDialect,
        [switch] $Shallow, [Alias('OT')] [uint32] $OperationTimeoutSec, [uri] $ResourceUri,
        [Alias('CN', 'ServerName')] [string[]] $ComputerName, [object[]] $CimSession
    )
    process {
        if ($PSCmdlet.ParameterSetName -ceq 'CimInstanceComputerSet') {
            $wanted = $null
            $reply = Invoke-Model 'cim.get' @{
                class_name = $InputObject.CimSystemProperties.ClassName; keys = Get-CimKey $InputObject
            }
        }
        else {
            $class, $condition, $wanted = $ClassName, $Filter, $(if ($Property) { $Property })
            if ($Query) {
                if ($Query -notmatch '^\s*SELECT\s+(\*|\w+(?:\s*,\s*\w+)*)\s+FROM\s+(\w+)(?:\s+WHERE\s+(.+?))?\s*$') {
                    Write-CimRefusal $PSCmdlet 'GetCimInstanceCommand' @{ message = 'Invalid query'; hresult = 0x80041017L; category = 'InvalidArgument' } $Query
                    return
                }
                $class = $Matches[2]
                $condition = $(if ($Matches.ContainsKey(3)) { $Matches[3] } else { '' })
                if ($Matches[1] -cne '*') {
                    $wanted = $Matches[1] -split '\s*,\s*'
                }
            }
            $asked = @{ class_name = $class; namespace = $(if ($Namespace) { $Namespace } else { $script:CimDefaultNamespace }) }
            if ($condition) {
                $asked['condition'] = $condition
            }
            $reply = Invoke-Model 'cim.instances' $asked
        }
        if ($reply.ContainsKey('error')) {
            Write-CimRefusal $PSCmdlet 'GetCimInstanceCommand' $reply['error'] $ClassName
        }
        else {
            Write-CimBlock $PSCmdlet $reply['result'] $wanted ([bool] $KeyOnly)
        }
    }
}

function Get-CimClass {
    [CmdletBinding()]
    param(
        [Parameter(Position = 0)] [string] $ClassName,
        [Parameter(Position = 1)] [string] $Namespace = $script:CimDefaultNamespace,
        [string] $MethodName, [string] $PropertyName, [string] $QualifierName,
        [Alias('OT')] [uint32] $OperationTimeoutSec,
        [Alias('CN', 'ServerName')] [string[]] $ComputerName, [object[]] $CimSession
    )
    $reply = Invoke-Model 'cim.schema' @{ class_name = $ClassName; namespace = $Namespace }
    if ($reply.ContainsKey('error')) {
        Write-CimRefusal $PSCmdlet 'GetCimClassCommand' $reply['error'] $ClassName
    }
    else {
        New-CimClassObject $reply['result']
    }
}

function Get-CimAssociatedInstance {
    [CmdletBinding(DefaultParameterSetName = 'ComputerSet')]
    param(
        [Parameter(Position = 0, Mandatory = $true, ValueFromPipeline = $true)] [Alias('CimInstance')] [psobject] $InputObject,
        [Parameter(Position = 1)] [string] $Association,
        [string] $ResultClassName, [string] $Namespace, [switch] $KeyOnly, [uri] $ResourceUri,
        [Alias('OT')] [uint32] $OperationTimeoutSec,
        [Alias('CN', 'ServerName')] [string[]] $ComputerName, [object[]] $CimSession
    )
    process {
        $asked = @{ class_name = $InputObject.CimSystemProperties.ClassName; keys = Get-CimKey $InputObject }
        if ($Association) {
            $asked['association'] = $Association
        }
        if ($ResultClassName) {
            $asked['result_class'] = $ResultClassName
        }
        $reply = Invoke-Model 'cim.associated' $asked
        if ($reply.ContainsKey('error')) {
            Write-CimRefusal $PSCmdlet 'GetCimAssociatedInstanceCommand' $reply['error'] $InputObject
            return
        }
        foreach ($block in $reply['result']) {
            Write-CimBlock $PSCmdlet $block $null ([bool] $KeyOnly)
        }
    }
}

function ConvertFrom-CimArgument($Value) {
    if ($Value -is [psobject] -and $Value.PSObject.TypeNames -contains $script:CimBase) {
        return @{ '$ref' = $Value.CimSystemProperties.ClassName; keys = Get-CimKey $Value }
    }
    $Value
}

function Invoke-CimMethod {
    [CmdletBinding(SupportsShouldProcess = $true, DefaultParameterSetName = 'CimInstanceComputerSet')]
    param(
        [Parameter(ParameterSetName = 'CimInstanceComputerSet', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('CimInstance')] [psobject] $InputObject,
        [Parameter(ParameterSetName = 'ClassNameComputerSet', Position = 0, Mandatory = $true)] [Alias('Class')] [string] $ClassName,
        [Parameter(ParameterSetName = 'QueryComputerSet', Mandatory = $true)] [string] $Query,
        [Parameter(Position = 1, Mandatory = $true)] [Alias('Name')] [string] $MethodName,
        [Parameter(Position = 2)] [Collections.IDictionary] $Arguments,
        [string] $Namespace, [string] $QueryDialect, [uri] $ResourceUri, [Alias('OT')] [uint32] $OperationTimeoutSec,
        [Alias('CN', 'ServerName')] [string[]] $ComputerName, [object[]] $CimSession
    )
    process {
        if ($PSCmdlet.ParameterSetName -ceq 'QueryComputerSet') {
            $refusal = @{ message = 'methods of queries are not simulated'; hresult = 0x80041055L; category = 'MetadataError' }
            Write-CimRefusal $PSCmdlet 'InvokeCimMethodCommand' $refusal $Query
            return
        }
        $plain = @{}
        if ($null -ne $Arguments) {
            foreach ($name in $Arguments.Keys) {
                $value = $Arguments[$name]
                $plain[$name] = $(if ($value -is [array]) { , @($value | ForEach-Object { ConvertFrom-CimArgument $_ }) }
                    else { ConvertFrom-CimArgument $value })
            }
        }
        $static = $PSCmdlet.ParameterSetName -ceq 'ClassNameComputerSet'
        $class = $(if ($static) { $ClassName } else { $InputObject.CimSystemProperties.ClassName })
        if (-not $PSCmdlet.ShouldProcess($class, $MethodName)) {
            return
        }
        $asked = @{ class_name = $class; method = $MethodName; arguments = $plain }
        if ($static) {
            $asked['namespace'] = $(if ($Namespace) { $Namespace } else { $script:CimDefaultNamespace })
            $reply = Invoke-Model 'cim.invoke_static' $asked
        }
        else {
            $asked['keys'] = Get-CimKey $InputObject
            $reply = Invoke-Model 'cim.invoke' $asked
        }
        if ($reply.ContainsKey('error')) {
            Write-CimRefusal $PSCmdlet 'InvokeCimMethodCommand' $reply['error'] $InputObject
            return
        }
        $result = [ordered]@{}
        foreach ($name in $reply['result']['types'].Keys) {
            $result[$name] = ConvertTo-CimValue $reply['result']['values'][$name] $reply['result']['types'][$name]
        }
        $result['PSComputerName'] = $null
        [pscustomobject] $result
    }
}
