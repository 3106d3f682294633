# The .NET types of the module, made at run time from the model's table: compiling C# would take a second per shell.
# They are real enums and classes with public members, so PSRP serializes them like Hyper-V's.

function Initialize-HvType {
    # Types live as long as the process, and several runspaces may import the module at once.
    [Threading.Monitor]::Enter([AppDomain]::CurrentDomain)
    try {
        $reply = Invoke-Model 'vm.types'
        if ($reply.ContainsKey('error')) {
            throw $reply['error']['message']
        }
        $script:HvTable = $reply['result']
        if (-not ('Microsoft.HyperV.PowerShell.VirtualizationException' -as [type])) {
            New-HvAssembly $script:HvTable
        }
    }
    finally {
        [Threading.Monitor]::Exit([AppDomain]::CurrentDomain)
    }
    $script:HvFields = @{}
}

function New-HvAssembly([hashtable] $Table) {
    $assembly = [Reflection.Emit.AssemblyBuilder]::DefineDynamicAssembly('Microsoft.HyperV.PowerShell.Objects', 'Run')
    $module = $assembly.DefineDynamicModule('Objects')
    $made = @{}
    foreach ($name in $Table.enums.Keys) {
        $builder = $module.DefineEnum($name, 'Public', [int])
        foreach ($member in $Table.enums[$name].GetEnumerator()) {
            $null = $builder.DefineLiteral($member.Key, [int] $member.Value)
        }
        $made[$name] = $builder.CreateType()
    }
    # A class must come after those that it mentions, but hashtables do not keep the order of the JSON.
    $left = [Collections.Generic.List[string]] @($Table.classes.Keys)
    while ($left.Count) {
        foreach ($name in @($left)) {
            $types = @{}
            foreach ($field in $Table.classes[$name].GetEnumerator()) {
                $types[$field.Key] = Resolve-HvType $field.Value $made
            }
            if ($types.Values -contains $null) {
                continue
            }
            $builder = $module.DefineType($name, 'Public, Class')
            foreach ($field in $types.Keys) {
                $null = $builder.DefineField($field, $types[$field], 'Public')
            }
            $made[$name] = $builder.CreateType()
            $null = $left.Remove($name)
        }
    }
    New-HvException $module
}

# The .NET type for a name in the table; null if it is not made yet.
function Resolve-HvType([string] $Notation, [hashtable] $Made) {
    $name = $Notation.TrimEnd('?', '[', ']')
    $type = $(if ($name.Contains('.')) { $Made[$name] } else { [type] "System.$name" })
    if ($null -eq $type) {
        return $null
    }
    if ($Notation.EndsWith('[]')) {
        return $type.MakeArrayType()
    }
    if ($Notation.EndsWith('?')) {
        return [Nullable`1].MakeGenericType($type)
    }
    $type
}

# VirtualizationException(string), with the members of the real one.
function New-HvException([Reflection.Emit.ModuleBuilder] $Module) {
    $builder = $Module.DefineType('Microsoft.HyperV.PowerShell.VirtualizationException', 'Public, Class', [Exception])
    $null = $builder.DefineField('ErrorIdentifier', [string], 'Public')
    $null = $builder.DefineField('ErrorCategory', [Management.Automation.ErrorCategory], 'Public')
    $null = $builder.DefineField('TargetObject', [object], 'Public')
    $code = $builder.DefineConstructor('Public', 'Standard', [type[]] @([string])).GetILGenerator()
    $code.Emit([Reflection.Emit.OpCodes]::Ldarg_0)
    $code.Emit([Reflection.Emit.OpCodes]::Ldarg_1)
    $code.Emit([Reflection.Emit.OpCodes]::Call, [Exception].GetConstructor([type[]] @([string])))
    $code.Emit([Reflection.Emit.OpCodes]::Ret)
    $null = $builder.CreateType()
}

# A Hyper-V object from a row of the model.
function New-HvObject([hashtable] $Row) {
    $type = $Row['type'] -as [type]
    if (-not $script:HvFields.ContainsKey($Row['type'])) {
        $script:HvFields[$Row['type']] = $type.GetFields()
    }
    $object = [Activator]::CreateInstance($type)
    foreach ($field in $script:HvFields[$Row['type']]) {
        if (-not $Row.ContainsKey($field.Name)) {
            throw "a $($Row['type']) of the model has no $($field.Name)"
        }
        $value = $Row[$field.Name]
        if ($null -ne $value) {
            $field.SetValue($object, (ConvertTo-HvValue $value $field.FieldType))
        }
    }
    if ($Row.ContainsKey('unreadable')) {
        foreach ($name in $Row['unreadable']) {
            Add-Member -InputObject $object -MemberType ScriptProperty -Name $name -Force -Value { throw 'offline' }
        }
    }
    $object
}

function ConvertTo-HvValue($Value, [type] $Type) {
    if ($Type.IsArray) {
        $element = $Type.GetElementType()
        $array = [Array]::CreateInstance($element, @($Value).Count)
        for ($i = 0; $i -lt $array.Length; $i++) {
            $array.SetValue((ConvertTo-HvValue $Value[$i] $element), $i)
        }
        return , $array
    }
    if ($Value -is [hashtable]) {
        return New-HvObject $Value
    }
    if ($Type -eq [DateTime]) {
        return ConvertFrom-ModelTime $Value
    }
    if ($Type -eq [TimeSpan]) {
        return [TimeSpan]::FromSeconds($Value)
    }
    $plain = [Nullable]::GetUnderlyingType($Type)
    if ($null -eq $plain) {
        $plain = $Type
    }
    if ($plain.IsEnum) {
        return [Enum]::ToObject($plain, [int] $Value)
    }
    [Management.Automation.LanguagePrimitives]::ConvertTo($Value, $plain)
}
