<#
.SYNOPSIS
    Makes a VM of disk files that exist, off, and removes it again if that fails.
.DESCRIPTION
    While it is made, its notes are the mark, so that what a script that was killed left is known. A setting that this
    host refuses becomes a warning, unless the VM would not be the same machine without it.
.PARAMETER Name
    Name of the VM.
.PARAMETER Folder
    Folder in which the folder of the VM is.
.PARAMETER Json
    What to make, formats/vm_plan.py.
.OUTPUTS
    Hvps.VmMade
      VmId      guid    its id
      Name      text    its name
      Path      text    folder of its configuration
      Warnings  text[]  settings that the host refused, one line each
#>
[CmdletBinding()]
[OutputType('Hvps.VmMade')]
param(
    [Parameter(Mandatory = $true)] [string] $Name,
    [Parameter(Mandatory = $true)] [string] $Folder,
    [Parameter(Mandatory = $true)] [string] $Json
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/NewVm.ps1"
#% include "lib/MadeVm.ps1"
try {
    #% include "lib/HyperV.ps1"
    $plan = ConvertFrom-Json -InputObject $Json
    $parameters = @{
        Name               = $Name
        Generation         = [int16] $plan.generation
        MemoryStartupBytes = [long] $plan.memory.StartupBytes
        Path               = $Folder
        NoVHD              = $true
    }
    if ($plan.version) {
        $parameters['Version'] = [version] $plan.version
    }
    $warnings = New-Object -TypeName 'System.Collections.Generic.List[string]'
    $vm = Hyper-V\New-VM @parameters -ErrorAction Stop
    Complete-HvpsVm -Vm $vm -Plan $plan -Warnings $warnings -Steps {
        Hyper-V\Set-VM -VM $vm -Notes ([string] $plan.mark) -ErrorAction Stop
        Set-HvpsPart -What 'processor' -Values $plan.processor -Warnings $warnings -Set {
            param([hashtable] $Values)
            Hyper-V\Set-VMProcessor -VM $vm @Values -ErrorAction Stop
        }
        Set-HvpsPart -What 'memory' -Values $plan.memory -Warnings $warnings -Set {
            param([hashtable] $Values)
            Hyper-V\Set-VMMemory -VM $vm @Values -ErrorAction Stop
        }
        $adapters = @(Add-HvpsAdapter -Vm $vm -Plan $plan -Warnings $warnings)
        Add-HvpsDrive -Vm $vm -Plan $plan -Warnings $warnings
        if ($plan.generation -eq 2) {
            Set-HvpsFirmware -Vm $vm -Plan $plan -Adapters $adapters -Warnings $warnings
        }
        elseif ($null -ne $plan.bios) {
            Set-HvpsPart -What 'BIOS' -Values $plan.bios -Warnings $warnings -Set {
                param([hashtable] $Values)
                Hyper-V\Set-VMBios -VM $vm @Values -ErrorAction Stop
            }
        }
        Set-HvpsTpm -Vm $vm -Plan $plan -Warnings $warnings
        Set-HvpsService -Vm $vm -Plan $plan -Warnings $warnings
        Set-HvpsPart -What 'automatic actions' -Values $plan.vm -Warnings $warnings -Set {
            param([hashtable] $Values)
            Hyper-V\Set-VM -VM $vm @Values -ErrorAction Stop
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
