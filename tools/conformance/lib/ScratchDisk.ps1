# The C# of the probes, which opens, reads and writes disks of a scratch VM in every way that they ask about.

function Import-ScratchDisk {
    <#
    .SYNOPSIS
    Compiles HvpsProbe.ScratchDisk once in this process.
    #>
    [CmdletBinding()]
    param()
    if ('HvpsProbe.ScratchDisk' -as [type]) {
        return
    }
    $source = @'
#% include "lib/ScratchDisk.cs"
'@
    Add-Type -TypeDefinition $source -Language CSharp -ErrorAction Stop
}

function Move-ScratchDisk {
    <#
    .SYNOPSIS
    Renames a disk file and its files of change tracking; the extensions of those that were there.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [string] $Path, [Parameter(Mandatory = $true)] [string] $Destination)
    foreach ($extension in @('', '.rct', '.mrt')) {
        if ([HvpsProbe.ScratchDisk]::Exists($Path + $extension)) {
            $code = [HvpsProbe.ScratchDisk]::Move($Path + $extension, $Destination + $extension)
            if ($code -ne 0) {
                throw (New-HvpsError -Id 'Hvps.WriteFailed' -Message "cannot rename $Path$extension" -Native $code)
            }
            "$extension"
        }
    }
}

function Get-ScratchAwayPath {
    <#
    .SYNOPSIS
    The name that a probe gives a disk file for a moment.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [string] $Path)
    $Path -creplace '\.(vhdx?)\z', '.away.$1'
}
