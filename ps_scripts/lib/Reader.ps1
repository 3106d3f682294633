# The C# of lib, compiled once per process; a type cannot be defined twice in one.

function Import-HvpsReader {
    <#
    .SYNOPSIS
    Compiles the reader unless this process has it.
    #>
    [CmdletBinding()]
    param()
    if ('Hvps.Disk' -as [type]) {
        return
    }
    $source = @'
#% include "lib/HvpsReader.cs"
'@
    try {
        Add-Type -TypeDefinition $source -Language CSharp -ErrorAction Stop
    }
    catch {
        # Two runspaces may have compiled at once; the second finds the type there.
        if (-not ('Hvps.Disk' -as [type])) {
            throw
        }
    }
}
