# The token of the session, by ids and names that do not depend on the language.

function Get-HvpsToken {
    <#
    .SYNOPSIS
    Groups of the token by SID, names of its privileges, and whether its integrity level is high or system.
    .NOTES
    A token that User Account Control has filtered still lists S-1-5-32-544, for deny only, but its level is medium
    and it lacks the privileges of administrators (docs/hyperv-facts.md#local-accounts).
    #>
    [CmdletBinding()]
    param()
    $groups = @(& whoami.exe /groups /fo csv /nh | ForEach-Object { [regex]::Match($_, '"(S-1-[\d-]+)"') } |
            Where-Object { $_.Success } | ForEach-Object { $_.Groups[1].Value })
    $privileges = @(& whoami.exe /priv /fo csv /nh | ForEach-Object { [regex]::Match($_, '^"(Se\w+)"') } |
            Where-Object { $_.Success } | ForEach-Object { $_.Groups[1].Value })
    [pscustomobject]@{
        Groups     = $groups
        Privileges = $privileges
        Elevated   = $groups -contains 'S-1-16-12288' -or $groups -contains 'S-1-16-16384'
    }
}
