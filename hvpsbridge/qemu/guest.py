"""A guest in QEMU: started, watched from outside, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from hvpsbridge.errors import MachineError
from hvpsbridge.formats.libvirt_domain import Domain
from hvpsbridge.formats.qemu_options import UEFI, disk_options, machine_options
from hvpsbridge.qemu.picture import Picture, read_ppm
from hvpsbridge.qemu.qmp import Agent, Qmp, QmpError
from hvpsbridge.qemu.watch import Outcome, Watch

PROGRAM = "qemu-system-x86_64"
_KVM = "/dev/kvm"
# Of Intel and AMD, in /proc/cpuinfo.
_VIRTUALIZATION = re.compile(r"^flags\s*:.* (?:vmx|svm)(?: |$)", re.MULTILINE)
# Of what the guest wrote since the last look.
_SERIAL_BYTES = 256 * 1024
_STDERR_BYTES = 2000
# Between two screenshots, at most; a picture has some 3 MB.
_LOOK_SECONDS = 1.0


class Accelerator(StrEnum):
    """What runs the guest's instructions: the processor, or QEMU."""

    KVM = "kvm"
    TCG = "tcg"


# Of the host; QEMU cannot set MSR 0x10a everywhere where KVM runs in a VM itself.
_PROCESSORS = {Accelerator.KVM: "host,-arch-capabilities", Accelerator.TCG: "max"}


def best_accelerator() -> Accelerator:
    """KVM if this account can use it and the processor has it: KVM in software runs few guests."""
    if _VIRTUALIZATION.search(_processor()) is None:
        return Accelerator.TCG
    try:
        os.close(os.open(_KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return Accelerator.TCG
    return Accelerator.KVM


def _processor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def command(domain: Domain, accelerator: Accelerator, nbd: Path) -> list[str]:
    """The command of QEMU; files 3 and 4 of the guest's process are not part of it.

    The guest has no network. QEMU itself can neither start programs nor gain privileges.

    Args:
        domain: the VM; the file of each disk is the name of its NBD export.
        accelerator: for this guest.
        nbd: the Unix socket of the NBD server.
    """
    options = [PROGRAM, "-nodefaults", "-no-user-config", "-name", "hvps", "-display", "none", "-vga", "std"]
    options += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    options += machine_options(domain, accelerator.value)
    options += ["-cpu", _PROCESSORS[accelerator]]
    for index, disk in enumerate(domain.disks):
        drive = {
            "driver": "nbd",
            "node-name": f"disk{index}",
            "server": {"type": "unix", "path": str(nbd)},
            "export": disk.file,
        }
        options += ["-blockdev", json.dumps(drive)]
    options += disk_options(domain)
    options += ["-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial"]
    return options


class Guest:
    """A running guest. One thread; close it, or use it in ``with``.

    Args:
        domain: the VM.
        accelerator: for this guest.
        nbd: the Unix socket of the NBD server.

    Raises:
        MachineError: QEMU or the firmware is not installed.
    """

    def __init__(self, domain: Domain, accelerator: Accelerator, nbd: Path) -> None:
        if shutil.which(PROGRAM) is None:
            raise MachineError(f"to boot a point, {PROGRAM} is needed", "install qemu-system-x86")
        if domain.uefi and not Path(UEFI).exists():
            raise MachineError(f"to boot a VM of generation 2, {UEFI} is needed", "install ovmf")
        self._folder = tempfile.TemporaryDirectory(prefix="hvps-boot-")
        self._errors = Path(self._folder.name) / "stderr"
        self._serial = bytearray()
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        our_agent, their_agent = socket.socketpair()
        self._qmp, self._agent = Qmp(ours), Agent(our_agent)
        options = command(domain, accelerator, nbd)
        options += ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control"]
        options += ["-chardev", f"socket,id=agent,fd={their_agent.fileno()}", "-device", "virtio-serial-pci"]
        options += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
        # QEMU must not outlive a command that is killed.
        setpriv = shutil.which("setpriv")
        options = [setpriv, "--pdeathsig", "KILL", *options] if setpriv else options
        with theirs, their_agent, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                options,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=(theirs.fileno(), their_agent.fileno()),
                env=_environment(os.environ),
                cwd="/",
                start_new_session=True,
            )
        self._reading = threading.Thread(target=self._read_serial, name="serial", daemon=True)
        self._reading.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the guest at once, as a power failure does."""
        self._process.kill()
        self._process.wait()
        self._reading.join()
        self._qmp.close()
        self._agent.close()
        self._folder.cleanup()

    @property
    def runs(self) -> bool:
        """Whether QEMU runs. It ends when the guest switches itself off."""
        return self._process.poll() is None

    def serial(self) -> str:
        """What the guest wrote to its serial line since the last call; of much, the end."""
        with self._lock:
            data = bytes(self._serial)
            self._serial.clear()
        return data.decode("utf-8", "replace")

    def agent_answers(self) -> bool:
        """Whether an agent in the guest answered."""
        return self._agent.answers(time.monotonic())

    @property
    def broken(self) -> bool:
        """Whether QEMU gave up on the guest, as it does when KVM cannot go on."""
        try:
            return bool(self._qmp.execute("query-status")["status"] == "internal-error")
        except (QmpError, KeyError, TypeError):
            return False

    def screenshot(self) -> Picture | None:
        """The screen; None if QEMU has none to give."""
        path = Path(self._folder.name) / "screen.ppm"
        try:
            self._qmp.execute("screendump", filename=str(path))
            return read_ppm(path.read_bytes())
        except (QmpError, OSError, ValueError):
            return None

    def check(self) -> None:
        """Return if QEMU runs, or ended without an error.

        Raises:
            MachineError: it did not start, or failed.
        """
        if self._process.poll():
            raise MachineError(f"QEMU failed: {self.errors() or f'exit code {self._process.returncode}'}")

    def errors(self) -> str:
        """The first line that QEMU wrote to standard error; empty if it wrote none."""
        with self._errors.open("rb") as file:
            text = file.read(_STDERR_BYTES).decode("utf-8", "replace")
        return text.strip().partition("\n")[0]

    def _read_serial(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with contextlib.closing(stream):
            while data := os.read(stream.fileno(), 65536):
                with self._lock:
                    self._serial += data
                    del self._serial[:-_SERIAL_BYTES]


def watch_boot(
    guest: Guest,
    watch: Watch,
    *,
    wait_seconds: float,
    look_seconds: float = _LOOK_SECONDS,
    pause: Callable[[float], object] = time.sleep,
) -> tuple[Outcome, Picture | None]:
    """Watch a guest until something is shown, or time is up.

    Args:
        guest: that was just started.
        watch: decides.
        wait_seconds: for how long at most.
        look_seconds: between two looks.
        pause: waits; may raise.

    Returns:
        The outcome, and the last screenshot; None if there is none.

    Raises:
        MachineError: QEMU failed.
    """
    started = time.monotonic()
    picture: Picture | None = None
    while True:
        outcome = watch.serial(guest.serial())
        if outcome is None and guest.agent_answers():
            outcome = watch.agent()
        picture = guest.screenshot() or picture
        now = time.monotonic()
        if outcome is None and picture is not None:
            outcome = watch.look(now, picture)
        if outcome is None and guest.broken:
            raise MachineError(f"QEMU gave up on the guest: {guest.errors()}")
        if outcome is None and not guest.runs:
            guest.check()
            outcome = watch.serial(guest.serial()) or watch.ended("the guest switched itself off")
        if outcome is None and now - started >= wait_seconds:
            outcome = watch.ended(f"nothing was shown within {wait_seconds:.0f} s")
        if outcome is not None:
            return outcome, picture
        pause(look_seconds)


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """No secrets for a process that runs what is in a point."""
    return {name: given[name] for name in ("PATH", "TMPDIR") if name in given} | {"LC_ALL": "C.UTF-8"}
