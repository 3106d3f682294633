"""What a host is asked to find out whether backups will work there, and why one failed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.contract.checks import DiskProbe, EventInfo, HostAccess, StorageInfo
from hvpsbridge.contract.readings import ExtentPage
from hvpsbridge.host.binding import bind_parameters
from hvpsbridge.host.psrp.bulk import BulkPipeline
from hvpsbridge.host.psrp.configuration import WinRmLimits
from hvpsbridge.host.runner import MAX_ANSWER_BYTES, OperationRunner
from hvpsbridge.host.scripts import probe_text
from hvpsbridge.units import MIB

# Enough for the rate to settle, and 16 s on a host with 2 MB/s.
SAMPLE_BYTES = 32 * MIB
# A slow host sends less than that.
SAMPLE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class RateSample:
    """Bytes that a host made in memory and sent by one reader, and how long that took.

    Attributes:
        rate_bytes: per second, without the time until the first block.
    """

    sent_bytes: int
    seconds: float
    rate_bytes: float


class HostChecks:
    """Checks of a host, through the shell of a runner."""

    def __init__(self, runner: OperationRunner) -> None:
        self._runner = runner

    def access(self) -> HostAccess:
        """What the session may do on the host."""
        return self._runner.one(HostAccess, "Get-HvpsAccess")

    def limits(self) -> WinRmLimits:
        """Limits of WinRM, as far as they can be read."""
        return self._runner.session.limits()

    def probe_disk(self, path: str) -> DiskProbe:
        """Open a virtual disk for information only. It is not attached, which would block its VM."""
        return self._runner.one(DiskProbe, "Test-HvpsDisk", Path=path)

    def storage(self, vm_id: UUID) -> tuple[StorageInfo, ...]:
        """Volumes and shares that have files of the VM."""
        return self._runner.many("Get-HvpsStorage", VmId=vm_id)

    def events(
        self, vm_id: UUID, seconds: float, disks: Iterable[str] = (), most: int = 20
    ) -> tuple[EventInfo, ...]:
        """Entries of the event logs about a VM, newest first.

        Args:
            vm_id: the VM.
            seconds: age of the oldest entry.
            disks: its disk files without drive and extension.
            most: maximum number of entries.
        """
        return self._runner.many(
            "Get-HvpsEvent", VmId=vm_id, Seconds=max(1, round(seconds)), Disks=tuple(disks) or None, Most=most
        )

    def change_pages(self, path: str, rct_id: str, size_bytes: int) -> tuple[ExtentPage, ...]:
        """The pages of one query of changes as the host sends them, in no certain order and unchecked.

        Raises:
            TrackingUnusable: change tracking cannot answer for this id.
        """
        return self._runner.many(
            "Get-HvpsDiskChange", Path=path, RctId=rct_id, OffsetBytes=0, LengthBytes=size_bytes
        )

    def probe(
        self, name: str, parameters: Mapping[str, object], deadline_seconds: float
    ) -> Iterator[tuple[str, str]]:
        """Facts of a probe script of the conformance kit: names, and values as JSON text. Not retried.

        Raises:
            OperationFailed: the probe failed, or the host runs no scripts but those of hvps.
        """
        self._runner.wake()
        emitted = self._runner.session.run(
            name, probe_text(name), parameters, deadline_seconds, to_the_end=True, max_bytes=MAX_ANSWER_BYTES
        )
        for item in emitted:
            yield str(item.properties.get("Name")), str(item.properties.get("Json"))

    def measure_rate(self, length_bytes: int = SAMPLE_BYTES) -> RateSample:
        """Have the host send random bytes, as a reader sends those of a disk, and take the time.

        Raises:
            HostError: it failed, or the connection was lost.
        """
        operation, session = OPERATIONS["Read-HvpsSample"], self._runner.session
        client, replies = session.new_client(), session.new_client()
        try:
            with (
                session.tracking_loss(),
                closing(
                    BulkPipeline(
                        client,
                        replies,
                        operation.name,
                        self._runner.text(operation),
                        bind_parameters(operation, {"LengthBytes": length_bytes}),
                        operation_timeout_seconds=session.operation_timeout_seconds,
                    )
                ) as pipeline,
            ):
                pipeline.expect_blocks(MIB)
                pipeline.end_input()
                return _timed(pipeline, session.operation_timeout_seconds)
        finally:
            session.drop_client(client)
            session.drop_client(replies)


def _timed(pipeline: BulkPipeline, timeout_seconds: float) -> RateSample:
    started = time.monotonic()
    begun, first, sent = started, 0, 0
    while pipeline.running and time.monotonic() - started < SAMPLE_SECONDS:
        arrived = sum(map(len, pipeline.receive_blocks(timeout_seconds)))
        if arrived and not sent:
            begun, first = time.monotonic(), arrived
        sent += arrived
    if problem := pipeline.error():
        raise problem
    now = time.monotonic()
    # One reply alone says nothing about the rate after it.
    moved, seconds = (sent - first, now - begun) if sent > first else (sent, now - started)
    return RateSample(sent, now - started, moved / max(seconds, 1e-6))
