"""Simulated hosts: a WSMan service with an engine behind it, and a model behind that."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.secret import Secret
from hvpsbridge.sim.engines.builtin import BuiltinEngine
from hvpsbridge.sim.engines.powershell import PowerShellEngine, find_pwsh
from hvpsbridge.sim.engines.protocols import Engine, EngineFactory, Sink
from hvpsbridge.sim.faults import WireFaults
from hvpsbridge.sim.model import Model, SystemClock
from hvpsbridge.sim.model_service import ModelService
from hvpsbridge.sim.wsman.auth import AnyAuthenticator, Authenticator, BasicAuthenticator
from hvpsbridge.sim.wsman.counters import Counters
from hvpsbridge.sim.wsman.listener import LOOPBACK, Listener
from hvpsbridge.sim.wsman.mutual import MUTUAL_TLS, MutualAuthenticator
from hvpsbridge.sim.wsman.negotiate import Accounts, NegotiateAuthenticator
from hvpsbridge.sim.wsman.service import Service
from hvpsbridge.sim.wsman.shells import Quotas
from hvpsbridge.sim.wsman.tls import ServerTls

logger = logging.getLogger(__name__)

DEFAULT_USERS: Mapping[str, Secret] = {"backup": Secret("backup")}
ENGINES = ("builtin", "powershell")
# ntlm is Negotiate on a host without a domain. In a domain, Negotiate also accepts Kerberos.
SCHEMES = ("basic", "ntlm", "negotiate", "kerberos", "certificate")

# How long a power-cycled host is down.
BOOT_SECONDS = 0.3


class WSManHost:
    """A WSMan service on the loopback interface.

    A context manager: background threads serve while it is entered, and shells end with it.

    Args:
        factory: creates the engine of a new shell.
        users: accounts that may log on, with their passwords.
        address: loopback address to listen on, IPv4 or IPv6.
        port: TCP port; 0 for a free one.
        quotas: limits of the service.
        certificate: PEM file with chain and key, for HTTPS.
        client_ca: PEM file with the CAs of client certificates, for ``certificate``.
        strict_binding: whether NTLM and Kerberos over HTTPS must be bound to the certificate.
        auth: accepted schemes, of ``SCHEMES``.
        keytab: keys of the host in its Kerberos realm, for ``negotiate`` and ``kerberos``.
        endpoints: engines of further session configurations, by name in lower case.

    Attributes:
        service: the WSMan service, with its shells.
        tls: its certificates; None without HTTPS.
        listener: the socket, with its connections.
    """

    def __init__(
        self,
        factory: EngineFactory,
        *,
        users: Mapping[str, Secret] = DEFAULT_USERS,
        address: str = LOOPBACK,
        port: int = 0,
        quotas: Quotas | None = None,
        certificate: Path | None = None,
        client_ca: Path | None = None,
        strict_binding: bool = False,
        auth: Sequence[str] = ("basic",),
        keytab: Path | None = None,
        endpoints: Mapping[str, EngineFactory] | None = None,
    ) -> None:
        if unknown := set(auth) - set(SCHEMES):
            raise ConfigurationError(
                "auth", f"unknown scheme {', '.join(sorted(unknown))}; use {', '.join(SCHEMES)}"
            )
        if keytab is None and (named := {"negotiate", "kerberos"} & set(auth)):
            raise ConfigurationError("auth", f"{' and '.join(sorted(named))} need the keytab of the host")
        if "certificate" in auth and (certificate is None or client_ca is None):
            raise ConfigurationError("auth", "certificate needs HTTPS and the CA of client certificates")
        self._auth = auth
        self._users = users
        self._strict_binding = strict_binding
        self._accounts: Accounts | None = None
        if set(auth) - {"basic", "certificate"}:
            self._accounts = Accounts(users, ntlm=bool({"ntlm", "negotiate"} & set(auth)), keytab=keytab)
        self.service = Service(factory, quotas, endpoints=endpoints)
        self.tls = None if certificate is None else ServerTls(certificate, client_ca)
        self.listener = Listener(
            self.service,
            self._authenticator,
            address=address,
            port=port,
            tls=self.tls,
            machine=self,
        )

    @property
    def url(self) -> str:
        """URL of the host, without a path."""
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
        self.close()

    @property
    def faults(self) -> WireFaults:
        """Faults of the wire, which can be armed at any time."""
        return self.service.faults

    @property
    def counters(self) -> Counters:
        """Counters of requests and replies."""
        return self.service.counters

    def _authenticator(self, sock: socket.socket) -> Authenticator:
        schemes: dict[str, Authenticator] = {}
        if self._accounts is not None and {"ntlm", "negotiate"} & set(self._auth):
            negotiate = self._negotiating(self._accounts, "Negotiate")
            schemes.update(negotiate=negotiate, ntlm=negotiate)
        if self._accounts is not None and "kerberos" in self._auth:
            schemes["kerberos"] = self._negotiating(self._accounts, "Kerberos")
        if "basic" in self._auth:
            schemes["basic"] = BasicAuthenticator(self._users)
        if "certificate" in self._auth:
            schemes[MUTUAL_TLS] = MutualAuthenticator(self._users, sock)
        return AnyAuthenticator(schemes)

    def _negotiating(self, accounts: Accounts, challenge: str) -> NegotiateAuthenticator:
        binding = self.tls.binding() if self.tls is not None and self._strict_binding else None
        return NegotiateAuthenticator(accounts, tls=self.listener.tls, challenge=challenge, binding=binding)

    def reboot(self, down_seconds: float = 0.5) -> None:
        """Lose all shells and connections, and come up again at the same address."""
        self.listener.go_down(down_seconds, self._came_up)

    def skew_clock(self, seconds: float) -> None:
        """Set the clock ahead. A host without a model has no clock."""

    @property
    def powered(self) -> bool:
        """Whether the host is up. A host without a model always is."""
        return True

    def _came_up(self) -> None:
        """The host is up again."""

    def close(self) -> None:
        """Stop serving and end all shells."""
        self.listener.stop()
        self.service.close()
        if self._accounts is not None:
            self._accounts.close()


class PowerShellHost(WSManHost):
    """A host whose shells are real PowerShell processes without a model.

    Args:
        environment: variables for the PowerShell processes.

    Raises:
        ConfigurationError: there is no PowerShell.
    """

    def __init__(self, *, environment: Mapping[str, str] | None = None, **settings: Any) -> None:
        pwsh = find_pwsh(os.environ)

        def factory(sink: Sink) -> Engine:
            return PowerShellEngine(sink, pwsh, environment or {})

        super().__init__(factory, **settings)


class SimulatedHost(WSManHost):
    """One host of a simulated world.

    Args:
        model: the world.
        engine: what runs operations: ``builtin`` (Python) or ``powershell`` (the scripts themselves).
        node: name of the host; None for the first.
        jea: folder of a JEA kit that ``hvps jea`` wrote, to have its endpoint as well; the engine must be
            ``powershell``.

    Other arguments are those of ``WSManHost``.

    Raises:
        ConfigurationError: there is no such engine, or it cannot run on this machine.
    """

    def __init__(
        self,
        model: Model,
        *,
        engine: str = "builtin",
        node: str | None = None,
        jea: Path | None = None,
        **settings: Any,
    ) -> None:
        self.model = model
        self.engine = engine
        self._model_service: ModelService | None = None
        self._record = model.nodes.get(node)
        # Always a name: without one, the model would list the VMs of all hosts.
        self.node = self._record.name
        self._power = Lock()
        self._serving = True
        self._booted = self._record.booted
        factory = self._factory()
        endpoints = {} if jea is None else self._jea_endpoint(jea)
        super().__init__(factory, endpoints=endpoints, **settings)
        model.watch(self._look_for_power)
        self.service.machine = self.node
        self.service.language = lambda: model.knobs.language
        self.service.shells.unread_bytes = lambda: model.knobs.unread_bytes
        self.service.reply_bytes = lambda: model.knobs.reply_bytes
        self.service.config_readable = lambda: not model.knobs.config_unreadable
        self._quotas = self.service.quotas
        model.watch(self._limit)
        self._limit()

    def _factory(self) -> EngineFactory:
        model, node = self.model, self.node
        if engine_is(self.engine, "builtin"):
            return lambda sink: BuiltinEngine(sink, model, node)
        pwsh = find_pwsh(os.environ)
        self._model_service = ModelService(model)
        environment = self._model_service.environment(node)

        def factory(sink: Sink) -> Engine:
            # Its handles of disks are sockets to the model, which close with the process.
            knobs = {
                "HVPS_SIM_RIGHTS": model.knobs.rights,
                "HVPS_SIM_LANGUAGE_MODE": model.knobs.language_mode,
            }
            return PowerShellEngine(sink, pwsh, {**environment, **knobs})

        return factory

    def _jea_endpoint(self, kit: Path) -> dict[str, EngineFactory]:
        configuration = next(iter(sorted(kit.glob("*.pssc"))), None)
        if configuration is None:
            raise ConfigurationError("jea", f"{kit} has no session configuration; write it with hvps jea")
        if self._model_service is None:
            raise ConfigurationError("jea", "only the powershell engine has a JEA endpoint")
        pwsh = find_pwsh(os.environ)
        environment = {**self._model_service.environment(self.node), "HVPS_SIM_JEA": str(configuration)}

        def factory(sink: Sink) -> Engine:
            return PowerShellEngine(sink, pwsh, environment, restricted=True)

        return {configuration.stem.lower(): factory}

    def skew_clock(self, seconds: float) -> None:
        """Set the clock ahead of the true time.

        Raises:
            ValueError: the model's clock cannot be set.
        """
        if not isinstance(self.model.clock, SystemClock):
            raise ValueError("the clock can only be set ahead if the model uses the system clock")
        self.model.clock.skew_seconds = seconds

    @property
    def powered(self) -> bool:
        """Whether the model's host is alive."""
        return self._record.alive

    def _came_up(self) -> None:
        with self._power:
            self._record.booted = self._booted = self.model.clock.now()

    def _limit(self) -> None:
        """Lower the limits of WinRM to those of the knobs."""
        knobs, quotas = self.model.knobs, self._quotas
        self.service.shells.quotas = replace(
            quotas,
            shells_per_user=min(quotas.shells_per_user, knobs.shells_per_user),
            shell_memory_mb=min(quotas.shell_memory_mb, knobs.shell_memory_mb),
        )

    def _look_for_power(self) -> None:
        # May be called with the model's lock, which ending a shell may need: do it in another thread.
        if self.powered != self._serving or self._record.booted != self._booted:
            Thread(target=self._follow_power, name="wsman-power", daemon=True).start()

    def _follow_power(self) -> None:
        """Go down with the model's host, and come up with it."""
        with self._power:
            booted, self._booted = self._booted, self._record.booted
            if not self.powered and self._serving:
                self._serving = False
                self.listener.power_off()
            elif self.powered and not self._serving:
                self._serving = True
                self.listener.power_on()
            elif self.powered and booted != self._booted:
                self.listener.go_down(BOOT_SECONDS, lambda: None)

    def close(self) -> None:
        """Stop serving and end all shells. The caller closes the model."""
        super().close()
        if self._model_service is not None:
            self._model_service.close()


def engine_is(engine: str, wanted: str) -> bool:
    """Whether ``engine`` is ``wanted``.

    Raises:
        ConfigurationError: there is no engine of that name.
    """
    if engine not in ENGINES:
        raise ConfigurationError("engine", f"unknown engine {engine!r}; use {' or '.join(ENGINES)}")
    return engine == wanted
