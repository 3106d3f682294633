"""Every failure hvps can report, as one tree. Facts are fields; text and exit code derive from them.

The branches say whose fault it is: the playbook's, the host's, the repository's, a policy's, or ours.
A class says what was attempted on what, what was seen, and (``remedy``) what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Process exit codes (design section 9). The JSON report names every condition; this is a summary."""

    DONE = 0
    BUG = 1
    VM_FAILED = 2
    DEGRADED = 3
    HOST_UNREACHABLE = 4
    INVALID = 5
    HOST_NOT_CLEAN = 6
    DAMAGE = 7
    POLICY = 8
    NO_REPOSITORY = 10
    LOCKED = 11
    WRONG_KEY = 12
    NO_SPACE = 13
    REFUSED = 14
    USAGE = 64
    GATED = 75
    INTERRUPTED = 130
    TERMINATED = 143


# When several conditions hold, the first of these wins (design section 9, which leaves out 5: a VM that
# was not found must not hide damage). An interrupt beats them all: the shell that sent it wants to see it.
PRECEDENCE: tuple[ExitCode, ...] = (
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.USAGE,
    ExitCode.DAMAGE,
    ExitCode.BUG,
    ExitCode.NO_SPACE,
    ExitCode.WRONG_KEY,
    ExitCode.NO_REPOSITORY,
    ExitCode.LOCKED,
    ExitCode.INVALID,
    ExitCode.VM_FAILED,
    ExitCode.REFUSED,
    ExitCode.HOST_UNREACHABLE,
    ExitCode.HOST_NOT_CLEAN,
    ExitCode.POLICY,
    ExitCode.DEGRADED,
    ExitCode.GATED,
)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The one exit code that stands for several conditions; ``DONE`` for none."""
    seen = set(codes)
    return next((code for code in PRECEDENCE if code in seen), ExitCode.DONE)


@dataclass(eq=False)
class HvpsError(Exception):
    """Root of the tree. Subclasses are dataclasses that add fields and override :meth:`describe`."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG
    remedy: ClassVar[str] = ""

    def describe(self) -> str:
        """What was attempted on what, and what was seen; one line, no full stop."""
        return type(self).__name__

    def __str__(self) -> str:
        return f"{self.describe()}; {self.remedy}" if self.remedy else self.describe()

    def facts(self) -> dict[str, object]:
        """The fields by name, for the JSON report."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def kind(self) -> str:
        """Stable identifier of this condition in reports: the class name."""
        return type(self).__name__


# -- ours ----------------------------------------------------------------------------------------


@dataclass(eq=False)
class InternalError(HvpsError):
    """An invariant of hvps itself does not hold."""

    what: str
    remedy: ClassVar[str] = "this is a bug in hvps: please report it with the log"

    def describe(self) -> str:
        return self.what


@dataclass(eq=False)
class Interrupted(HvpsError):
    """SIGINT, SIGTERM or SIGHUP arrived; the run was undone."""

    signal_name: str

    @property
    def code(self) -> ExitCode:
        """130 for SIGINT, 143 for SIGTERM, as shells expect; 143 for a closed terminal, too."""
        terminated = self.signal_name in ("SIGTERM", "SIGHUP")
        return ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED

    exit_code: ClassVar[ExitCode] = ExitCode.INTERRUPTED

    def describe(self) -> str:
        return f"stopped by {self.signal_name}"


# -- the playbook's, the command line's ------------------------------------------------------------


@dataclass(eq=False)
class UsageError(HvpsError):
    """The command line makes no sense."""

    what: str
    exit_code: ClassVar[ExitCode] = ExitCode.USAGE

    def describe(self) -> str:
        return self.what


@dataclass(eq=False)
class ConfigurationError(HvpsError):
    """A playbook, configuration file or secret reference is wrong."""

    where: str
    what: str
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    def describe(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(eq=False)
class SecretUnavailable(ConfigurationError):
    """A secret reference could not be resolved; the value is never part of the text."""


@dataclass(eq=False)
class PointNotFound(HvpsError):
    """No recovery point answers to the selector."""

    selector: str
    repository: str
    remedy: ClassVar[str] = "hvps list shows the points there are"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    def describe(self) -> str:
        return f"no recovery point {self.selector!r} in {self.repository}"


@dataclass(eq=False)
class AmbiguousPoint(PointNotFound):
    """A short id or VM name stands for more than one."""

    candidates: tuple[str, ...]
    remedy: ClassVar[str] = "use one of these ids"

    def describe(self) -> str:
        return f"{self.selector!r} in {self.repository} means any of {', '.join(self.candidates)}"


@dataclass(eq=False)
class TargetExists(HvpsError):
    """A restore would overwrite a file."""

    path: str
    remedy: ClassVar[str] = "name another path, or pass --overwrite"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    def describe(self) -> str:
        return f"restore target {self.path} exists"


# -- this machine's ------------------------------------------------------------------------------------


@dataclass(eq=False)
class ToolMissing(HvpsError):
    """An external program that something optional needs is not installed here."""

    tool: str
    package: str
    purpose: str
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    def describe(self) -> str:
        return f"{self.purpose} needs {self.tool}; install Debian package {self.package}"


@dataclass(eq=False)
class ToolFailed(HvpsError):
    """An external program did not do what it was asked."""

    tool: str
    status: int
    said: str
    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def describe(self) -> str:
        return f"{self.tool} ended with status {self.status}: {self.said}"


# -- the host's --------------------------------------------------------------------------------------


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


# -- a policy's ----------------------------------------------------------------------------------------


@dataclass(eq=False)
class NotEligible(HvpsError):
    """A VM or disk cannot be backed up as it is; the reason carries its own remedy."""

    vm: str
    reason: str
    exit_code: ClassVar[ExitCode] = ExitCode.VM_FAILED

    def describe(self) -> str:
        return f"VM {self.vm} cannot be backed up: {self.reason}"


@dataclass(eq=False)
class Gated(HvpsError):
    """Not now: a gate such as another product's recovery checkpoint is shut."""

    vm: str
    reason: str
    exit_code: ClassVar[ExitCode] = ExitCode.GATED

    def describe(self) -> str:
        return f"VM {self.vm} skipped: {self.reason}"


@dataclass(eq=False)
class StoppedByPolicy(HvpsError):
    """A limit the user set (age, free space, deadline, unexpected full) stopped the run."""

    vm: str
    reason: str
    exit_code: ClassVar[ExitCode] = ExitCode.POLICY

    def describe(self) -> str:
        return f"VM {self.vm} stopped: {self.reason}"


@dataclass(eq=False)
class HostNoSpace(StoppedByPolicy):
    """A volume of the VM is, or would become, too full for a checkpoint."""

    exit_code: ClassVar[ExitCode] = ExitCode.NO_SPACE


# -- the repository's ------------------------------------------------------------------------------------


@dataclass(eq=False)
class RepositoryError(HvpsError):
    """Something failed in or towards a repository."""

    repository: str
    exit_code: ClassVar[ExitCode] = ExitCode.NO_REPOSITORY


@dataclass(eq=False)
class NoRepository(RepositoryError):
    """There is no repository at the URL."""

    remedy: ClassVar[str] = "hvps repo init makes one"

    def describe(self) -> str:
        return f"no repository at {self.repository}"


@dataclass(eq=False)
class RepositoryExists(RepositoryError):
    """``repo init`` would overwrite a repository or a folder in use."""

    what: str
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    def describe(self) -> str:
        return f"cannot make a repository at {self.repository}: {self.what}"


@dataclass(eq=False)
class NewerFormat(RepositoryError):
    """Written by a newer hvps."""

    found: int
    known: int
    remedy: ClassVar[str] = "use a newer hvps"

    def describe(self) -> str:
        return f"repository {self.repository} has format {self.found}; this hvps knows up to {self.known}"


@dataclass(eq=False)
class NewerObject(RepositoryError):
    """An object has fields of a newer hvps, within a format that this one knows."""

    name: str
    what: str
    remedy: ClassVar[str] = "use the newer hvps"

    def describe(self) -> str:
        return f"{self.name} in {self.repository} was written by a newer hvps: {self.what}"


@dataclass(eq=False)
class StoreError(RepositoryError):
    """The store failed to do what it was asked: rights, network, breach of contract."""

    action: str
    name: str
    reason: str

    def describe(self) -> str:
        return f"{self.action} {self.name} in {self.repository}: {self.reason}"


@dataclass(eq=False)
class ObjectMissing(StoreError):
    """An object is not in the store."""


@dataclass(eq=False)
class ObjectExists(StoreError):
    """Create-if-absent found the name taken."""


@dataclass(eq=False)
class NoSpace(StoreError):
    """The store is full."""

    exit_code: ClassVar[ExitCode] = ExitCode.NO_SPACE
    remedy: ClassVar[str] = "free some space; what is committed is safe"


@dataclass(eq=False)
class RepositoryLocked(RepositoryError):
    """Somebody else works on the same VM (or repository) right now."""

    what: str
    holder: str
    exit_code: ClassVar[ExitCode] = ExitCode.LOCKED
    remedy: ClassVar[str] = "wait for it to end"

    def describe(self) -> str:
        return f"{self.what} in {self.repository} is held by {self.holder}"


@dataclass(eq=False)
class LeaseLost(RepositoryLocked):
    """Our own lease was taken over while we worked; nothing further may be written."""

    remedy: ClassVar[str] = "this run stops; the holder goes on"


@dataclass(eq=False)
class WrongKey(RepositoryError):
    """The key opens no slot of the repository, or none was given for a sealed one."""

    reason: str
    exit_code: ClassVar[ExitCode] = ExitCode.WRONG_KEY

    def describe(self) -> str:
        return f"cannot unlock {self.repository}: {self.reason}"


@dataclass(eq=False)
class KeyNeeded(RepositoryError):
    """The last key slot must stay, or there is no such slot, or there are no keys at all."""

    reason: str
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    def describe(self) -> str:
        return f"keys of {self.repository}: {self.reason}"


@dataclass(eq=False)
class Damaged(RepositoryError):
    """Stored bytes are not what was written."""

    name: str
    what: str
    exit_code: ClassVar[ExitCode] = ExitCode.DAMAGE
    remedy: ClassVar[str] = "hvps verify names every point this touches"

    def describe(self) -> str:
        return f"{self.name} in {self.repository} is damaged: {self.what}"


@dataclass(eq=False)
class TrackingLied(HvpsError):
    """A digest taken on the host contradicts what change tracking said; the lineage is distrusted."""

    vm: str
    disk: str
    chunks: int
    exit_code: ClassVar[ExitCode] = ExitCode.DAMAGE
    remedy: ClassVar[str] = "this disk is compared whole until it has proved itself again"

    def describe(self) -> str:
        return f"change tracking of VM {self.vm} disk {self.disk} left out {self.chunks} changed chunks"


# -- the simulated host's ----------------------------------------------------------------------------------


@dataclass(eq=False)
class SimulatorError(HvpsError):
    """A simulated host could not be reached or started, or would not do what it was told."""

    what: str
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    def describe(self) -> str:
        return f"simulated host: {self.what}"
