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
    exit_code: ClassVar[ExitCode] = ExitCode.HOST_UNREACHABLE
    remedy: ClassVar[str] = "check the address, the WinRM listener and the firewall"

    def describe(self) -> str:
        return f"host {self.host} cannot be reached: {self.reason}"


@dataclass(eq=False)
class HostBusy(HostUnreachable):
    """The host answers, but opens no shell at this moment: its WinRM service starts, stops or is full."""

    def describe(self) -> str:
        return f"host {self.host} opens no shell now: {self.reason}"


@dataclass(eq=False)
class HostRefused(HostError):
    """Authentication or authorisation failed."""

    reason: str
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED
    remedy: ClassVar[str] = (
        "check user, password and authentication type; the account must be an administrator there"
    )

    def describe(self) -> str:
        return f"host {self.host} refused us: {self.reason}"


@dataclass(eq=False)
class TicketRefused(HostRefused):
    """Kerberos gave no ticket for the host, or the host did not take it; the reason carries its remedy."""

    remedy: ClassVar[str] = "docs/real-host.md, Kerberos, tells more"

    def describe(self) -> str:
        return f"no Kerberos session with host {self.host}: {self.reason}"


@dataclass(eq=False)
class KdcUnreachable(HostUnreachable):
    """No domain controller (Kerberos KDC) answers, so there is no ticket for the host."""

    remedy: ClassVar[str] = "check the realm in /etc/krb5.conf, the name service and the firewall (port 88)"

    def describe(self) -> str:
        return f"no ticket for host {self.host}: {self.reason}"


@dataclass(eq=False)
class CertificateRejected(HostError):
    """TLS verification failed; never ignored."""

    reason: str
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED
    remedy: ClassVar[str] = "give the host's CA certificate (ca: or --ca)"

    def describe(self) -> str:
        return f"certificate of host {self.host} was not accepted: {self.reason}"


@dataclass(eq=False)
class SessionLost(HostError):
    """The connection or the shell went away; what was under way is unknown until looked at."""

    operation: str
    reason: str

    def describe(self) -> str:
        return f"{self.operation} on {self.host}: session lost: {self.reason}"


@dataclass(eq=False)
class OperationTimedOut(HostError):
    """An operation did not end within its deadline."""

    operation: str
    deadline_seconds: float

    def describe(self) -> str:
        return f"{self.operation} on {self.host} did not end within {self.deadline_seconds:.0f} s"


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

    def describe(self) -> str:
        code = "" if self.native is None else f" 0x{self.native & 0xFFFFFFFF:08X}"
        return f"{self.operation} on {self.host}: {self.error_id}{code}: {self.message}"


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

    def describe(self) -> str:
        return f"{self.operation} on {self.host}: unusable reply: {self.what}"


@dataclass(eq=False)
class AmbiguousVm(HostError):
    """A VM name is taken more than once."""

    vm: str
    vm_ids: tuple[str, ...]
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID
    remedy: ClassVar[str] = "name the VM by its id"

    def describe(self) -> str:
        return f"VM name {self.vm!r} on {self.host} is taken by {' and '.join(self.vm_ids)}"


@dataclass(eq=False)
class VmMissing(HostError):
    """No VM of that name or id was listed."""

    vm: str
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID
    remedy: ClassVar[str] = "hvps inventory HOST lists the VMs there"

    def describe(self) -> str:
        return f"no VM {self.vm!r} on {self.host}"


@dataclass(eq=False)
class CheckpointGone(HostError):
    """A recovery checkpoint of ours was removed by somebody else while its disks were read."""

    vm: str
    remedy: ClassVar[str] = "see who removes recovery checkpoints on this host while backups run"

    def describe(self) -> str:
        return f"the recovery checkpoint of VM {self.vm} on {self.host} is gone while its disks are read"


@dataclass(eq=False)
class HostNotClean(HostError):
    """Data is safe, but something of ours is still on the host."""

    vm: str
    leftovers: tuple[str, ...]
    exit_code: ClassVar[ExitCode] = ExitCode.HOST_NOT_CLEAN
    remedy: ClassVar[str] = "the next run settles it"

    def describe(self) -> str:
        return f"left on {self.host} for VM {self.vm}: {', '.join(self.leftovers)}"
