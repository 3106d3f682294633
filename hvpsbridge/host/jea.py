"""The kit for a JEA endpoint: the host scripts as commands of a module, for sessions that run no scripts.

In a JEA session the language mode is NoLanguage: text of scripts is refused, and only the commands that a
role names can be called. So the scripts are installed on the host as functions, one per operation. Functions
of a module run in the full language, and may compile C# (docs/hyperv-facts.md#jea-sessions).
"""

from __future__ import annotations

import hashlib
import textwrap
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from hvpsbridge import __version__
from hvpsbridge.contract import CONTRACT, OPERATIONS, Effect, Operation
from hvpsbridge.host.scripts import literal, rendered

MODULE = "Hvps"
ROLE = "HvpsBackup"
RESTORE_ROLE = "HvpsRestore"
DEFAULT_ENDPOINT = "hvps"
# Files with C#, which several scripts include; the module has them once.
_SHARED = ("lib/Reader.ps1", "lib/Vhdx.ps1")
# Modules that the functions use. A JEA session may not load modules by itself.
_MODULES = (
    "Microsoft.PowerShell.Management",
    "Microsoft.PowerShell.Utility",
    "Microsoft.PowerShell.Diagnostics",
    "CimCmdlets",
    "Hyper-V",
    "FailoverClusters",
)


@dataclass(frozen=True, slots=True)
class KitInfo:
    """The kit of an endpoint: the contract of its functions, and the digest of their text."""

    contract: int
    digest: str


KIT_INFO = Operation("Get-HvpsKit", (), KitInfo, Effect.READS, 60)
"""The operation of an endpoint that says which kit it has; not a script of ``ps_scripts``."""


def kit(endpoint: str, groups: Sequence[str], restore_groups: Sequence[str] = ()) -> dict[str, str]:
    """The files of the kit, by path: a module, a session configuration, and a script that registers both.

    Args:
        endpoint: name of the endpoint.
        groups: accounts or groups that may back up, as Windows names them (``DOMAIN\\name``).
        restore_groups: those that may also make files and VMs.

    Raises:
        InternalError: a script cannot be rendered.
    """
    return {
        f"{MODULE}/{MODULE}.psm1": _module(),
        f"{MODULE}/{MODULE}.psd1": _manifest(),
        f"{MODULE}/RoleCapabilities/{ROLE}.psrc": _role(ROLE, "Backup", restores=False),
        f"{MODULE}/RoleCapabilities/{RESTORE_ROLE}.psrc": _role(RESTORE_ROLE, "Restore", restores=True),
        f"{endpoint}.pssc": _session(endpoint, groups, restore_groups),
        "Register-HvpsEndpoint.ps1": _registration(endpoint),
    }


@cache
def kit_digest() -> str:
    """SHA-256 of the functions of this version's kit, in hexadecimal.

    Raises:
        InternalError: a script cannot be rendered.
    """
    return hashlib.sha256(_functions().encode()).hexdigest()


@cache
def _functions() -> str:
    shared = [rendered(name) for name in _SHARED]
    functions = [_function(operation) for operation in OPERATIONS.values()]
    return "\n".join([*shared, *functions])


def _function(operation: Operation) -> str:
    return f"function {operation.name} {{\n{rendered(f'{operation.name}.ps1', left_out=_SHARED)}}}\n"


def _module() -> str:
    head = f"""\
# Module {MODULE} of hvpsbridge {__version__}: its operations as commands of a JEA endpoint. Written by
# hvps jea. Do not edit: hvps compares the digest.
"""
    imports = f"""\
foreach ($name in {", ".join(map(literal, _MODULES))}) {{
    # A missing one is reported by the function that uses it.
    Import-Module -Name $name -ErrorAction SilentlyContinue
}}
"""
    info = f"""\
function {KIT_INFO.name} {{
    [CmdletBinding()]
    param()
    [pscustomobject]@{{
        PSTypeName = 'Hvps.KitInfo'
        Contract   = [uint64] {CONTRACT}
        Digest     = '{kit_digest()}'
    }}
}}
"""
    return "\n".join([head, imports, info, _functions(), f"Export-ModuleMember -Function {_names()}\n"])


def _manifest() -> str:
    return f"""\
@{{
    RootModule        = '{MODULE}.psm1'
    ModuleVersion     = '{_module_version()}'
    GUID              = '{uuid.uuid5(_NAMESPACE, MODULE)}'
    Author            = 'hvpsbridge'
    Description       = 'Operations of hvpsbridge for a JEA endpoint'
    PowerShellVersion = '5.1'
    FunctionsToExport = @({_names()})
    CmdletsToExport   = @()
    VariablesToExport = @()
    AliasesToExport   = @()
}}
"""


def _role(role: str, what: str, *, restores: bool) -> str:
    names = [name for name, operation in OPERATIONS.items() if operation.restores is restores]
    if not restores:
        names.insert(0, KIT_INFO.name)
    return f"""\
@{{
    GUID             = '{uuid.uuid5(_NAMESPACE, role)}'
    Author           = 'hvpsbridge'
    Description      = '{what} of Hyper-V virtual machines with hvpsbridge'
    ModulesToImport  = @('{MODULE}')
    VisibleFunctions = @({_listed(names)})
}}
"""


def _session(endpoint: str, groups: Sequence[str], restore_groups: Sequence[str]) -> str:
    of = dict.fromkeys(groups, f"'{ROLE}'") | dict.fromkeys(restore_groups, f"'{ROLE}', '{RESTORE_ROLE}'")
    roles = "\n".join(
        f"        {literal(group)} = @{{ RoleCapabilities = {named} }}" for group, named in of.items()
    )
    return f"""\
@{{
    SchemaVersion       = '2.0.0.0'
    GUID                = '{uuid.uuid5(_NAMESPACE, f"endpoint {endpoint}")}'
    Author              = 'hvpsbridge'
    Description         = 'Backup of Hyper-V virtual machines with hvpsbridge'
    SessionType         = 'RestrictedRemoteServer'
    LanguageMode        = 'NoLanguage'
    ExecutionPolicy     = 'RemoteSigned'
    # An administrator of this host for as long as the session lasts: disks cannot be attached with less.
    RunAsVirtualAccount = $true
    RoleDefinitions     = @{{
{roles}
    }}
}}
"""


def _registration(endpoint: str) -> str:
    return f"""\
<#
.SYNOPSIS
    Installs the module {MODULE} and registers the JEA endpoint {endpoint}, or replaces both.
.DESCRIPTION
    Run it as administrator in Windows PowerShell 5.1, from the folder that hvps jea wrote. It restarts the
    WinRM service, which ends all remote sessions of this host: run it while no backup runs.
.PARAMETER Remove
    Unregister the endpoint and delete the module instead.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess = $true)]
param([switch] $Remove)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$name = {literal(endpoint)}
$target = Join-Path -Path $env:ProgramFiles -ChildPath 'WindowsPowerShell\\Modules\\{MODULE}'
$registered = @(Get-PSSessionConfiguration | Where-Object {{ $_.Name -eq $name }})
if ($registered.Count -gt 0 -and $PSCmdlet.ShouldProcess($name, 'Unregister the endpoint')) {{
    Unregister-PSSessionConfiguration -Name $name -Force -NoServiceRestart
}}
if ((Test-Path -LiteralPath $target) -and $PSCmdlet.ShouldProcess($target, 'Delete the module')) {{
    Remove-Item -LiteralPath $target -Recurse -Force
}}
if (-not $Remove) {{
    $source = Join-Path -Path $PSScriptRoot -ChildPath '{MODULE}'
    $configuration = Join-Path -Path $PSScriptRoot -ChildPath ($name + '.pssc')
    if (-not (Test-PSSessionConfigurationFile -Path $configuration)) {{
        throw "$configuration is damaged: run hvps jea again"
    }}
    if ($PSCmdlet.ShouldProcess($target, 'Install the module')) {{
        Copy-Item -LiteralPath $source -Destination $target -Recurse
    }}
    if ($PSCmdlet.ShouldProcess($name, 'Register the endpoint')) {{
        $null = Register-PSSessionConfiguration -Name $name -Path $configuration -Force -NoServiceRestart
    }}
}}
if ($PSCmdlet.ShouldProcess('WinRM', 'Restart the service')) {{
    Restart-Service -Name WinRM -Force
}}
"""


# Of the GUIDs in the files, which must be the same each time.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "jea.hvpsbridge")


def _names() -> str:
    """The exported functions as PowerShell literals, comma-separated."""
    return _listed((KIT_INFO.name, *OPERATIONS))


def _listed(commands: Iterable[str]) -> str:
    names = ", ".join(literal(name) for name in commands)
    return textwrap.fill(names, 110, subsequent_indent=" " * 8, break_on_hyphens=False)


def _module_version() -> str:
    """The version of hvpsbridge as a .NET version: the leading numbers only."""
    numbers = []
    for part in __version__.split("."):
        if not part.isdigit():
            break
        numbers.append(part)
    return ".".join([*numbers, "0", "0"][: max(2, len(numbers))])
