"""What fails on or towards a Hyper-V host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError


@dataclass(eq=False)
class HostError(HvpsError):
    """Something failed on or towards a Hyper-V host."""

    host: str
    exit_code: ClassVar[ExitCode] = ExitCode.VM_FAILED


@dataclass(eq=False)
class HostUnreachable(HostError):
    """No WSMan answer at all."""

    reason: str
    template: ClassVar[str] = "host {host} cannot be reached: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.HOST_UNREACHABLE
    remedy: ClassVar[str] = "check the address, the WinRM listener and the firewall"


@dataclass(eq=False)
class HostBusy(HostUnreachable):
    """The host answers, but opens no shell at this moment: its WinRM service starts, stops or is full."""

    template: ClassVar[str] = "host {host} opens no shell now: {reason}"


@dataclass(eq=False)
class HostRefused(HostError):
    """Authentication or authorisation failed."""

    reason: str
    template: ClassVar[str] = "host {host} refused us: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED
    remedy: ClassVar[str] = (
        "check user, password and authentication type; the account must be an administrator there"
    )


@dataclass(eq=False)
class TicketRefused(HostRefused):
    """Kerberos gave no ticket for the host, or the host did not take it; the reason carries its remedy."""

    template: ClassVar[str] = "no Kerberos session with host {host}: {reason}"
    remedy: ClassVar[str] = "docs/real-host.md, Kerberos, tells more"


@dataclass(eq=False)
class KdcUnreachable(HostUnreachable):
    """No domain controller (Kerberos KDC) answers, so there is no ticket for the host."""

    template: ClassVar[str] = "no ticket for host {host}: {reason}"
    remedy: ClassVar[str] = "check the realm in /etc/krb5.conf, the name service and the firewall (port 88)"


@dataclass(eq=False)
class CertificateRejected(HostError):
    """TLS verification failed; never ignored."""

    reason: str
    template: ClassVar[str] = "certificate of host {host} was not accepted: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED
    remedy: ClassVar[str] = "give the host's CA certificate (ca: or --ca)"


@dataclass(eq=False)
class SessionLost(HostError):
    """The connection or the shell went away; what was under way is unknown until looked at."""

    operation: str
    reason: str
    template: ClassVar[str] = "{operation} on {host}: session lost: {reason}"


@dataclass(eq=False)
class OperationTimedOut(HostError):
    """An operation did not end within its deadline."""

    operation: str
    deadline_seconds: float
    template: ClassVar[str] = "{operation} on {host} did not end within {deadline_seconds:.0f} s"


@dataclass(eq=False)
class OperationFailed(HostError):
    """The host itself reported an error for an operation.

    Attributes:
        error_id: ``Hvps.*`` id when a script named it, else the host's FullyQualifiedErrorId.
        category: PowerShell's ErrorCategory as a word.
        native: HRESULT, WMI or Win32 code when one is known.
        message: the host's own text, in the host's language; never decided on.
    """

    operation: str
    error_id: str
    category: str
    native: int | None
    message: str

    template: ClassVar[str] = "{operation} on {host}: {error_id}{native_code}: {message}"

    def _values(self) -> dict[str, object]:
        code = "" if self.native is None else f" 0x{self.native & 0xFFFFFFFF:08X}"
        return {**super()._values(), "native_code": code}


@dataclass(eq=False)
class VmNotFound(OperationFailed):
    """The VM is not on this host (any more)."""

    exit_code: ClassVar[ExitCode] = ExitCode.INVALID
    remedy: ClassVar[str] = "hvps inventory HOST lists the VMs there"


@dataclass(eq=False)
class CheckpointNotFound(OperationFailed):
    """The checkpoint is gone."""


@dataclass(eq=False)
class ConsistencyNotReached(OperationFailed):
    """An application consistent checkpoint failed in the guest."""

    remedy: ClassVar[str] = "check the guest's backup integration service, or allow crash consistency"


@dataclass(eq=False)
class VmBusy(OperationFailed):
    """Another snapshot operation, migration or backup holds the VM."""


@dataclass(eq=False)
class TrackingUnusable(OperationFailed):
    """Change tracking cannot answer for this id: unknown, switched off or damaged. Leads to a compare."""


@dataclass(eq=False)
class DiskUnreadable(OperationFailed):
    """A frozen disk could not be opened or read."""


@dataclass(eq=False)
class DiskBusy(DiskUnreadable):
    """A frozen disk is attached by another process."""


@dataclass(eq=False)
class ScriptsRefused(OperationFailed):
    """Language mode, AMSI or application control forbids our scripts."""

    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED
    remedy: ClassVar[str] = "see docs/troubleshooting.md on language mode and endpoint protection"


@dataclass(eq=False)
class HostDiskFull(OperationFailed):
    """A volume of the host has no room for the checkpoint's files."""

    exit_code: ClassVar[ExitCode] = ExitCode.NO_SPACE
    remedy: ClassVar[str] = "free some space on the VM's volumes"


@dataclass(eq=False)
class CommitForkFailed(OperationFailed):
    """Event 3216 or HRESULT 0x80048102: data of this VM is at risk; nothing is cleaned up."""

    remedy: ClassVar[str] = "do not restart or migrate the VM; see docs/troubleshooting.md"


@dataclass(eq=False)
class ProtocolViolation(HostError):
    """A reply does not follow the contract: fields, types, sequence, bounds or digest."""

    operation: str
    what: str
    template: ClassVar[str] = "{operation} on {host}: unusable reply: {what}"


@dataclass(eq=False)
class AmbiguousVm(HostError):
    """A VM name is taken more than once."""

    vm: str
    vm_ids: tuple[str, ...]
    template: ClassVar[str] = "VM name {vm!r} on {host} is taken by {vm_ids}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID
    remedy: ClassVar[str] = "name the VM by its id"


@dataclass(eq=False)
class VmMissing(HostError):
    """No VM of that name or id was listed."""

    vm: str
    template: ClassVar[str] = "no VM {vm!r} on {host}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID
    remedy: ClassVar[str] = "hvps inventory HOST lists the VMs there"


@dataclass(eq=False)
class CheckpointGone(HostError):
    """A recovery checkpoint of ours was removed by somebody else while its disks were read."""

    vm: str
    template: ClassVar[str] = "the recovery checkpoint of VM {vm} on {host} is gone while its disks are read"
    remedy: ClassVar[str] = "see who removes recovery checkpoints on this host while backups run"


@dataclass(eq=False)
class HostNotClean(HostError):
    """Data is safe, but something of ours is still on the host."""

    vm: str
    leftovers: tuple[str, ...]
    template: ClassVar[str] = "left on {host} for VM {vm}: {leftovers}"
    exit_code: ClassVar[ExitCode] = ExitCode.HOST_NOT_CLEAN
    remedy: ClassVar[str] = "the next run settles it"
