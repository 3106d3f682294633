# The end of scripts that make a VM.

function Complete-HvpsVm {
    <#
    .SYNOPSIS
    Runs the last steps of a new VM, replaces its mark by its notes, and returns it; removes the VM if that fails.
    #>
    [CmdletBinding()]
    [OutputType('Hvps.VmMade')]
    param(
        [Parameter(Mandatory = $true)] [object] $Vm,
        [Parameter(Mandatory = $true)] [object] $Plan,
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [Collections.Generic.List[string]] $Warnings,
        [Parameter(Mandatory = $true)] [scriptblock] $Steps
    )
    try {
        & $Steps
        # The last step: without the mark it is finished.
        Hyper-V\Set-VM -VM $Vm -Notes ([string] $Plan.notes) -AutomaticStartAction Nothing -ErrorAction Stop
    }
    catch {
        $failure = $_
        # Its files stay: they are the restored disks.
        Hyper-V\Remove-VM -VM $Vm -Force -ErrorAction Continue
        throw $failure
    }
    [pscustomobject]@{
        PSTypeName = 'Hvps.VmMade'
        VmId       = ConvertTo-HvpsGuid -Value $Vm.Id
        Name       = [string] $Vm.Name
        Path       = [string] $Vm.ConfigurationLocation
        Warnings   = [string[]] $Warnings.ToArray()
    }
}
