"""Serving a simulated world until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from hvpsbridge.secret import Secret
from hvpsbridge.sim.control import ControlServer
from hvpsbridge.sim.hosts import DEFAULT_USERS, SimulatedHost
from hvpsbridge.sim.model import Model
from hvpsbridge.sim.wsman.listener import LOOPBACK

logger = logging.getLogger(__name__)


def serve(
    folder: Path,
    *,
    engine: str = "builtin",
    users: Mapping[str, Secret] = DEFAULT_USERS,
    address: str = LOOPBACK,
    port: int = 0,
    certificate: Path | None = None,
    client_ca: Path | None = None,
    strict_binding: bool = False,
    auth: Sequence[str] = ("basic",),
    keytab: Path | None = None,
    jea: Path | None = None,
    seed: int = 0,
    announce: Callable[[Mapping[str, Any]], None] | None = None,
) -> None:
    """Serve the world in ``folder`` until SIGTERM, SIGINT or ``Control.shutdown``; then save it.

    Call it in the main thread: it handles the two signals while it runs.

    Args:
        folder: state folder; created if necessary.
        announce: called with ``url``, ``engine``, ``pid`` and ``folder`` when the host listens.

    Raises:
        ConfigurationError: the engine cannot run here.
        OSError: the port is taken.
    """
    finish = Event()
    with ExitStack() as stack:
        model = Model(folder, seed=seed)
        stack.callback(model.close)
        host = stack.enter_context(
            SimulatedHost(
                model,
                engine=engine,
                users=users,
                address=address,
                port=port,
                certificate=certificate,
                client_ca=client_ca,
                strict_binding=strict_binding,
                auth=auth,
                keytab=keytab,
                jea=jea,
            )
        )
        info = {"url": host.url, "engine": engine, "pid": os.getpid(), "folder": str(folder.absolute())}
        stack.enter_context(
            ControlServer(
                model,
                folder,
                info=info,
                set_fault=host.faults.arm_text,
                armed=host.faults.armed,
                counters=host.counters.snapshot,
                shutdown=finish.set,
            )
        )
        stack.enter_context(_signals(finish))
        if announce is not None:
            announce(info)
        logger.info("serving %s at %s with engine %s", folder, host.url, engine)
        finish.wait()


@contextmanager
def _signals(finish: Event) -> Iterator[None]:
    wanted = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: finish.set()) for number in wanted]
    try:
        yield
    finally:
        for number, handler in zip(wanted, before, strict=True):
            signal.signal(number, handler)
