<#
.SYNOPSIS
    Facts about the host: Windows, PowerShell, modules, enumerations, WMI classes, WinRM. Changes nothing.
#>
[CmdletBinding()]
[OutputType('Hvps.ProbeFact')]
param()
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Probe.ps1"

$Classes = @(
    'Msvm_ComputerSystem', 'Msvm_ConcreteJob', 'Msvm_DiskMergeSettingData', 'Msvm_ImageManagementService',
    'Msvm_SecuritySettingData', 'Msvm_StorageAllocationSettingData', 'Msvm_VirtualSystemManagementService',
    'Msvm_VirtualSystemReferencePoint', 'Msvm_VirtualSystemSettingData',
    'Msvm_VirtualSystemSnapshotService', 'Msvm_VirtualSystemSnapshotSettingData')
$Associations = @(
    'Msvm_AffectedJobElement', 'Msvm_ReferencePointOfVirtualSystem', 'Msvm_SnapshotOfVirtualSystem',
    'Msvm_VirtualSystemSettingDataComponent')
$Enumerations = @(
    'Microsoft.HyperV.PowerShell.VMState', 'Microsoft.HyperV.PowerShell.VMOperationalStatus',
    'Microsoft.HyperV.PowerShell.SnapshotType', 'Microsoft.HyperV.PowerShell.CheckpointType',
    'Microsoft.Vhd.PowerShell.VhdFormat', 'Microsoft.Vhd.PowerShell.VhdType')
$WinRm = @(
    'Shell\MaxShellsPerUser', 'Shell\MaxMemoryPerShellMB', 'Shell\IdleTimeout', 'Shell\MaxConcurrentUsers',
    'MaxEnvelopeSizekb', 'MaxTimeoutms', 'Service\MaxConcurrentOperationsPerUser')

function Get-ProbeClass {
    <#
    .SYNOPSIS
    Properties and methods of a WMI class, with their CIM types.
    #>
    [CmdletBinding()]
    [OutputType([hashtable])]
    param([Parameter(Mandatory = $true)] [string] $Name)
    $class = Get-CimClass -Namespace 'root/virtualization/v2' -ClassName $Name -ErrorAction Stop
    $properties = @{}
    foreach ($property in @($class.CimClassProperties)) {
        $properties[[string] $property.Name] = [string] $property.CimType
    }
    $methods = @($class.CimClassMethods | ForEach-Object { [string] $_.Name } | Sort-Object)
    @{ properties = $properties; methods = $methods }
}

try {
    #% include "lib/HyperV.ps1"
    Write-ProbeFact -Name 'windows.version' -Value ([string] [Environment]::OSVersion.Version)
    Write-ProbeFact -Name 'windows.processors' -Value ([Environment]::ProcessorCount)
    Write-ProbeFact -Name 'powershell.version' -Value ([string] $PSVersionTable.PSVersion)
    Write-ProbeFact -Name 'powershell.clr' -Value ([string] [Environment]::Version)
    Write-ProbeFact -Name 'powershell.language_mode' -Value ([string] $ExecutionContext.SessionState.LanguageMode)
    Write-ProbeFact -Name 'windows.culture' -Value ([string] [Globalization.CultureInfo]::CurrentUICulture.Name)
    $module = Get-Module -Name Hyper-V | Select-Object -First 1
    Write-ProbeFact -Name 'module.hyperv' -Value ([string] $module.Version)
    foreach ($name in $Enumerations) {
        $type = $name -as [type]
        $values = @{}
        if ($null -ne $type) {
            foreach ($value in @([Enum]::GetValues($type))) {
                $values[[string] $value] = [long] $value
            }
        }
        Write-ProbeFact -Name "enum.$name" -Value $values
    }
    foreach ($name in ($Classes + $Associations)) {
        try {
            Write-ProbeFact -Name "class.$name" -Value (Get-ProbeClass -Name $name)
        }
        catch {
            Write-ProbeFact -Name "class.$name" -Value @{ error = Get-ProbeFailure -Record $_ }
        }
    }
    $parameters = @{ Namespace = 'root/virtualization/v2'; ClassName = 'Msvm_SecuritySettingData' }
    try {
        $settings = @(Get-CimInstance @parameters -ErrorAction Stop | Where-Object { $null -ne $_ })
        Write-ProbeFact -Name 'security.settings_there' -Value ($settings.Count -gt 0)
    }
    catch {
        Write-ProbeFact -Name 'security.settings_there' -Value $false
    }
    foreach ($name in $WinRm) {
        try {
            $item = Get-Item -LiteralPath "WSMan:\localhost\$name" -ErrorAction Stop
            Write-ProbeFact -Name "winrm.$name" -Value ([string] $item.Value)
        }
        catch {
            Write-ProbeFact -Name "winrm.$name" -Value $null
        }
    }
    foreach ($key in @('Release', 'Version')) {
        try {
            $path = 'HKLM:\SOFTWARE\Microsoft\NET Framework Setup\NDP\v4\Full'
            $value = (Get-ItemProperty -LiteralPath $path -Name $key -ErrorAction Stop).$key
            Write-ProbeFact -Name "dotnet.$key" -Value ([string] $value)
        }
        catch {
            Write-ProbeFact -Name "dotnet.$key" -Value $null
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
