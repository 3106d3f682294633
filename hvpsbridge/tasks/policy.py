"""What a user decides about runs and backups. Field names with an Option are keys of a playbook."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from hvpsbridge.formats.os_build import parse_os_build
from hvpsbridge.options import Option, TextForm, Unit
from hvpsbridge.receiver.settings import ReadSettings, RetryLimits
from hvpsbridge.units import GIB, KIB, MIB

# Pipelines share one process on the host; more than this only wait for its serializer.
MAX_READERS = 8
# What the reader on the host accepts; also bounds its memory and that of hvps.
MIN_BLOCK_BYTES, MAX_BLOCK_BYTES = 64 * KIB, 4 * MIB
MIN_WINDOW_BYTES, MAX_WINDOW_BYTES = 1 * MIB, 16 * MIB
# After a declared build: increments from ids of reference points were proved there.
REFERENCE_IDS = ":reference"


class ConsistencyPolicy(StrEnum):
    """Required consistency; the last one falls back to crash consistency, with a warning."""

    APPLICATION = "application"
    CRASH = "crash"
    APPLICATION_OR_CRASH = "application_or_crash"


class OnUnexpectedFull(StrEnum):
    """What to do when a disk that has a base must be read or compared whole."""

    ACCEPT = "accept"
    WARN = "warn"
    STOP = "stop"


class ProofPolicy(StrEnum):
    """When a point is proved equal to the frozen disk before it is committed.

    ``auto``: always, until ``hvps host prove`` ended well on the host's build of Windows; then as ``sample``.
    ``sample``: the first two increments of a disk on a build whole, then a rotating part.
    """

    AUTO = "auto"
    ALWAYS = "always"
    SAMPLE = "sample"
    NEVER = "never"


class Compression(StrEnum):
    """Whether the host compresses blocks, where a sample of them shrinks, before it sends them."""

    AUTO = "auto"
    ALLOWED = "allowed"
    NONE = "none"


def moment(text: str) -> datetime:
    """A time in ISO 8601, as UTC.

    Raises:
        ValueError: it is none, or has no time zone.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise ValueError(f"{text!r} is not a time with its zone; use for example {MOMENT.examples[0]}")
    return read.astimezone(UTC)


MOMENT = TextForm(
    read=moment,
    name="time",
    pattern=r"^\d{4}-\d{2}-\d{2}[T ].*(Z|[+-]\d{2}:?\d{2})$",
    examples=("2026-11-27T08:00:00Z",),
    metavar="TIME",
)


def disk_pattern(text: str) -> str:
    """A pattern of disks.

    Raises:
        ValueError: it can never match a disk.
    """
    if re.match(r"(ide|scsi|pmem) ", text, re.IGNORECASE) or "\\" in text or "*" in text:
        return text
    raise ValueError(f"{text!r} cannot match a disk; use for example 'scsi 0:1' or '*\\scratch.vhdx'")


def declared_build(text: str) -> str:
    """A build that a playbook declares to be proved, ``10.0.20348.2700``; ``:reference`` after it declares
    that increments from ids of reference points were proved there, too.

    Raises:
        ValueError: it names no build.
    """
    parse_os_build(text.removesuffix(REFERENCE_IDS))
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSelection:
    """Which disks of each VM, by slot (`scsi 0:1`, `ide *`) or by the path of their file
    (`*\\scratch*.vhdx`): shell patterns; letter case does not matter."""

    exclude: Annotated[
        tuple[str, ...],
        Option(
            "patterns of disks to leave out; recovery points record them",
            form=TextForm(read=disk_pattern, name="text", metavar="PATTERN"),
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupLimits:
    """When a backup stops and is undone, and how long it waits before it starts.

    Attributes:
        watch_seconds: interval of checking age and free space.
        job_seconds: longest WMI job.
        merge_seconds: how long to wait until no chain contains the disk's child that hvps caused.
        held_merge_seconds: how long to wait for another product's merge that failed, perhaps because a
            reader of hvps held its files (event 19100): the host retries, how soon is not documented.
        undo_seconds: deadline of the undo.
        appear_seconds: how late a checkpoint may appear when the end of its creation was not seen.
        poll_seconds: pause between two looks at a host that is waited for.
    """

    checkpoint_age: Annotated[
        float, Option("abort when the checkpoint is older than this", unit=Unit.SECONDS, more_than=0)
    ] = 12 * 3600.0
    free_space_floor: Annotated[
        int, Option("abort when a volume of the VM has less free space than this", unit=Unit.BYTES)
    ] = 10 * GIB
    wait: Annotated[
        float,
        Option(
            "how long to wait for temporary conditions before skipping the VM (exit 75)",
            unit=Unit.SECONDS,
            at_least=0,
        ),
    ] = 900.0
    watch_seconds: float = 30.0
    job_seconds: int = 1800
    merge_seconds: float = 1800.0
    held_merge_seconds: float = 60.0
    undo_seconds: float = 600.0
    appear_seconds: float = 15.0
    poll_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningOptions:
    """How disks are read. What is left out is measured in the first seconds of a read and remembered."""

    readers: Annotated[int | None, Option("reader pipelines per disk", at_least=1, at_most=MAX_READERS)] = (
        None
    )
    compression: Annotated[Compression, Option("compress on the host where it saves bandwidth")] = (
        Compression.AUTO
    )
    block: Annotated[
        int | None,
        Option("raw bytes per block", unit=Unit.BYTES, at_least=MIN_BLOCK_BYTES, at_most=MAX_BLOCK_BYTES),
    ] = None
    window: Annotated[
        int | None,
        Option(
            "raw bytes per request; each reader has two requests under way",
            unit=Unit.BYTES,
            at_least=MIN_WINDOW_BYTES,
            at_most=MAX_WINDOW_BYTES,
        ),
    ] = None

    def over(self, settings: ReadSettings) -> ReadSettings:
        """``settings`` with what the user decided."""
        return replace(settings, **dict(self._given()))

    @property
    def decided(self) -> frozenset[str]:
        """Names of the settings that the user decided."""
        return frozenset(name for name, _ in self._given())

    def _given(self) -> Iterator[tuple[str, Any]]:
        if self.readers is not None:
            yield "pipelines", self.readers
        if self.compression is not Compression.AUTO:
            yield "deflate", self.compression is Compression.ALLOWED
        if self.block is not None:
            yield "block_bytes", self.block
        if self.window is not None:
            yield "window_bytes", self.window


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOptions:
    """Task `backup`: one recovery point of each selected VM."""

    consistency: Annotated[ConsistencyPolicy, Option("required checkpoint consistency")] = (
        ConsistencyPolicy.APPLICATION_OR_CRASH
    )
    on_unexpected_full: Annotated[
        OnUnexpectedFull, Option("what to do when a disk that has a base must be read or compared whole")
    ] = OnUnexpectedFull.WARN
    proof: Annotated[
        ProofPolicy, Option("when to compare a point with the frozen disk before committing it")
    ] = ProofPolicy.AUTO
    proved_builds: Annotated[
        tuple[str, ...],
        Option(
            "builds of Windows that count as proved, for machines that do not keep what was proved",
            form=TextForm(
                read=declared_build,
                name="text",
                metavar="BUILD",
                examples=("10.0.20348.2700", "10.0.20348.2700:reference"),
            ),
        ),
    ] = ()
    disks: Annotated[DiskSelection, Option("disks to back up; all by default")] = field(
        default_factory=DiskSelection
    )
    limits: Annotated[BackupLimits, Option("when to abort, and how long to wait")] = field(
        default_factory=BackupLimits
    )
    accept_event_3216_until: Annotated[
        datetime | None,
        Option(
            "back up VMs despite events 3216 in the Hyper-V Worker log up to this time; first make sure "
            "that they lost nothing",
            form=MOMENT,
        ),
    ] = None
    force_compare: Annotated[
        bool, Option("compare every disk with its last point, whatever change tracking reports")
    ] = False
    tuning: Annotated[
        TuningOptions,
        Option("how to read disks; `auto` measures each host and remembers the result", shorthand="auto"),
    ] = field(default_factory=TuningOptions)
    retry_limits: RetryLimits = field(default_factory=RetryLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """What a run may use of hosts and of the network. What is left out is not limited."""

    rate: Annotated[
        int | None, Option("maximum bytes per second over the network", unit=Unit.BYTES, at_least=1)
    ] = None
    readers: Annotated[int | None, Option("maximum concurrent readers", at_least=1)] = None
    readers_per_host: Annotated[int | None, Option("maximum concurrent readers per host", at_least=1)] = None
    readers_per_volume: Annotated[
        int | None, Option("maximum concurrent readers per volume of a host", at_least=1)
    ] = None
    # Leaves ten of Windows' thirty shells to the control shells of a run (one per VM) and to other users.
    shells_per_host: Annotated[
        int,
        Option("maximum shells for disks per host; less than the account's `MaxShellsPerUser`", at_least=1),
    ] = 20

    @property
    def limits_reads(self) -> bool:
        """Whether reads are slower than hosts and the network allow."""
        return any((self.rate, self.readers, self.readers_per_host, self.readers_per_volume))
