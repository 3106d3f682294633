@{
    RootModule        = 'CimCmdlets.psm1'
    ModuleVersion     = '1.0.0.0'
    GUID              = 'fb6cc51d-c096-4b38-b78d-0fed6277096a'
    Author            = 'hvpsbridge'
    Description       = 'Stand-in for the CIM cmdlets, for simulated hosts.'
    FunctionsToExport = @('Get-CimAssociatedInstance', 'Get-CimClass', 'Get-CimInstance', 'Invoke-CimMethod')
    CmdletsToExport   = @()
    VariablesToExport = @()
    AliasesToExport   = @()
}
