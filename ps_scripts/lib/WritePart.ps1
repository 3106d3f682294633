# The process block of scripts that write what comes in: a file or a disk.

function Write-HvpsPart {
    <#
    .SYNOPSIS
    Writes one request, and answers when it was written.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Target,
        [Parameter(Mandatory = $true)] [AllowNull()] [byte[]] $Request
    )
    # If the input is closed at once, the process block runs once without a request.
    if ($null -eq $Request) {
        return
    }
    try {
        $offset = $Target.Write($Request)
        [pscustomobject]@{
            PSTypeName  = 'Hvps.WrittenPart'
            OffsetBytes = [uint64] $offset
            LengthBytes = [uint64] ($Request.Length - [Hvps.NewFile]::HeaderBytes)
        }
    }
    catch {
        throw (ConvertTo-HvpsError -Record $_)
    }
}
