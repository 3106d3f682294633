"""A simulated Hyper-V host: a model, an engine and a WSMan service put together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from hvpsbridge.secret import Secret
from hvpsbridge.sim.engines.powershell import PowerShellEngine, find_pwsh
from hvpsbridge.sim.engines.seam import Engine, EngineFactory, Sink
from hvpsbridge.sim.wsman.auth import BasicAuthenticator
from hvpsbridge.sim.wsman.listener import Listener
from hvpsbridge.sim.wsman.service import Service
from hvpsbridge.sim.wsman.shells import Quotas

DEFAULT_USERS: Mapping[str, Secret] = {"backup": Secret("backup")}


class PowerShellHost:
    """A WSMan service whose shells are real PowerShell processes, without any model behind them.

    Context manager; it serves from background threads while entered.

    Args:
        users: who may log on with Basic.
        port: TCP port on the loopback interface; 0 takes a free one.
        environment: variables for the PowerShell processes.
        quotas: limits of the service.
        certificate: PEM file with chain and key, for HTTPS.

    Raises:
        ConfigurationError: there is no PowerShell.
    """

    def __init__(
        self,
        *,
        users: Mapping[str, Secret] = DEFAULT_USERS,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
        quotas: Quotas | None = None,
        certificate: Path | None = None,
    ) -> None:
        pwsh = find_pwsh(os.environ)

        def factory(sink: Sink) -> Engine:
            return PowerShellEngine(sink, pwsh, environment or {})

        self.service = Service(factory, quotas)
        self.listener = Listener(
            self.service, lambda: BasicAuthenticator(users), port=port, certificate=certificate
        )

    @property
    def url(self) -> str:
        """Where it listens, without the path."""
        return self.listener.url

    def __enter__(self) -> Self:
        self.listener.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.listener.stop()
        self.service.close()


__all__ = ["EngineFactory", "PowerShellHost"]
