"""The socket of the model, for the stand-in library and the stand-in modules in host processes.

Both use one Unix socket (``HVPS_SIM_SOCKET``). A connection that starts with ``{`` has lines of JSON
(``standin``), others have the protocol of the library (``disk_protocol``). The id of the process at the other
end owns its handles.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import struct
import tempfile
import threading
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hvpsbridge.sim.disk_protocol import DiskConnection, SharedPage
from hvpsbridge.sim.model import DiskError, HyperVError, Model
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.native import library_folder
from hvpsbridge.sim.standin import StandIn

logger = logging.getLogger(__name__)

MODULES = Path(__file__).with_name("powershell")
_PEER = struct.Struct("iII")
# A connection that hung up ends in milliseconds.
SETTLE_SECONDS = 5.0


class ModelService:
    """Serves a model to host processes of this user. Use as a context manager.

    The socket is in a private temporary folder.

    Attributes:
        path: the socket.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._folder = Path(tempfile.mkdtemp(prefix="hvps-sim-"))
        self.path = self._folder / "model"
        # Copies of whoami.exe and others that are executable, however the package was unpacked.
        self._programs = self._folder / "bin"
        shutil.copytree(MODULES / "bin", self._programs)
        for program in self._programs.iterdir():
            program.chmod(0o700)
        self._page = SharedPage(self._folder / "page")
        self._stand_in = StandIn(model)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        # A connection has ended, and with it its handle.
        self._settled = threading.Condition(self._lock)
        self._closed = False
        self._page.show(model)
        model.watch(self._refresh)
        threading.Thread(target=self._accept, name="model-service", daemon=True).start()

    def environment(self, node: str | None = None, *, modules: str = "") -> dict[str, str]:
        """Variables for a host process (``pwsh``) on host ``node``; compiles the stand-in library.

        Raises:
            ConfigurationError: there is no C compiler.
        """
        return {
            "HVPS_SIM_SOCKET": str(self.path),
            "HVPS_SIM_NODE": node or "",
            "LD_LIBRARY_PATH": str(library_folder()),
            "PSModulePath": f"{MODULES}:{modules}" if modules else str(MODULES),
            "PATH": f"{self._programs}:{os.environ.get('PATH', os.defpath)}",
        }

    def close(self) -> None:
        """Close the socket and all connections."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            connections = list(self._open)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._page.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside ---------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        # May be called with the model's lock, so another lock could deadlock.
        self._page.show(self._model)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="model-client", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            owner = f"pid:{_PEER.unpack(credentials)[0]}"
            first = connection.recv(1, socket.MSG_PEEK)
            if first == b"{":
                self._serve_lines(connection)
            elif first:
                DiskConnection(
                    self._model,
                    self._page,
                    owner,
                    self._folder / "views",
                    partial(self._settle, connection),
                ).serve(connection)
        except OSError as err:
            logger.debug("connection of a host process ended: %s", err)
        finally:
            with self._settled:
                self._open.discard(connection)
                self._settled.notify_all()
            connection.close()

    def _settle(self, own: socket.socket) -> None:
        """Wait until handles that host processes have closed are closed here, too.

        A process closes a handle by hanging up and goes on at once; ``CloseHandle`` of Windows returns when
        the file is closed.
        """
        with self._settled:
            self._settled.wait_for(
                lambda: self._closed or not any(_hung_up(one) for one in self._open if one is not own),
                SETTLE_SECONDS,
            )

    def _serve_lines(self, connection: socket.socket) -> None:
        with connection.makefile("rwb") as stream:
            for line in stream:
                self._settle(connection)
                stream.write(json.dumps(self._reply(line)).encode() + b"\n")
                stream.flush()

    def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            return {"result": self._stand_in.answer(request)}
        except HyperVError as err:
            error = _error(err.code, err.identifier, err.category, err.message, err.hresult)
            return {"error": {**error, "terminating": isinstance(err, CallRefused) and err.terminating}}
        except DiskError as err:
            return {"error": _error(err.code, "OperationFailed", "NotSpecified", str(err))}
        except Exception as err:
            # A bug in the simulator. The script must learn of it; the thread would end silently.
            logger.exception("stand-in call failed")
            return {"error": _error(0, "SimulatorDefect", "InvalidResult", f"{type(err).__name__}: {err}")}


def _error(
    code: int, identifier: str, category: str, message: str, hresult: int | None = None
) -> dict[str, Any]:
    return {
        "code": int(code),
        "identifier": identifier,
        "category": category,
        "message": message,
        "hresult": hresult,
    }


def _hung_up(connection: socket.socket) -> bool:
    """Whether the other end has closed the connection, and all it sent was read."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
