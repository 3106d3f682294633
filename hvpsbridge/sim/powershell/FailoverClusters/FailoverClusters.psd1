@{
    RootModule        = 'FailoverClusters.psm1'
    ModuleVersion     = '2.0.0.0'
    GUID              = '3b0f0b5d-9d0c-4d0b-8f53-3a4b5d1c7e21'
    Author            = 'hvpsbridge'
    Description       = 'Stand-in for what hvps uses of FailoverClusters, for simulated hosts.'
    FunctionsToExport = @('Get-Cluster', 'Get-ClusterResource', 'Start-ClusterResource', 'Stop-ClusterResource')
    CmdletsToExport   = @()
    VariablesToExport = @()
    AliasesToExport   = @()
}
