# Runs after Startup.ps1 in a shell of a JEA endpoint. It makes the session what WinRM makes of the session configuration
# HVPS_SIM_JEA and its role: no scripts, and only the commands of the role. WinRM maps accounts to roles and runs the
# session as a virtual account; here everybody has every role.
& {
    function Read-Data([string] $Path) {
        $errors = $null
        $tree = [Management.Automation.Language.Parser]::ParseFile($Path, [ref] $null, [ref] $errors)
        if ($errors.Count) {
            throw "$Path`: $($errors[0].Message)"
        }
        $tree.EndBlock.Statements[0].PipelineElements[0].Expression.SafeGetValue()
    }
    $session = Read-Data $env:HVPS_SIM_JEA
    $folder = [IO.Path]::GetDirectoryName($env:HVPS_SIM_JEA)
    $roles = foreach ($definition in $session.RoleDefinitions.Values) {
        foreach ($name in $definition.RoleCapabilities) {
            Read-Data ([IO.Directory]::GetFiles($folder, "$name.psrc", 'AllDirectories')[0])
        }
    }
    $visible = @($roles.VisibleFunctions) + 'Out-Default', 'Exit-PSSession', 'Get-Command', 'Measure-Object', 'Select-Object'
    $initial = [runspace]::DefaultRunspace.InitialSessionState
    $files = foreach ($module in $roles.ModulesToImport | Select-Object -Unique) {
        [IO.Path]::Combine($folder, $module, "$module.psd1")
    }
    Import-Module -Name $files -Global -ErrorAction Stop
    $initial.ImportPSModule([string[]] @($files))
    foreach ($entry in $initial.Commands) {
        if ($entry.Name -notin $visible) {
            $entry.Visibility = 'Private'
        }
    }
    foreach ($command in $ExecutionContext.SessionState.InvokeCommand.GetCommands('*', 'Function, Cmdlet, Alias, Filter', $true)) {
        if ($command.Name -notin $visible) {
            $command.Visibility = 'Private'
        }
    }
    foreach ($state in $initial, [runspace]::DefaultRunspace.SessionStateProxy) {
        $state.LanguageMode = $session.LanguageMode
    }
    # A JEA session may not load modules by itself.
    $global:PSModuleAutoLoadingPreference = 'None'
    $initial.Variables.Add(
        [Management.Automation.Runspaces.SessionStateVariableEntry]::new('PSModuleAutoLoadingPreference', 'None', ''))
    foreach ($paths in $ExecutionContext.SessionState.Applications, $ExecutionContext.SessionState.Scripts) {
        $paths.Clear()
    }
}
