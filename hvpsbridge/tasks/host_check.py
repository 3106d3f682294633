"""Whether backups can run on a host as it is. Pure: facts of the host in, checks out.

Each check is one line with one remedy. A refusal means that no backup works; a note, that one works with a
drawback; unknown, that the host did not let hvps find out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from hvpsbridge.contract.checks import DiskProbe, GroupState, HostAccess
from hvpsbridge.contract.readings import ReaderCheck
from hvpsbridge.contract.results import HostInfo
from hvpsbridge.errors.codes import code_text, find_code
from hvpsbridge.formats.ids import IdWay
from hvpsbridge.host.checks import RateSample
from hvpsbridge.tasks.host_records import ProvedBuild, build_of
from hvpsbridge.tasks.planning.storage import ACCESS_DENIED, DELEGATION, share_of
from hvpsbridge.units import duration_text, rate_text, size_text

# Windows Server 2016, the first with change tracking (docs/hyperv-facts.md#rct-requirements).
FIRST_BUILD = 14393
# Kerberos refuses tickets beyond this by default; certificates and times of checkpoints are affected, too.
MAX_SKEW = timedelta(minutes=5)
# A certificate that expires sooner is worth a note.
CERTIFICATE_DAYS = 30
# Compiling takes 2 to 10 s; a scanner of the compiler's files makes it longer.
SLOW_COMPILER_SECONDS = 30.0
# Codes that mean that the driver answered, and that the file is in use.
IN_USE = frozenset({32, 33, 0x80070020, 0x80070021, 0xC03A001E, 0xC03A001F})
# Attack surface reduction rules that may stop the reader (docs/hyperv-facts.md#attack-surface-rules).
RULES = {
    "5beb7efe-fd9a-4556-801d-275e5ffc04cc": "scripts that look obfuscated",
    "01443614-cd74-433a-b99e-2ecdc07bfc25": "executables that are new or rare",
}
_ACTIONS = {"1": "blocks", "2": "would block (audit)", "6": "warns of"}


class CheckState(StrEnum):
    """What a check found."""

    GOOD = "good"
    NOTE = "note"
    UNKNOWN = "unknown"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class HostCheck:
    """One thing that was checked. The fields are keys of reports.

    Attributes:
        topic: what was checked, one or two words.
        state: what was found.
        text: the finding, one line.
        remedy: what to do; empty if nothing.
    """

    topic: str
    state: CheckState
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How a host was reached.

    Attributes:
        server: name or address.
        user: None for the user of the Kerberos ticket.
        certificate_days: days until its certificate expires; None without TLS, or if it cannot be read.
        pinned: whether the certificate is accepted by its fingerprint.
        insecure: whether any certificate is accepted.
    """

    server: str
    port: int
    tls: bool
    auth: str
    user: str | None
    certificate_days: int | None
    pinned: bool = False
    insecure: bool = False


def check_reached(reached: Reached) -> Iterator[HostCheck]:
    """Name, port, certificate and login of a host that let us in."""
    yield HostCheck("name", CheckState.GOOD, reached.server)
    # Basic over http is allowed on loopback only.
    encrypted = "" if reached.auth == "basic" else ", with encrypted messages"
    scheme = "https" if reached.tls else f"http{encrypted}"
    yield HostCheck("port", CheckState.GOOD, f"{reached.port} ({scheme})")
    if reached.tls:
        yield _certificate(reached)
    who = reached.user or "the user of the Kerberos ticket"
    yield HostCheck("login", CheckState.GOOD, f"{who}, by {reached.auth}")


def _certificate(reached: Reached) -> HostCheck:
    days = reached.certificate_days
    if reached.insecure:
        text = "any certificate is accepted, so anyone in between can read and change everything"
        return HostCheck("certificate", CheckState.NOTE, text, "pin it with `hvps host trust`")
    how = "pinned" if reached.pinned else "verified"
    if days is None:
        return HostCheck("certificate", CheckState.UNKNOWN, f"{how}; its dates cannot be read")
    if days < CERTIFICATE_DAYS:
        text = f"{how}; it expires in {days} days" if days >= 0 else f"{how}; it has expired"
        remedy = "renew it on the host, and bind the new one to the WinRM listener"
        return HostCheck("certificate", CheckState.NOTE, text, remedy)
    return HostCheck("certificate", CheckState.GOOD, f"{how}; {days} days left")


def check_system(info: HostInfo, now: datetime) -> Iterator[HostCheck]:
    """Which machine it is, its clock, PowerShell and Windows.

    Args:
        info: the host as it describes itself.
        now: this machine's time, UTC.
    """
    names = [info.name, info.fqdn and f"({info.fqdn})", info.cluster and f"in cluster {info.cluster}"]
    yield HostCheck("machine", CheckState.GOOD, " ".join(name for name in names if name))
    skew = abs(info.time - now)
    text = f"differs from the clock of this machine by {duration_text(skew.total_seconds())}"
    if skew > MAX_SKEW:
        yield HostCheck("clock", CheckState.NOTE, text, "synchronize both clocks")
    else:
        yield HostCheck("clock", CheckState.GOOD, text)
    if info.os_build < FIRST_BUILD:
        text = f"Windows build {info.os_build} has no change tracking"
        yield HostCheck("Windows", CheckState.REFUSE, text, "use Windows Server 2016 or later")
    else:
        known = "" if info.os_revision is not None else " (its revision cannot be read)"
        yield HostCheck("Windows", CheckState.GOOD, f"{build_of(info)}{known}")
    if not info.is_64bit:
        text = "the session is a 32-bit process"
        yield HostCheck("PowerShell", CheckState.REFUSE, text, "use the endpoint microsoft.powershell")
    else:
        yield HostCheck("PowerShell", CheckState.GOOD, info.powershell_version)
    yield check_language(info.language_mode)
    if info.hyperv_module_version is None:
        yield HostCheck(
            "Hyper-V module",
            CheckState.REFUSE,
            "the Hyper-V module for PowerShell is missing",
            "install it with Install-WindowsFeature Hyper-V-PowerShell",
        )
    else:
        yield HostCheck("Hyper-V module", CheckState.GOOD, info.hyperv_module_version)


def check_language(mode: str) -> HostCheck:
    """The language mode of sessions."""
    if mode == "FullLanguage":
        return HostCheck("language mode", CheckState.GOOD, mode)
    return HostCheck(
        "language mode",
        CheckState.REFUSE,
        f"the PowerShell language mode is {mode}, so hvps cannot compile its reader",
        "make a policy exception for the account, see docs/real-host.md",
    )


def scripts_refused(reason: str) -> HostCheck:
    """The check of a host that refuses scripts altogether."""
    return HostCheck(
        "language mode",
        CheckState.REFUSE,
        f"the host refuses the scripts of hvps: {reason}",
        "see docs/troubleshooting.md on language mode and endpoint protection",
    )


def check_rights(access: HostAccess) -> HostCheck:
    """Whether the session may attach disks."""

    def refuse(text: str, remedy: str) -> HostCheck:
        return HostCheck("rights", CheckState.REFUSE, text, remedy)

    if access.administrators is GroupState.DENY_ONLY:
        return refuse(
            "User Account Control filters this local account: Administrators is in its token for deny only",
            "set LocalAccountTokenFilterPolicy to 1, or use a domain account, see docs/real-host.md",
        )
    if access.administrators is GroupState.ABSENT:
        text = "the account is not an administrator on the host, so it cannot attach disks"
        if access.hyperv_administrators:
            text += "; Hyper-V Administrators can only make checkpoints"
        return refuse(text, "add it to the Administrators group of the host, see docs/real-host.md")
    if not access.volume_privilege:
        return refuse(
            "the account lacks the privilege to manage volumes, so it cannot attach disks",
            "give Administrators the user right 'Perform volume maintenance tasks'",
        )
    return HostCheck("rights", CheckState.GOOD, "administrator")


def check_elevation(info: HostInfo) -> HostCheck:
    """As :func:`check_rights`, for a host that did not describe the rights."""
    if info.is_administrator:
        return HostCheck("rights", CheckState.GOOD, "administrator")
    return HostCheck(
        "rights",
        CheckState.REFUSE,
        "the session has no rights of an administrator, so it cannot attach disks",
        "see the account in docs/real-host.md",
    )


def check_protection(access: HostAccess) -> HostCheck:
    """What may stop the scripts and the compiler, as far as that can be asked."""
    rules = dict(rule.split("=", 1) for rule in access.defender_rules if "=" in rule)
    found = [
        f"rule {rule} {_ACTIONS[rules[rule]]} {what}"
        for rule, what in RULES.items()
        if rules.get(rule) in _ACTIONS
    ]
    if found:
        remedy = "exclude hvps from the rule, see endpoint protection in docs/real-host.md"
        return HostCheck("protection", CheckState.NOTE, f"Defender's {' and '.join(found)}", remedy)
    if access.defender_active is None:
        return HostCheck("protection", CheckState.UNKNOWN, "Defender does not answer; others cannot be asked")
    state = "scans in real time" if access.defender_active else "does not scan in real time"
    return HostCheck("protection", CheckState.GOOD, f"Defender {state}, without rules that concern hvps")


def check_compiler(check: ReaderCheck) -> HostCheck:
    """How long the reader takes to compile, once for each shell."""
    text = f"the reader compiles in {duration_text(check.seconds)}"
    if check.seconds > SLOW_COMPILER_SECONDS:
        remedy = "find out what slows csc.exe down, for example a scanner"
        return HostCheck("compiler", CheckState.NOTE, text, remedy)
    return HostCheck("compiler", CheckState.GOOD, text)


def compiler_failed(reason: str) -> HostCheck:
    """The check of a host on which the reader does not compile."""
    return HostCheck(
        "compiler",
        CheckState.REFUSE,
        f"the reader does not compile: {reason}",
        "see endpoint protection in docs/real-host.md",
    )


def check_disk(probe: DiskProbe) -> HostCheck:
    """Whether the disk driver answers for a real disk."""
    if probe.native is None:
        return HostCheck("disk", CheckState.GOOD, f"{probe.path} can be opened")
    reason = f"{probe.path}: {code_text(probe.native)}"
    if probe.native in IN_USE:
        return HostCheck("disk", CheckState.GOOD, f"the driver answers for {reason}")
    if probe.native in ACCESS_DENIED:
        remedy = DELEGATION if share_of(probe.path) else "make the account an administrator of the host"
        return HostCheck("disk", CheckState.REFUSE, f"cannot open {reason}", remedy)
    known = find_code(probe.native)
    remedy = "see docs/windows-codes.md" if known is None else known.remedy
    return HostCheck("disk", CheckState.NOTE, f"cannot open {reason}", remedy)


def check_rate(sample: RateSample) -> HostCheck:
    """How fast one reader of the host sends."""
    text = f"one reader sends {rate_text(int(sample.rate_bytes), 1)}"
    return HostCheck("rate", CheckState.GOOD, f"{text} (measured with {size_text(sample.sent_bytes)})")


def check_proof(known: ProvedBuild) -> HostCheck:
    """What is known of change tracking on this build of Windows."""
    if known.proved is None:
        return HostCheck(
            "tracking",
            CheckState.UNKNOWN,
            "this build of Windows has not been proved, so points are proved whole where time allows",
            "run `hvps host prove` with a scratch VM, see docs/real-host.md",
        )
    return HostCheck("tracking", CheckState.GOOD, f"proved on {known.proved:%Y-%m-%d}")


def check_ids(known: ProvedBuild) -> HostCheck:
    """Which id increments start from on this build (docs/hyperv-facts.md#sealed-moment)."""
    if known.refuted is not None:
        text = "ids of reference points missed changes on this build, so disks are compared in each run"
        return HostCheck("increments", CheckState.NOTE, text, "report the build to the makers of hvps")
    if known.way is IdWay.REFERENCE:
        text = "start from ids of reference points, as proved"
        return HostCheck("increments", CheckState.GOOD, text)
    if known.differ:
        text = "reference points have other ids than frozen disks, so disks are compared in each run"
        remedy = "points are right; for increments run `hvps host prove --guest`, see docs/real-host.md"
        return HostCheck("increments", CheckState.NOTE, text, remedy)
    if known.differ is None and known.way is None:
        return HostCheck("increments", CheckState.UNKNOWN, "the first backup shows which ids they start from")
    text = "start from ids that frozen disks and reference points share"
    return HostCheck("increments", CheckState.GOOD, text)


def not_found_out(topic: str, reason: str) -> HostCheck:
    """The check of something that the host did not answer."""
    return HostCheck(topic, CheckState.UNKNOWN, f"cannot be found out: {reason}")
