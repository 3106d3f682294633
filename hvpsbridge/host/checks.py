"""What a host is asked to find out whether backups will work there, and why one failed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.contract.checks import DiskProbe, EventInfo, HostAccess, StorageInfo
from hvpsbridge.host.binding import bind_parameters
from hvpsbridge.host.psrp.bulk import BulkPipeline
from hvpsbridge.host.psrp.configuration import WinRmLimits
from hvpsbridge.host.runner import OperationRunner
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
        access: HostAccess = self._runner.one("Get-HvpsAccess")
        return access

    def limits(self) -> WinRmLimits:
        """Limits of WinRM, as far as they can be read."""
        return self._runner.session.limits()

    def probe_disk(self, path: str) -> DiskProbe:
        """Open a virtual disk for information only. It is not attached, which would block its VM."""
        probe: DiskProbe = self._runner.one("Test-HvpsDisk", Path=path)
        return probe

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
