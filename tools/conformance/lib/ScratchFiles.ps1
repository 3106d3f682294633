# Files and folders of a scratch VM.

function Get-ScratchFolder {
    <#
    .SYNOPSIS
    The folder that New-ScratchVm made for the VM. The VM's own path changes when its storage is moved.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [object] $Vm)
    ([string] $Vm.Path).TrimEnd('\') -creplace '(\\moved-[0-9a-f]{8})+\z', ''
}

function Remove-ScratchFile {
    <#
    .SYNOPSIS
    Removes files, and waits for those that are still held; emits those that stay.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param(
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [string[]] $Path,
        [Parameter()] [int] $Seconds = 60
    )
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $left = @($Path | Where-Object { [IO.File]::Exists($_) })
    while ($left.Count -gt 0) {
        $left | ForEach-Object { Remove-Item -LiteralPath $_ -Force -ErrorAction SilentlyContinue }
        $left = @($left | Where-Object { [IO.File]::Exists($_) })
        if ($left.Count -eq 0 -or $clock.Elapsed.TotalSeconds -ge $Seconds) {
            break
        }
        Start-Sleep -Milliseconds 500
    }
    $left
}

function Clear-ScratchFolder {
    <#
    .SYNOPSIS
    Removes the empty folders of the scratch VM. A folder with a file in it stays.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [string] $Path)
    if (-not [IO.Directory]::Exists($Path)) {
        return
    }
    $inside = @([IO.Directory]::GetDirectories($Path, '*', [IO.SearchOption]::AllDirectories))
    foreach ($folder in @(@($inside | Sort-Object -Property Length -Descending) + $Path)) {
        try {
            [IO.Directory]::Delete($folder, $false)
        }
        catch [IO.IOException] {
            Write-Verbose -Message "$folder stays: $_"
        }
    }
}
