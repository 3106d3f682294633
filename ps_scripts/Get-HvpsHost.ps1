<#
.SYNOPSIS
    Describes the host, and the process of this session on it.
.OUTPUTS
    Hvps.HostInfo
      Name                 text     computer name
      Fqdn                 text?    name with domain
      MachineId            guid?    SMBIOS UUID; not always unique
      OsVersion            text     for example 10.0.20348
      OsBuild              int      build number
      OsRevision           int?     revision of the build (UBR)
      PowershellVersion    text     of the session
      LanguageMode         text     must be FullLanguage to compile C#
      Is64bit              bool     64-bit process
      IsAdministrator      bool     elevated member of Administrators; required to attach disks
      Culture              text     language of texts in this session
      HypervModuleVersion  text?    of the loaded module
      SupportedVmVersions  text[]   configuration versions
      SecureBootTemplates  text[]   names; empty if this version of the module does not list them
      LogicalProcessors    int      count
      MemoryBytes          int      of the host
      Cluster              text?    name; null if not clustered
      Time                 time     current time of the host
      BootTime             time     of the operating system
      ProcessId            int      of the session
      ProcessStarted       time     start of that process
#>
[CmdletBinding()]
[OutputType('Hvps.HostInfo')]
param()
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Token.ps1"
try {
    #% include "lib/HyperV.ps1"
    $hyperv = Hyper-V\Get-VMHost -ErrorAction Stop
    $os = Get-CimInstance -ClassName Win32_OperatingSystem -ErrorAction Stop
    $process = [Diagnostics.Process]::GetCurrentProcess()
    $module = Get-Module -Name Hyper-V
    $moduleVersion = $null
    if ($null -ne $module) {
        $moduleVersion = [string] $module.Version
    }
    $cluster = $null
    try {
        # The module can be installed without a cluster, and may throw whatever the ErrorAction.
        if (Get-Command -Name Get-Cluster -ErrorAction SilentlyContinue) {
            $found = @(Get-Cluster -ErrorAction Stop -WarningAction SilentlyContinue | Where-Object { $null -ne $_ })
            if ($found.Count -gt 0) {
                $cluster = [string] $found[0].Name
            }
        }
    }
    catch {
        Write-Verbose "the cluster cannot be asked: $_"
    }
    # A cumulative update changes nothing of the version but this (docs/hyperv-facts.md#os-revision).
    $revision = $null
    try {
        $parameters = @{
            Namespace   = 'root/cimv2'
            ClassName   = 'StdRegProv'
            MethodName  = 'GetDWORDValue'
            Arguments   = @{
                hDefKey     = [uint32] 2147483650
                sSubKeyName = 'SOFTWARE\Microsoft\Windows NT\CurrentVersion'
                sValueName  = 'UBR'
            }
            ErrorAction = 'Stop'
        }
        $answer = Invoke-CimMethod @parameters
        if (0 -eq $answer.ReturnValue -and $null -ne $answer.uValue) {
            $revision = [int] $answer.uValue
        }
    }
    catch {
        Write-Verbose -Message ([string] $_)
    }
    # Not every machine reports one (docs/hyperv-facts.md#machine-id).
    $product = @()
    try {
        $product = @(Get-CimInstance -ClassName Win32_ComputerSystemProduct -ErrorAction Stop)
    }
    catch {
        Write-Verbose "Win32_ComputerSystemProduct cannot be read: $_"
    }
    $machineId = [guid]::Empty
    $machineText = $null
    if ($product.Count -gt 0 -and [guid]::TryParse([string] $product[0].UUID, [ref] $machineId) -and
        $machineId -ne [guid]::Empty) {
        $machineText = $machineId.ToString()
    }
    $templates = @(Get-HvpsOptional -InputObject $hyperv -Name SecureBootTemplates | Where-Object { $null -ne $_ })
    $fqdn = $null
    if ($hyperv.FullyQualifiedDomainName) {
        $fqdn = [string] $hyperv.FullyQualifiedDomainName
    }
    $token = Get-HvpsToken
    [pscustomobject]@{
        PSTypeName          = 'Hvps.HostInfo'
        Name                = [string] $hyperv.Name
        Fqdn                = $fqdn
        MachineId           = $machineText
        OsVersion           = [string] $os.Version
        OsBuild             = [int] $os.BuildNumber
        OsRevision          = $revision
        PowershellVersion   = [string] $PSVersionTable.PSVersion
        LanguageMode        = [string] $ExecutionContext.SessionState.LanguageMode
        Is64bit             = [IntPtr]::Size -eq 8
        IsAdministrator     = $token.Elevated -and $token.Groups -contains 'S-1-5-32-544'
        Culture             = [Globalization.CultureInfo]::CurrentCulture.Name
        HypervModuleVersion = $moduleVersion
        SupportedVmVersions = [string[]] @($hyperv.SupportedVmVersions | ForEach-Object { [string] $_ })
        SecureBootTemplates = [string[]] @($templates | ForEach-Object { [string] $_.Name })
        LogicalProcessors   = [int] $hyperv.LogicalProcessorCount
        MemoryBytes         = [uint64] $hyperv.MemoryCapacity
        Cluster             = $cluster
        Time                = ConvertTo-HvpsTime -Value ([DateTime]::UtcNow)
        BootTime            = ConvertTo-HvpsTime -Value $os.LastBootUpTime
        ProcessId           = [int] $process.Id
        ProcessStarted      = ConvertTo-HvpsTime -Value $process.StartTime
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
