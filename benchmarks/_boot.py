"""A small Linux boots from ``hvps serve`` and reads 512 MiB, beside its raw file behind qemu-nbd.

The time is from the start of QEMU until the guest has read the file, each time on an overlay of QEMU's own.
The disk is at a virtio controller: at an IDE one, the boot loader reads single sectors, and that is measured.
Run by restore.py, and alone:

    python -m benchmarks._boot [--rounds 3] [--data-mib 512] [--folder /var/tmp]
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._processes import HVPS, PeakMemory
from hvpsbridge.qemu.guest import best_accelerator
from hvpsbridge.repository import create_repository
from hvpsbridge.secret import Secret
from hvpsbridge.units import MIB
from tests.qemu.linux import first_boot, linux_disk, missing
from tests.repository.conftest import CHEAP, store_point

PASSWORD = "benchmark"
_READ = "large: done"


def boot_lines(folder: Path, rounds: int, data_mib: int = 512) -> Iterator[str]:
    """Lines of the table; one that says why there are none if the disk cannot be made here.

    Args:
        folder: for the disk and the repository.
        rounds: of each, in turn.
        data_mib: what the guest reads.
    """
    if lacking := missing():
        yield f"small Linux: needs {lacking}"
        return
    raw = linux_disk(folder / "linux.raw", data_bytes=data_mib * MIB)
    first_boot(raw)
    with create_repository(
        str(folder / "boot"), key=Secret(PASSWORD), cost=CHEAP, cache_folder=folder / "boot-cache"
    ) as repository:
        store_point(repository, raw.read_bytes())
    key = folder / "boot-key"
    key.write_text(PASSWORD)
    key.chmod(0o600)
    served = (*HVPS, "serve", "web", "--repo", str(folder / "boot"), "--key-file", str(key))
    seconds: dict[str, list[float]] = {"qemu-nbd, raw file": [], "hvps serve": []}
    peak_bytes = 0
    for turn in range(rounds):
        socket = folder / f"nbd-{turn}.sock"
        with _running("qemu-nbd", "-f", "raw", "-r", "-t", "-k", str(socket), str(raw)):
            while not socket.exists():
                time.sleep(0.01)
            seconds["qemu-nbd, raw file"].append(_boot(f"nbd+unix:///?socket={socket}"))
        with _running(*served) as process:
            assert process.stdout is not None
            uri = process.stdout.readline().split()[0]
            memory = PeakMemory(process.pid)
            seconds["hvps serve"].append(_boot(uri))
            peak_bytes = max(peak_bytes, memory.stop())
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    yield f"small Linux boots and reads {data_mib} MiB, {best_accelerator().value}"
    for name, middle in medians.items():
        memory_text = f"{peak_bytes // MIB:6} MiB" if name == "hvps serve" else ""
        yield f"{name:32} {middle:7.2f}s {min(seconds[name]):7.2f}s {'':7} {memory_text}".rstrip()
    slow, fast = medians["hvps serve"], medians["qemu-nbd, raw file"]
    yield f"hvps serve takes {slow / fast:.2f} times as long"


@contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A server while the block runs."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _boot(uri: str) -> float:
    """Seconds until the guest has read its file."""
    machine = ["-machine", f"pc,accel={best_accelerator().value}", "-m", "256", "-nic", "none"]
    drive = [
        "-drive",
        f"file={uri},format=raw,if=virtio",
        "-snapshot",
        "-display",
        "none",
        "-monitor",
        "none",
    ]
    started = time.monotonic()
    with _running("qemu-system-x86_64", *machine, *drive, "-serial", "stdio") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if _READ in line:
                return time.monotonic() - started
    raise SystemExit("the guest did not come so far")


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data-mib", type=int, default=512)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hvps-", dir=options.folder) as name:
        for line in boot_lines(Path(name), options.rounds, options.data_mib):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
