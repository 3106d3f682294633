"""The WSMan service: dispatches requests to actions, and turns errors into faults."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from hvpsbridge.sim.engines.protocols import EngineFactory, EngineGone
from hvpsbridge.sim.faults import WireFaults
from hvpsbridge.sim.wsman import names
from hvpsbridge.sim.wsman.command_actions import CommandActions
from hvpsbridge.sim.wsman.configuration import describe_configuration
from hvpsbridge.sim.wsman.counters import Counters
from hvpsbridge.sim.wsman.envelope import Fault, fault_reply, parse_request
from hvpsbridge.sim.wsman.exchange import Caller, Handler, Reply, aborted
from hvpsbridge.sim.wsman.names import Code
from hvpsbridge.sim.wsman.outbox import ClientGone
from hvpsbridge.sim.wsman.shell_actions import ShellActions
from hvpsbridge.sim.wsman.shells import Quotas, Shell, ShellTable

logger = logging.getLogger(__name__)


class Service:
    """The WSMan service of one simulated host.

    Args:
        factory: creates the engine of a new shell.
        quotas: limits of the service.
        machine: name of the host in WSMan faults.
        faults: faults that tests arm.
        endpoints: engines of further session configurations, by name in lower case.

    Attributes:
        machine: name of the host in WSMan faults and owners of shells.
        reply_bytes: returns how many bytes of fragments end a reply; 0 for as many as the envelope holds.
        language: returns the language of fault texts, ``en`` or ``de``.
        config_readable: returns whether the configuration may be read.
        shells: all shells.
        counters: counts requests and replies.
    """

    def __init__(
        self,
        factory: EngineFactory,
        quotas: Quotas | None = None,
        machine: str = "HV01",
        faults: WireFaults | None = None,
        endpoints: Mapping[str, EngineFactory] | None = None,
    ) -> None:
        self.quotas = quotas or Quotas()
        self.machine = machine
        self.language: Callable[[], str] = lambda: "en"
        self.reply_bytes: Callable[[], int] = lambda: 0
        self.config_readable: Callable[[], bool] = lambda: True
        self.faults = faults or WireFaults()
        self.counters = Counters()
        self.shells = ShellTable(self.quotas)
        engines = {names.DEFAULT_ENDPOINT: factory, **(endpoints or {})}
        self._handlers: dict[str, Handler] = {
            **ShellActions(
                self.shells, self.quotas, self.faults, engines, self._configuration, lambda: self.machine
            ).handlers(),
            **CommandActions(self.shells, self.quotas, self.counters, lambda: self.reply_bytes()).handlers(),
        }

    def handle(self, data: bytes, caller: Caller) -> Reply:
        """The reply to a request, possibly a fault (status 500).

        Raises:
            ClientGone: the client disconnected while its Receive waited.
        """
        message_id = action = ""
        try:
            if len(data) > self.quotas.envelope_bytes:
                raise Fault(
                    Code.ENVELOPE_TOO_LARGE,
                    f"The request of {len(data)} bytes exceeds MaxEnvelopeSizekb of this service, "
                    f"{self.quotas.envelope_bytes} bytes.",
                )
            request = parse_request(data)
            message_id, action = request.message_id, request.action
            handler = self._handlers.get(action)
            if handler is None:
                raise Fault(Code.ACTION_NOT_SUPPORTED, f"The action {action} is not supported.")
            answer = handler(request, caller)
        except Fault as fault:
            return self._refuse(message_id, action, fault)
        except EngineGone as err:
            return self._refuse(message_id, action, aborted(str(err)))
        except ClientGone:
            raise
        except Exception as err:
            # A bug in the simulator. The client must learn of it; the thread would end silently.
            logger.exception("request failed in the simulator")
            defect = Fault(Code.UNSPECIFIED, f"simulator: {type(err).__name__}: {err}")
            return self._refuse(message_id, action, defect)
        answer.action = action
        return answer

    def refuse(self, data: bytes, code: Code, text: str) -> Reply:
        """A fault as the reply to a request that is not processed."""
        try:
            request = parse_request(data)
        except Fault as fault:
            return self._refuse("", "", fault)
        return self._refuse(request.message_id, request.action, Fault(code, text))

    def shell_of(self, data: bytes, user: str) -> Shell | None:
        """The shell that a request names, or None."""
        try:
            return self.shells.find(parse_request(data).shell_id, user)
        except Fault:
            return None

    def _refuse(self, message_id: str, action: str, fault: Fault) -> Reply:
        self.counters.faulted(int(fault.code))
        text = names.TEXTS.get(self.language(), {}).get(fault.code, fault.text)
        shown = Fault(fault.code, text, of_shell=fault.of_shell)
        return Reply(500, fault_reply(message_id, shown, self.machine), action)

    def _configuration(self, resource_uri: str) -> bytes:
        if not self.config_readable():
            raise Fault(Code.ACCESS_DENIED, "Access is denied.")
        return describe_configuration(resource_uri, self.shells.quotas)

    def close(self) -> None:
        """Close all shells."""
        self.shells.remove_all()
