# Runs in every shell of a simulated host before its client's first command, like the startup script of a session
# configuration. It moves the compiler to a separate process, as csc.exe is for Windows PowerShell 5.1. PowerShell 7
# compiles inside the process, which then keeps the compiler: 150 MiB, and seconds for each shell.

# Add-Type with the documented parameters. Source without other parameters than these is compiled in
# another process, once for all shells (Compile.ps1), and loaded here. The real Add-Type does everything else, including
# errors.
function global:Add-Type {
    [CmdletBinding(DefaultParameterSetName = 'FromSource')]
    param(
        [Parameter(Mandatory = $true, Position = 0, ParameterSetName = 'FromSource')]
        [string] $TypeDefinition,

        [Parameter(Mandatory = $true, Position = 0, ParameterSetName = 'FromMember')]
        [string] $Name,

        [Parameter(Mandatory = $true, Position = 1, ParameterSetName = 'FromMember')]
        [string[]] $MemberDefinition,

        [Parameter(ParameterSetName = 'FromMember')]
        [string] $Namespace,

        [Parameter(ParameterSetName = 'FromMember')]
        [string[]] $UsingNamespace,

        [Parameter(Mandatory = $true, Position = 0, ParameterSetName = 'FromPath')]
        [string[]] $Path,

        [Parameter(Mandatory = $true, ParameterSetName = 'FromLiteralPath')]
        [string[]] $LiteralPath,

        [Parameter(Mandatory = $true, ParameterSetName = 'FromAssemblyName')]
        [string[]] $AssemblyName,

        [string] $Language,
        [string[]] $ReferencedAssemblies,
        [string] $OutputAssembly,
        [string] $OutputType,
        [switch] $PassThru,
        [switch] $IgnoreWarnings
    )
    $common = [Management.Automation.PSCmdlet]::CommonParameters
    $apart = 'TypeDefinition', 'Language', 'ReferencedAssemblies', 'IgnoreWarnings'
    $other = @($PSBoundParameters.Keys | & { process { if ($_ -notin $common -and $_ -notin $apart) { $_ } } })
    if ($other.Count -or ($Language -and $Language -ne 'CSharp')) {
        return Microsoft.PowerShell.Utility\Add-Type @PSBoundParameters
    }
    # Everything the assembly depends on: the assembly of another engine would not load.
    $key = @($PSVersionTable.PSVersion, [Environment]::Version, ($ReferencedAssemblies -join ';'), $TypeDefinition)
    $bytes = [Text.Encoding]::UTF8.GetBytes($key -join "`n")
    $hash = [Convert]::ToHexString([Security.Cryptography.SHA256]::HashData($bytes))
    $file = [IO.Path]::Combine($env:HVPS_SIM_COMPILED, "$hash.dll")
    $loaded = [AppDomain]::CurrentDomain.GetAssemblies().Location
    if ($loaded -contains $file) {
        return
    }
    if (-not [IO.File]::Exists($file)) {
        $start = [Diagnostics.ProcessStartInfo]::new($env:HVPS_SIM_PWSH)
        foreach ($word in '-NoProfile', '-File', $env:HVPS_SIM_COMPILER, $file, ($ReferencedAssemblies -join ';')) {
            $start.ArgumentList.Add($word)
        }
        $start.RedirectStandardInput = $start.RedirectStandardOutput = $start.RedirectStandardError = $true
        $compiler = [Diagnostics.Process]::Start($start)
        # Its output is ignored: the real Add-Type reports errors.
        $said = $compiler.StandardOutput.ReadToEndAsync(), $compiler.StandardError.ReadToEndAsync()
        $compiler.StandardInput.Write($TypeDefinition)
        $compiler.StandardInput.Close()
        $compiler.WaitForExit()
        [Threading.Tasks.Task]::WaitAll($said)
        $compiler.Dispose()
    }
    $assembly = $null
    try {
        $assembly = [Reflection.Assembly]::LoadFrom($file)
    }
    catch [IO.IOException], [BadImageFormatException] {
        # Refused by the compiler, or damaged on disk.
        [IO.File]::Delete($file)
    }
    if ($null -eq $assembly) {
        return Microsoft.PowerShell.Utility\Add-Type @PSBoundParameters
    }
    foreach ($type in $assembly.GetExportedTypes().FullName) {
        if ([AppDomain]::CurrentDomain.GetData("hvps-sim-type:$type")) {
            $PSCmdlet.ThrowTerminatingError([Management.Automation.ErrorRecord]::new(
                    [Exception]::new("Cannot add type. The type name '$type' already exists."),
                    'TYPE_ALREADY_EXISTS', 'InvalidOperation', $type))
        }
        [AppDomain]::CurrentDomain.SetData("hvps-sim-type:$type", $true)
    }
}

# Other runspaces of the pool are created from the initial state of this one.
[runspace]::DefaultRunspace.InitialSessionState.Commands.Add(
    [Management.Automation.Runspaces.SessionStateFunctionEntry]::new('Add-Type', ${function:Add-Type}))

# Runspaces that the pool creates later are constrained from their beginning, as under WDAC or AppLocker.
if ($env:HVPS_SIM_LANGUAGE_MODE -eq 'ConstrainedLanguage') {
    [runspace]::DefaultRunspace.InitialSessionState.LanguageMode = 'ConstrainedLanguage'
    $ExecutionContext.SessionState.LanguageMode = 'ConstrainedLanguage'
}
