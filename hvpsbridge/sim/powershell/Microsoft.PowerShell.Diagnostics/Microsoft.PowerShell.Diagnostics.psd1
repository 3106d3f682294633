@{
    RootModule        = 'Microsoft.PowerShell.Diagnostics.psm1'
    ModuleVersion     = '3.0.0.0'
    GUID              = 'ca046f10-ca64-4740-8ff9-2565dba61a4f'
    Author            = 'hvpsbridge'
    Description       = 'Stand-in for Get-WinEvent, for simulated hosts.'
    FunctionsToExport = @('Get-WinEvent')
    CmdletsToExport   = @()
    VariablesToExport = @()
    AliasesToExport   = @()
}
