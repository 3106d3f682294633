"""Whether a recovery point boots: in QEMU, without a network, on disks whose changes are thrown away."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from hvpsbridge.errors import ConfigurationError, Damaged, MachineError, PointGone
from hvpsbridge.files import FOLDER_MODE
from hvpsbridge.folders import absolute
from hvpsbridge.formats.libvirt_domain import Domain, DomainDisk, domain_of
from hvpsbridge.nbd.exports import Disk, Export
from hvpsbridge.nbd.overlay import Overlay
from hvpsbridge.nbd.server import Server, unix_socket
from hvpsbridge.qemu.guest import Accelerator, Guest, best_accelerator, watch_boot
from hvpsbridge.qemu.picture import Picture, png
from hvpsbridge.qemu.watch import Watch
from hvpsbridge.repository import Point, Repository
from hvpsbridge.tasks.file_names import disk_name, path_part
from hvpsbridge.tasks.host_records import default_state_folder
from hvpsbridge.tasks.proofs import record_proof
from hvpsbridge.units import KIB, size_text

logger = logging.getLogger(__name__)

WAIT_SECONDS = 600.0
STAY_SECONDS = 30.0
# A guest that only starts needs no more, and this machine has other work.
_MAX_MEMORY_BYTES = 4 << 30
_MIN_MEMORY_BYTES = 256 << 20
_MAX_PROCESSORS = 4
_LOOKS = 4
_SCREENSHOTS = "screenshots"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootOptions:
    """How a boot is watched.

    Attributes:
        wait_seconds: for how long at most.
        stay_seconds: how long a screen of the system must stay.
        mark: text on the serial line that says that the guest is up; empty for a login prompt.
        screenshots: folder of screenshots; None for the one in the state folder.
        accelerator: None for the best.
    """

    wait_seconds: float = WAIT_SECONDS
    stay_seconds: float = STAY_SECONDS
    mark: str = ""
    screenshots: Path | None = None
    accelerator: Accelerator | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BootCheck:
    """How a point booted.

    Attributes:
        shown: whether it booted. If not, that is not shown: it may boot on other hardware.
        by: serial, agent or screen; empty if it is not shown.
        what: what was seen.
        accelerator: kvm, or tcg if QEMU computed each instruction.
        read_bytes: of the disks of the point.
        screenshot: path of the last one; null if there is none.
        notes: what differs from the VM.
    """

    point_id: UUID
    shown: bool
    by: str
    what: str
    accelerator: str
    seconds: float
    read_bytes: int
    screenshot: str | None
    notes: tuple[str, ...]


def check_boots(
    repository: Repository,
    point: Point,
    options: BootOptions,
    pause: Callable[[float], object] = time.sleep,
) -> BootCheck:
    """Boot a point, and watch it.

    Args:
        repository: holds the point.
        point: the point.
        options: how it is watched.
        pause: waits between looks; may raise to end it.

    Raises:
        ConfigurationError: the folder of screenshots cannot be used.
        Damaged: data that the guest read is damaged.
        PointGone: the point was pruned meanwhile.
        MachineError: QEMU is not installed, or failed.
    """
    folder = _screenshots(options, repository)
    accelerator = options.accelerator or best_accelerator()
    try:
        return _boot(repository, point, options, accelerator, folder, pause)
    except MachineError as err:
        if options.accelerator is not None or accelerator is Accelerator.TCG:
            raise
        logger.warning("without KVM, which could not run point %s: %s", point.short_id, err)
    return _boot(repository, point, options, Accelerator.TCG, folder, pause)


def _boot(
    repository: Repository,
    point: Point,
    options: BootOptions,
    accelerator: Accelerator,
    folder: Path | None,
    pause: Callable[[float], object],
) -> BootCheck:
    domain, notes = _machine(point)
    with ExitStack() as stack:
        readers = stack.enter_context(repository.readers())
        exports, sources = {}, []
        for disk in point.disks:
            source = _Source(repository.reader(readers, disk))
            sources.append(source)
            overlay = Overlay(source)
            stack.callback(overlay.close)
            name = disk_name(disk.slot)
            exports[name] = Export(
                name=name,
                description="",
                disk=overlay,
                writable=overlay,
                block_bytes=repository.grid.chunk_bytes,
            )
        socket = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hvps-boot-"))) / "nbd.sock"
        stack.enter_context(Server(unix_socket(socket), exports))
        started = time.monotonic()
        with Guest(domain, accelerator, socket) as guest:
            outcome, picture = watch_boot(
                guest,
                Watch(options.stay_seconds, options.mark),
                wait_seconds=options.wait_seconds,
                look_seconds=min(options.stay_seconds / _LOOKS, 1.0),
                pause=pause,
            )
        seconds = time.monotonic() - started
    for source in sources:
        if source.damaged is not None:
            raise source.damaged
    return BootCheck(
        point_id=point.point_id,
        shown=outcome.shown,
        by=outcome.by,
        what=outcome.what,
        accelerator=accelerator.value,
        seconds=round(seconds, 3),
        read_bytes=sum(source.read_bytes for source in sources),
        screenshot=_keep(folder, point, picture),
        notes=notes,
    )


def record_boots(repository: Repository, point: Point, check: BootCheck, run_id: UUID) -> str | None:
    """Keep the proof with the point; why that failed, None if it did not or nothing was shown."""
    if not check.shown:
        return None
    return record_proof(repository, point, "boots", check.read_bytes, run_id)


class _Source:
    """A disk of the point, which notes what the guest reads. Thread-safe.

    Attributes:
        read_bytes: so far.
        damaged: the first damage that was met, or that the point was pruned.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self.size_bytes = disk.size_bytes
        self.read_bytes = 0
        self.damaged: Damaged | PointGone | None = None

    def pread(self, offset: int, length: int) -> bytes:
        try:
            data = self._disk.pread(offset, length)
        except (Damaged, PointGone) as err:
            self.damaged = self.damaged or err
            raise
        with self._lock:
            self.read_bytes += length
        return data

    def status(self, offset: int, length: int) -> Iterable[tuple[int, bool]]:
        return self._disk.status(offset, length)


def _machine(point: Point) -> tuple[Domain, tuple[str, ...]]:
    """The machine for a point, and what differs from the VM."""
    disks = [DomainDisk(disk_name(disk.slot), disk.slot, disk.sector_bytes) for disk in point.disks]
    domain = domain_of(point.vm_name, point.manifest.definition, disks)
    notes = [f"the VM's definition lacks {lacking}" for lacking in domain.lacks]
    notes += [f"disk {disk.slot} is not in the point" for disk in point.manifest.excluded]
    memory = min(domain.memory_bytes, _MAX_MEMORY_BYTES, max(_available_memory() // 2, _MIN_MEMORY_BYTES))
    if memory < domain.memory_bytes:
        notes.append(f"{size_text(memory)} of memory instead of {size_text(domain.memory_bytes)}")
    return replace(domain, memory_bytes=memory, processors=min(domain.processors, _MAX_PROCESSORS)), tuple(
        notes
    )


def _available_memory() -> int:
    """What ``/proc/meminfo`` says can be used without swapping; much if it does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 2 * _MAX_MEMORY_BYTES
    found = [line.split()[1] for line in text.splitlines() if line.startswith("MemAvailable:")]
    return int(found[0]) * KIB if found else 2 * _MAX_MEMORY_BYTES


def _screenshots(options: BootOptions, repository: Repository) -> Path | None:
    """The folder, made; None without a state folder."""
    folder = options.screenshots
    if folder is None:
        state = default_state_folder()
        if state is None:
            return None
        folder = state / _SCREENSHOTS
    folder = absolute(folder)
    if repository.holds(folder):
        raise ConfigurationError(str(folder), "is inside the repository; use another folder")
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigurationError(str(folder), err.strerror or str(err)) from err
    return folder


def _keep(folder: Path | None, point: Point, picture: Picture | None) -> str | None:
    """Write the screenshot, in place of an earlier one of the point; its path."""
    if folder is None or picture is None:
        return None
    path = folder / f"{path_part(f'{point.vm_name}-{point.short_id}')}.png"
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".png", dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(png(picture))
    Path(name).replace(path)
    return str(path)
