"""Errors of Hyper-V hosts and of connections to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from hvpsbridge.errors.base import ExitCode, HvpsError
from hvpsbridge.errors.codes import code_text, find_code

# A file of a VM in a text of a host, and in how many letters of it that is looked for.
_VM_FILE = re.compile(
    r"""(?:[A-Z]:|\\\\[^\\:*?"<>|']+)\\[^:*?"<>|']+?\.(?:a?vhdx?|vhds|vmcx|vmrs|vmgs)\b""", re.IGNORECASE
)
_SEARCHED = 2000


@dataclass(eq=False)
class HostError(HvpsError):
    """Something failed on a Hyper-V host or on the way to it."""

    host: str
    exit_code: ClassVar[ExitCode] = ExitCode.VM_FAILED


@dataclass(eq=False)
class HostUnreachable(HostError):
    """Nothing answered as WSMan."""

    reason: str
    template: ClassVar[str] = "host {host} cannot be reached: {reason}"
    remedy: ClassVar[str] = "check the address, the WinRM listener and the firewall"
    exit_code: ClassVar[ExitCode] = ExitCode.HOST_UNREACHABLE


@dataclass(eq=False)
class ConnectionLimit(HostUnreachable):
    """This machine does not allow another connection. The host may well answer."""

    template: ClassVar[str] = "cannot connect to host {host}: {reason}"
    remedy: ClassVar[str] = (
        "raise the limits of this machine (ulimit -n), or use fewer --forks and --max-readers"
    )
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class HostBusy(HostUnreachable):
    """The host answers, but its WinRM service cannot open a shell now."""

    template: ClassVar[str] = "host {host} cannot open a shell: {reason}"
    remedy: ClassVar[str] = "its WinRM service is starting, stopping or at a limit; try again later"


@dataclass(eq=False)
class HostRefused(HostError):
    """The host refused the login, or refuses it from now on."""

    reason: str
    template: ClassVar[str] = "host {host} refused the login: {reason}"
    remedy: ClassVar[str] = (
        "check user, password and authentication method; the user must be an administrator on the host, "
        "and Windows filters local ones: see the account in docs/real-host.md"
    )
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


@dataclass(eq=False)
class EndpointDiffers(HostError):
    """The JEA endpoint of the host does not have the commands of this version."""

    endpoint: str
    reason: str
    template: ClassVar[str] = "host {host}: cannot use its JEA endpoint {endpoint}: {reason}"
    remedy: ClassVar[str] = "write the kit of this version with hvps jea and register it on the host"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


@dataclass(eq=False)
class TicketRefused(HostRefused):
    """There is no Kerberos ticket for the host, or the host does not accept it."""

    template: ClassVar[str] = "Kerberos login to host {host} failed: {reason}"
    remedy: ClassVar[str] = "see Kerberos in docs/real-host.md"


@dataclass(eq=False)
class KdcUnreachable(HostUnreachable):
    """No domain controller (Kerberos KDC) answers, so there is no ticket for the host."""

    template: ClassVar[str] = "cannot get a Kerberos ticket for host {host}: {reason}"
    remedy: ClassVar[str] = "check the realm in /etc/krb5.conf, DNS and the firewall (port 88)"


@dataclass(eq=False)
class CertificateRejected(HostError):
    """TLS verification failed. The reason includes a remedy."""

    reason: str
    template: ClassVar[str] = "the certificate of host {host} was not accepted: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


@dataclass(eq=False)
class CertificateChanged(CertificateRejected):
    """The host shows another certificate than the one that is pinned. Nothing was sent to it."""

    template: ClassVar[str] = "the certificate of host {host} is not the pinned one: it has {reason}"
    remedy: ClassVar[str] = (
        "if it was renewed, compare it on the host, then pin it with `hvps host trust {host}`; "
        "if not, somebody may be intercepting the connection"
    )


@dataclass(eq=False)
class SessionLost(HostError):
    """The connection or the shell is gone. Whether the operation was done is not known yet."""

    operation: str
    reason: str
    template: ClassVar[str] = "{operation} on {host}: connection lost: {reason}"
    remedy: ClassVar[str] = "check the network and the host, then run again"


@dataclass(eq=False)
class OperationTimedOut(HostError):
    """An operation did not finish within its deadline."""

    operation: str
    deadline_seconds: float
    template: ClassVar[str] = "{operation} on {host} did not finish within {deadline_seconds:.0f} s"
    remedy: ClassVar[str] = "check the load on the host, then run again"


@dataclass(eq=False)
class OperationFailed(HostError):
    """The host itself reported an error for an operation.

    Attributes:
        error_id: ``Hvps.*`` id when a script named it, else the host's FullyQualifiedErrorId.
        category: PowerShell's ErrorCategory as a word.
        native: HRESULT, WMI or Win32 code when one is known.
        message: the host's own text, in the host's language; never decided on.
        otherwise: what to do if the code is not known.
    """

    operation: str
    error_id: str
    category: str
    native: int | None
    message: str

    template: ClassVar[str] = "{operation} on {host}: {error_id}{native_code}: {message}"
    remedy: ClassVar[str] = "{code_remedy}"
    otherwise: ClassVar[str] = "see the Hyper-V event logs of the host"

    @property
    def id_and_code(self) -> str:
        """The id, and the code if there is one, such as ``Hvps.DiskBusy, 0x00000020``."""
        return self.error_id if self.native is None else f"{self.error_id}, 0x{self.native & 0xFFFFFFFF:08X}"

    def _values(self) -> dict[str, object]:
        code, remedy = "", self.otherwise
        if self.native is not None:
            code = f" {code_text(self.native)}"
            known = find_code(self.native)
            remedy = remedy if known is None else known.remedy
        return {**super()._values(), "native_code": code, "code_remedy": remedy}


@dataclass(eq=False)
class VmNotFound(OperationFailed):
    """The VM is not on this host, or not any more."""

    remedy: ClassVar[str] = "run `hvps inventory {host}` to list its VMs"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class AccessDenied(OperationFailed):
    """The login worked, but Windows denied one operation or a call in it."""

    template: ClassVar[str] = "{operation} on {host}: access denied{native_code}: {message}"
    otherwise: ClassVar[str] = (
        "the user must be an administrator on the host; if it is, check the rights on the VM and its files"
    )
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


@dataclass(eq=False)
class CheckpointNotFound(OperationFailed):
    """The checkpoint does not exist any more."""

    remedy: ClassVar[str] = "find out what removes checkpoints on this host"


@dataclass(eq=False)
class ConsistencyNotReached(OperationFailed):
    """The guest could not prepare for an application consistent checkpoint."""

    remedy: ClassVar[str] = "check the backup integration service in the guest, or allow crash consistency"


@dataclass(eq=False)
class VmBusy(OperationFailed):
    """Another checkpoint operation, migration or backup uses the VM."""

    remedy: ClassVar[str] = "wait until the other backup, checkpoint or migration of this VM has finished"


@dataclass(eq=False)
class JobBusy(VmBusy):
    """The host began an operation, which failed because something was busy or in use."""


@dataclass(eq=False)
class FileLocked(JobBusy):
    """A file of the VM is open in another program, so that the operation failed.

    The text of the host often names the file. It is for people: nothing decides on it.
    """

    remedy: ClassVar[str] = (
        "find out what has a file of the VM open, such as an antivirus or backup program on the host; a lock "
        "that stays ends when that program ends, or when the host restarts"
    )

    def _values(self) -> dict[str, object]:
        found = _VM_FILE.search(self.message[:_SEARCHED])
        message = f"{found[0]} is in use: {self.message}" if found else self.message
        return {**super()._values(), "message": message}


@dataclass(eq=False)
class TrackingUnusable(OperationFailed):
    """Change tracking cannot answer for this id: it is unknown, switched off or damaged."""

    remedy: ClassVar[str] = "no action is needed: hvps compares the disk instead"


@dataclass(eq=False)
class DiskUnreadable(OperationFailed):
    """A frozen disk cannot be opened or read."""

    otherwise: ClassVar[str] = "check the storage of the host"


@dataclass(eq=False)
class DiskBusy(DiskUnreadable):
    """Another process has attached the frozen disk."""

    remedy: ClassVar[str] = "find out which process has attached the disk"


@dataclass(eq=False)
class ScriptsRefused(OperationFailed):
    """Language mode, AMSI or application control forbids the scripts of hvps."""

    remedy: ClassVar[str] = "see docs/troubleshooting.md on language mode and endpoint protection"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


@dataclass(eq=False)
class HostDiskFull(OperationFailed):
    """A volume of the host is too full for the files of the checkpoint."""

    remedy: ClassVar[str] = "free space on the volumes of the VM"
    exit_code: ClassVar[ExitCode] = ExitCode.NO_SPACE


@dataclass(eq=False)
class CommitForkFailed(OperationFailed):
    """Event 3216 or HRESULT 0x80048102: data of this VM is at risk, so hvps removes nothing."""

    remedy: ClassVar[str] = "do not restart or migrate the VM; see docs/troubleshooting.md"


@dataclass(eq=False)
class ProtocolViolation(HostError):
    """A reply breaks the contract: fields, types, sequence, bounds or digest."""

    operation: str
    what: str
    template: ClassVar[str] = "{operation} on {host}: invalid reply: {what}"
    remedy: ClassVar[str] = "run again with -vv, and report it if it happens again"


@dataclass(eq=False)
class AmbiguousVm(HostError):
    """Several VMs have this name."""

    vm: str
    vm_ids: tuple[str, ...]
    template: ClassVar[str] = "host {host} has several VMs named {vm!r}: {vm_ids}"
    remedy: ClassVar[str] = "use the id of the VM"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class VmOnSeveralHosts(HostError):
    """Several hosts list one VM id, and none of them is a replica of another.

    Attributes:
        host: the hosts, in one text.
        done: what hvps did about it.
    """

    vm: str
    vm_id: UUID
    done: str
    template: ClassVar[str] = "the hosts {host} all list VM {vm!r} with the id {vm_id}: {done}"
    remedy: ClassVar[str] = "find out which is the real VM, then remove or exclude the others"


@dataclass(eq=False)
class VmMissing(HostError):
    """The host lists no VM with this name or id."""

    vm: str
    template: ClassVar[str] = "no VM {vm!r} on {host}"
    remedy: ClassVar[str] = "run `hvps inventory {host}` to list its VMs"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class VmRenamed(HostError):
    """A VM is selected by a name that it had when it was backed up before. It is used all the same."""

    vm: str
    now: str
    template: ClassVar[str] = "VM {vm!r} on {host} is now called {now!r}"
    remedy: ClassVar[str] = "use the new name, or the id of the VM"
    exit_code: ClassVar[ExitCode] = ExitCode.DEGRADED  # 5 would outrank the failures of other VMs


@dataclass(eq=False)
class CheckpointGone(HostError):
    """Something else removed the recovery checkpoint of a running backup."""

    vm: str
    template: ClassVar[str] = (
        "the recovery checkpoint of VM {vm} on {host} was removed while its disks were read"
    )
    remedy: ClassVar[str] = "find out what removes recovery checkpoints on this host during backups"


@dataclass(eq=False)
class HostNotClean(HostError):
    """The data is safe, but the host still has something that hvps made there, or may have made."""

    vm: str
    leftovers: tuple[str, ...]
    template: ClassVar[str] = "left on host {host} for VM {vm}: {leftovers}"
    # After event 3216 no run removes anything (docs/hyperv-facts.md#commit-forks).
    remedy: ClassVar[str] = (
        "the next run removes what hvps certainly created, but nothing after event 3216, "
        "and reports the rest again"
    )
    exit_code: ClassVar[ExitCode] = ExitCode.HOST_NOT_CLEAN


@dataclass(eq=False)
class VmDoesNotRun(HostError):
    """A restored VM was started, but does not run."""

    vm_name: str
    template: ClassVar[str] = "VM {vm_name} on {host} was restored and started, but does not run"
    remedy: ClassVar[str] = "look into the Hyper-V event logs of the host, then start it there"


@dataclass(eq=False)
class VmNoHeartbeat(HostError):
    """The guest of a drill did not answer in time."""

    vm_name: str
    seconds: float
    last: str
    template: ClassVar[str] = (
        "VM {vm_name} on {host} was restored and runs, but showed no heartbeat in {seconds:.0f} s "
        "(it is {last})"
    )
    remedy: ClassVar[str] = "wait longer, or restore the point with --start and look at its screen"


@dataclass(eq=False)
class RestoreDiffers(HostError):
    """A restored disk is not what is in the repository, as the host reads it."""

    path: str
    offset: int
    template: ClassVar[str] = "{path} on {host} was written, but differs from the point at byte {offset}"
    remedy: ClassVar[str] = "check the storage of the host, then restore again"
