# Compiles the C# that reads VHDX tables, once per process.

function Import-HvpsVhdx {
    <#
    .SYNOPSIS
    Compiles the parser unless this process already has it.
    #>
    [CmdletBinding()]
    param()
    if ('Hvps.Vhdx' -as [type]) {
        return
    }
    $source = @'
#% include "lib/HvpsVhdx.cs"
'@
    Add-Type -TypeDefinition $source -Language CSharp -IgnoreWarnings -ErrorAction Stop
}
