"""XML of the WinRM configuration, as Get shows it (docs/hyperv-facts.md#winrm-configuration)."""

from __future__ import annotations

from hvpsbridge.sim.wsman import names
from hvpsbridge.sim.wsman.envelope import Fault
from hvpsbridge.sim.wsman.names import Code
from hvpsbridge.sim.wsman.shells import Quotas

_UNLIMITED = 2_147_483_647


def describe_configuration(resource_uri: str, quotas: Quotas) -> bytes:
    """The configuration of the service, or of the PowerShell endpoint.

    Raises:
        Fault: the configuration has no such part.
    """
    if resource_uri == names.CONFIG:
        return _service(quotas).encode()
    if resource_uri == f"{names.CONFIG}/plugin":
        return _endpoint(quotas).encode()
    raise Fault(Code.INVALID_RESOURCE_URI, f"The resource {resource_uri!r} does not exist.")


def _service(quotas: Quotas) -> str:
    parts = {
        "MaxConcurrentUsers": _UNLIMITED,
        "IdleTimeout": int(quotas.idle_seconds * 1000),
        "MaxShellRunTime": _UNLIMITED,
        "MaxProcessesPerShell": _UNLIMITED,
        "MaxMemoryPerShellMB": quotas.shell_memory_mb,
        "MaxShellsPerUser": quotas.shells_per_user,
    }
    return (
        f'<cfg:Config xmlns:cfg="{names.CONFIG}" xml:lang="en-US">'
        f"<cfg:MaxEnvelopeSizekb>{quotas.envelope_bytes // 1024}</cfg:MaxEnvelopeSizekb>"
        "<cfg:MaxTimeoutms>60000</cfg:MaxTimeoutms><cfg:MaxBatchItems>32000</cfg:MaxBatchItems>"
        "<cfg:Service><cfg:MaxConcurrentOperations>4294967295</cfg:MaxConcurrentOperations>"
        f"<cfg:MaxConcurrentOperationsPerUser>{quotas.operations_per_user}"
        "</cfg:MaxConcurrentOperationsPerUser></cfg:Service>"
        f"<cfg:Winrs><cfg:AllowRemoteShellAccess>true</cfg:AllowRemoteShellAccess>{_elements(parts)}"
        "</cfg:Winrs></cfg:Config>"
    )


def _endpoint(quotas: Quotas) -> str:
    values = {
        "MaxIdleTimeoutms": _UNLIMITED,
        "MaxConcurrentUsers": _UNLIMITED,
        "IdleTimeoutms": int(quotas.idle_seconds * 1000),
        "MaxProcessesPerShell": _UNLIMITED,
        "MaxMemoryPerShellMB": quotas.shell_memory_mb,
        "MaxConcurrentCommandsPerShell": quotas.commands_per_shell,
        "MaxShells": _UNLIMITED,
        "MaxShellsPerUser": quotas.shells_per_user,
    }
    attributes = " ".join(f'{name}="{value}"' for name, value in values.items())
    return (
        f'<PlugInConfiguration xmlns="{names.CONFIG}/PluginConfiguration" Name="microsoft.powershell" '
        f'Filename="%windir%\\system32\\pwrshplugin.dll"><Quotas {attributes}/></PlugInConfiguration>'
    )


def _elements(parts: dict[str, int]) -> str:
    return "".join(f"<cfg:{name}>{value}</cfg:{name}>" for name, value in parts.items())
