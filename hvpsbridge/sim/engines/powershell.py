"""The engine with a real PowerShell: one ``pwsh -s`` process per shell, as Windows has one wsmprovhost each.

``pwsh -s`` reads and writes PSRP fragments as lines of ``<Data Stream='Default' PSGuid='...'>base64</Data>``,
as PowerShell's jobs and SSH transport do. Fragments are the same bytes that WSMan carries, so lines are cut,
not parsed.

The process passes each line to a thread pool, so the next line of a pipeline is written only when the last
one was acknowledged. Until then lines wait in a queue per pipeline. A separate thread writes them: a line
may be longer than the pipe, and the process reads on only while its output is read, so a client that sends
before it receives must not block the reading thread. Before the client's first pipeline, ``startup`` runs a
script; what the client sends meanwhile waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import RLock, Thread

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.sim.engines import startup
from hvpsbridge.sim.engines.protocols import EngineGone, Sink
from hvpsbridge.units import KIB, MIB

logger = logging.getLogger(__name__)

POOL_ID = "00000000-0000-0000-0000-000000000000"
CLOSE_SECONDS = 3.0
# More than the line of a 32 KiB fragment; a larger pipe means fewer context switches.
PIPE_BYTES = 1 * MIB
# Measured: larger buffers do not fit the processor's cache.
READ_BYTES = 256 * KIB

_DATA_HEAD = b"<Data Stream='Default' PSGuid='"
_DATA_TAIL = b"</Data>\n"
_ID_CHARS = 36
_PAYLOAD_AT = len(_DATA_HEAD) + _ID_CHARS + len(b"'>")
_ACK = re.compile(rb"<(Data|Command|Signal|Close)Ack PSGuid='([0-9a-f-]{36})' />\s*")


def find_pwsh(environment: Mapping[str, str] | None = None) -> Path:
    """Absolute path of PowerShell: ``HVPS_PWSH``, or ``pwsh`` on PATH.

    Raises:
        ConfigurationError: ``HVPS_PWSH`` is not an executable file, or there is no PowerShell.
    """
    environment = os.environ if environment is None else environment
    named = environment.get("HVPS_PWSH")
    if named:
        path = Path(named).absolute()
        if not path.is_file() or not os.access(path, os.X_OK):
            raise ConfigurationError("HVPS_PWSH", f"{path} is not an executable file")
        return path
    found = shutil.which("pwsh", path=environment.get("PATH"))
    if found is None:
        raise ConfigurationError(
            "simulated host",
            "the powershell engine needs PowerShell 7: set HVPS_PWSH, install pwsh, or use engine builtin",
        )
    return Path(found).absolute()


class PowerShellEngine:
    """One ``pwsh -s`` process. One thread reads its output; it blocks while the sink blocks.

    Args:
        sink: takes fragments.
        pwsh: the executable.
        environment: variables to set in addition to those of this process.
        restricted: whether the session is that of the JEA endpoint which HVPS_SIM_JEA names.
    """

    def __init__(
        self,
        sink: Sink,
        pwsh: Path,
        environment: Mapping[str, str],
        *,
        restricted: bool = False,
    ) -> None:
        self._sink = sink
        self._restricted = restricted
        self._lock = RLock()
        # Lines for the process, in order; None closes its input.
        self._outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        # Lines to be written, by pipeline. A pipeline is present while one of its lines is not acknowledged.
        self._queued: dict[str, deque[bytes]] = {}
        self._startup: startup.Startup | None = None
        # While the startup script runs: pipelines of the client and their lines.
        self._held: list[tuple[str, tuple[bytes, ...]]] | None = None
        self._closed = False
        self._error_lines: deque[str] = deque(maxlen=20)
        self._process = subprocess.Popen(
            [str(pwsh), "-NoProfile", "-NoLogo", "-s"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **startup.environment(pwsh), **environment},
            bufsize=READ_BYTES,
            # Ctrl+C in the terminal must not reach the shells.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._input = self._process.stdin
        self._output = self._process.stdout
        self._errors = self._process.stderr
        _widen(self._output.fileno())
        _widen(self._input.fileno())
        name = f"pwsh-{self._process.pid}"
        Thread(target=self._write_input, name=f"{name}-in", daemon=True).start()
        Thread(target=self._read_output, name=f"{name}-out", daemon=True).start()
        Thread(target=self._read_errors, name=f"{name}-err", daemon=True).start()

    @property
    def process_id(self) -> int:
        """Id of the process."""
        return self._process.pid

    def open(self, fragments: bytes) -> None:
        """Start the runspace pool."""
        self._startup = startup.Startup(fragments, restricted=self._restricted)
        self._order(POOL_ID, _data_line(POOL_ID, fragments))

    def start(self, key: str, fragments: bytes) -> None:
        """Start a pipeline."""
        self._run_startup()
        self._order(key, _line("Command", key), _data_line(key, fragments))

    def feed(self, key: str | None, fragments: bytes) -> None:
        """Pass further fragments on."""
        self._order(key or POOL_ID, _data_line(key or POOL_ID, fragments))

    def stop(self, key: str) -> None:
        """Stop a running pipeline."""
        self._order(key, _line("Signal", key))

    def release(self, key: str) -> None:
        """Close a pipeline; the process stops it if it is running."""
        self._order(key, _line("Close", key))

    def close(self) -> None:
        """Ask the process to end, and kill it if it does not."""
        self._closed = True
        with contextlib.suppress(EngineGone):
            self._write(_line("Close", POOL_ID))
        self._outgoing.put(None)
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def kill(self) -> None:
        """Kill the process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _run_startup(self) -> None:
        """Start the startup script before the client's first pipeline, when the pool is open."""
        with self._lock:
            first = self._startup
            if first is None or first.done or self._held is not None:
                return
            self._queue(first.key, _line("Command", first.key), _data_line(first.key, first.fragments()))
            self._held = []

    def _take_startup(self, first: startup.Startup, fragment: memoryview) -> None:
        first.take(fragment)
        if not first.done:
            return
        with self._lock, contextlib.suppress(EngineGone):
            self._queue(first.key, _line("Close", first.key))
            held, self._held = self._held or [], None
            for key, lines in held:
                self._queue(key, *lines)

    def _order(self, key: str, *lines: bytes) -> None:
        """Write lines of the client, or hold them back while the startup script runs."""
        with self._lock:
            if self._held is not None and key != POOL_ID:
                self._held.append((key, lines))
            else:
                self._queue(key, *lines)

    def _queue(self, key: str, *lines: bytes) -> None:
        """Write lines of a pipeline in order, each after the acknowledgement of the one before."""
        with self._lock:
            queued = self._queued.get(key)
            if queued is not None:
                queued.extend(lines)
                return
            self._queued[key] = deque(lines[1:])
        self._write(lines[0])

    def _acknowledged(self, key: str) -> None:
        with self._lock:
            queued = self._queued.get(key)
            if not queued:
                self._queued.pop(key, None)
                return
            line = queued.popleft()
        with contextlib.suppress(EngineGone):
            self._write(line)

    def _write(self, data: bytes) -> None:
        if self._process.poll() is not None:
            raise EngineGone(f"process {self._process.pid} has ended")
        self._outgoing.put(data)

    def _write_input(self) -> None:
        # Errors mean that the process has ended, which the reading thread reports.
        with contextlib.suppress(OSError), self._input:
            while (data := self._outgoing.get()) is not None:
                self._input.write(data)
                self._input.flush()

    def _read_output(self) -> None:
        put = self._sink.put
        with contextlib.suppress(OSError, ValueError):
            for line in self._output:
                if line.startswith(_DATA_HEAD) and line.endswith(_DATA_TAIL):
                    key = line[len(_DATA_HEAD) : len(_DATA_HEAD) + _ID_CHARS].decode()
                    # A view, because bulk data should not be copied again.
                    payload = memoryview(line)[_PAYLOAD_AT : -len(_DATA_TAIL)]
                    first = self._startup
                    if first is not None and key == first.key:
                        self._take_startup(first, payload)
                    else:
                        put(None if key == POOL_ID else key, payload)
                elif (ack := _ACK.fullmatch(line)) is not None:
                    self._acknowledged(ack[2].decode())
                else:
                    # Something in the shell wrote to the console.
                    logger.debug("pwsh %d wrote outside the protocol: %d bytes", self.process_id, len(line))
        status = self._process.wait()
        self._outgoing.put(None)
        self._sink.fail(f"pwsh {self.process_id} ended with status {status}")
        if not self._closed:
            logger.warning(
                "pwsh %d ended with status %s: %s", self.process_id, status, " ".join(self._error_lines)
            )

    def _read_errors(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._errors:
                self._error_lines.append(line.decode(errors="replace").strip())


def _line(kind: str, key: str) -> bytes:
    return f"<{kind} PSGuid='{key}' />\n".encode()


def _data_line(key: str, fragments: bytes) -> bytes:
    return b"".join((_DATA_HEAD, key.encode(), b"'>", fragments, _DATA_TAIL))


def _widen(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
