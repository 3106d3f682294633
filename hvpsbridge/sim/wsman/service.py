"""What each WSMan action does: one method each, from a parsed request to a reply's bytes."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from xml.sax.saxutils import escape

from hvpsbridge.sim.engines.protocols import EngineFactory, EngineGone
from hvpsbridge.sim.faults import WireFaults
from hvpsbridge.sim.wsman import names
from hvpsbridge.sim.wsman.counters import Counters
from hvpsbridge.sim.wsman.envelope import (
    REPLY_OVERHEAD_BYTES,
    Fault,
    Parts,
    Request,
    fault_reply,
    parse_duration,
    parse_request,
    receive_body,
    reply,
    stream_head,
)
from hvpsbridge.sim.wsman.listing import describe_command, describe_shell
from hvpsbridge.sim.wsman.names import Code
from hvpsbridge.sim.wsman.outbox import ClientGone, ShellBroken, Superseded
from hvpsbridge.sim.wsman.shells import Command, Inbound, Quotas, Shell, ShellTable
from hvpsbridge.sim.wsman.tampering import TamperingSink

logger = logging.getLogger(__name__)

_RSP = f"{{{names.SHELL}}}"
_STREAM_TAIL_BYTES = len(b"</rsp:Stream>")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, and whether the connection it came on is still open."""

    user: str
    address: str
    alive: Callable[[], bool]


@dataclass(slots=True)
class Reply:
    """An HTTP answer.

    Attributes:
        status: HTTP status.
        body: the envelope, in parts.
        action: the request's action, for faults and counters; empty when it could not be read.
        undelivered: called when the client did not get the reply, so that it can be had again.
        repeat: called to give the same data once more to the next Receive.
    """

    status: int
    body: Parts
    action: str = ""
    undelivered: Callable[[], None] | None = None
    repeat: Callable[[], None] | None = None


class Service:
    """The WSMan service of one simulated host.

    Args:
        factory: makes the engine of a new shell.
        quotas: the service's limits.
        machine: the host's name in faults.
        faults: what is to go wrong.

    Attributes:
        machine: the host's name in faults.
        language: gives the language of faults' texts: ``en`` or ``de``.
        shells: every shell there is.
        counters: what was asked and sent.
    """

    def __init__(
        self,
        factory: EngineFactory,
        quotas: Quotas | None = None,
        machine: str = "HV01",
        faults: WireFaults | None = None,
    ) -> None:
        self.quotas = quotas or Quotas()
        self.machine = machine
        self.language: Callable[[], str] = lambda: "en"
        self.faults = faults or WireFaults()
        self.counters = Counters()
        self.shells = ShellTable(self.quotas)
        self._factory = factory
        self._actions: dict[str, Callable[[Request, Caller], Reply]] = {
            names.CREATE: self._create,
            names.DELETE: self._delete,
            names.COMMAND: self._command,
            names.SEND: self._send,
            names.RECEIVE: self._receive,
            names.SIGNAL: self._signal,
            names.ENUMERATE: self._enumerate,
            names.GET: self._get,
            names.DISCONNECT: self._disconnect,
            names.RECONNECT: self._reconnect,
        }

    def handle(self, data: bytes, caller: Caller) -> Reply:
        """Answer one request. A fault is an answer too (status 500).

        Raises:
            ClientGone: the client hung up while its Receive waited; there is nobody to answer.
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
            handler = self._actions.get(action)
            if handler is None:
                raise Fault(Code.ACTION_NOT_SUPPORTED, f"The action {action} is not supported.")
            answer = handler(request, caller)
        except Fault as fault:
            return self._refuse(message_id, action, fault)
        except EngineGone as err:
            return self._refuse(message_id, action, _aborted(str(err)))
        except ClientGone:
            raise
        except Exception as err:
            # A defect of the simulator: told to whoever asked, not ended in a silent thread.
            logger.exception("request failed in the simulator")
            defect = Fault(Code.UNSPECIFIED, f"simulator: {type(err).__name__}: {err}")
            return self._refuse(message_id, action, defect)
        answer.action = action
        return answer

    def refuse(self, data: bytes, code: Code, text: str) -> Reply:
        """A fault in answer to a request that is not carried out."""
        try:
            request = parse_request(data)
        except Fault as fault:
            return self._refuse("", "", fault)
        return self._refuse(request.message_id, request.action, Fault(code, text))

    def shell_of(self, data: bytes, user: str) -> Shell | None:
        """The shell that a request names, None when it names none that is there."""
        try:
            return self.shells.find(parse_request(data).shell_id, user)
        except Fault:
            return None

    def _refuse(self, message_id: str, action: str, fault: Fault) -> Reply:
        self.counters.faulted(int(fault.code))
        text = names.TEXTS.get(self.language(), {}).get(fault.code, fault.text)
        return Reply(500, fault_reply(message_id, Fault(fault.code, text), self.machine), action)

    def close(self) -> None:
        """End every shell."""
        self.shells.remove_all()

    # -- shells ---------------------------------------------------------------------------------------

    def _create(self, request: Request, caller: Caller) -> Reply:
        if not request.resource_uri.startswith(f"{names.POWERSHELL}/") or request.body is None:
            raise Fault(Code.INVALID_RESOURCE_URI, f"There is no resource {request.resource_uri!r} here.")
        first = request.body.findtext(f"{{{names.POWERSHELL}}}creationXml")
        if first is None:
            raise Fault(Code.SCHEMA_VALIDATION, "The request to create a shell has no creationXml.")
        shell_id = request.body.get("ShellId") or str(uuid.uuid4()).upper()
        idle_seconds = parse_duration(request.body.findtext(f"{_RSP}IdleTimeOut"), self.quotas.idle_seconds)
        name = request.body.findtext(f"{_RSP}Name") or ""

        def build(**parts: object) -> Shell:
            return Shell(
                shell_id,
                caller.user,
                caller.address,
                request.resource_uri,
                name,
                idle_seconds,
                **parts,  # type: ignore[arg-type]  # outbox and engine, named by ShellTable.create
            )

        shell = self.shells.create(
            shell_id, caller.user, lambda outbox: TamperingSink(outbox, self.faults), self._factory, build
        )
        shell.engine.open(_compact(first))
        body = (
            f"<x:ResourceCreated><a:Address>{escape(names.ANONYMOUS)}</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{escape(request.resource_uri)}</w:ResourceURI><w:SelectorSet>"
            f'<w:Selector Name="ShellId">{escape(shell_id)}</w:Selector></w:SelectorSet>'
            f"</a:ReferenceParameters></x:ResourceCreated>{describe_shell(shell)}"
        )
        return Reply(200, reply(request, (body.encode(),)))

    def _delete(self, request: Request, caller: Caller) -> Reply:
        self.shells.remove(self.shells.find(request.shell_id, caller.user))
        return Reply(200, reply(request, ()))

    def _get(self, request: Request, caller: Caller) -> Reply:
        if request.resource_uri.startswith(names.CONFIG):
            config = (
                f'<cfg:Config xmlns:cfg="{names.CONFIG}"><cfg:MaxEnvelopeSizekb>'
                f"{self.quotas.envelope_bytes // 1024}</cfg:MaxEnvelopeSizekb><cfg:MaxTimeoutms>60000"
                "</cfg:MaxTimeoutms><cfg:MaxBatchItems>32000</cfg:MaxBatchItems></cfg:Config>"
            )
            return Reply(200, reply(request, (config.encode(),)))
        shell = self.shells.find(request.shell_id, caller.user)
        return Reply(200, reply(request, (describe_shell(shell).encode(),)))

    def _enumerate(self, request: Request, caller: Caller) -> Reply:
        if request.resource_uri == names.SHELLS:
            items = "".join(
                describe_shell(shell) for shell in self.shells.all() if shell.owner == caller.user
            )
        elif request.resource_uri == names.COMMANDS:
            selector = None
            if request.body is not None:
                selector = request.body.findtext(f".//{{{names.WSMAN}}}Selector[@Name='ShellId']")
            shell = self.shells.find(selector or "", caller.user)
            items = "".join(describe_command(shell, command) for command in tuple(shell.commands.values()))
        else:
            raise Fault(Code.INVALID_RESOURCE_URI, f"There is no resource {request.resource_uri!r} here.")
        body = f"<n:EnumerateResponse><w:Items>{items}</w:Items><w:EndOfSequence/></n:EnumerateResponse>"
        return Reply(200, reply(request, (body.encode(),)))

    def _disconnect(self, request: Request, caller: Caller) -> Reply:
        self.shells.find(request.shell_id, caller.user).disconnected = True
        return Reply(200, reply(request, (b"<rsp:DisconnectResponse/>",)))

    def _reconnect(self, request: Request, caller: Caller) -> Reply:
        self.shells.find(request.shell_id, caller.user).disconnected = False
        return Reply(200, reply(request, (b"<rsp:ReconnectResponse/>",)))

    # -- commands -------------------------------------------------------------------------------------

    def _command(self, request: Request, caller: Caller) -> Reply:
        shell = self.shells.find(request.shell_id, caller.user)
        if request.body is None:
            raise Fault(Code.SCHEMA_VALIDATION, "The request to start a command has no command line.")
        command_id = request.body.get("CommandId") or str(uuid.uuid4()).upper()
        fragments = _compact("".join(part.text or "" for part in request.body.iterfind(f"{_RSP}Arguments")))
        if len(shell.commands) >= self.quotas.commands_per_shell:
            raise Fault(
                Code.QUOTA_OPERATIONS,
                "The WS-Management service cannot process the request. The maximum number of concurrent "
                f"commands of a shell, {self.quotas.commands_per_shell}, has been exceeded.",
            )
        command = Command(command_id, Inbound(self.quotas))
        command.inbound.count(fragments)
        shell.commands[command.key] = command
        self.counters.started(command.key, fragments)
        shell.outbox.open(command.key)
        shell.engine.start(command.key, fragments)
        body = (
            f"<rsp:CommandResponse><rsp:CommandId>{escape(command_id)}</rsp:CommandId></rsp:CommandResponse>"
        )
        return Reply(200, reply(request, (body.encode(),)))

    def _send(self, request: Request, caller: Caller) -> Reply:
        shell = self.shells.find(request.shell_id, caller.user)
        for stream in () if request.body is None else request.body.iterfind(f"{_RSP}Stream"):
            command_id = stream.get("CommandId")
            command = shell.command(command_id) if command_id else None
            fragments = _compact(stream.text or "")
            if command is not None:
                try:
                    command.inbound.count(fragments)
                    self.counters.fed(command.key, fragments)
                except Fault:
                    self._forget(shell, command)
                    raise
            shell.engine.feed(command.key if command else None, fragments)
        return Reply(200, reply(request, (b"<rsp:SendResponse/>",)))

    def _signal(self, request: Request, caller: Caller) -> Reply:
        shell = self.shells.find(request.shell_id, caller.user)
        if request.body is None:
            raise Fault(Code.SCHEMA_VALIDATION, "The request to signal has no code.")
        command = shell.command(request.body.get("CommandId") or "")
        code = request.body.findtext(f"{_RSP}Code") or ""
        if code.lower() == names.SIGNAL_TERMINATE:
            self._forget(shell, command)
        else:
            shell.engine.stop(command.key)
        return Reply(200, reply(request, (b"<rsp:SignalResponse/>",)))

    def _forget(self, shell: Shell, command: Command) -> None:
        shell.commands.pop(command.key, None)
        self.counters.ended(command.key)
        shell.outbox.close(command.key)
        shell.engine.release(command.key)

    def _receive(self, request: Request, caller: Caller) -> Reply:
        shell = self.shells.find(request.shell_id, caller.user)
        stream = None if request.body is None else request.body.find(f"{_RSP}DesiredStream")
        command_id = None if stream is None else stream.get("CommandId")
        command = shell.command(command_id) if command_id else None
        owner = command or shell
        kept = owner.undelivered
        owner.undelivered = None
        if kept is not None and kept[0] in (request.message_id, None):
            return self._receive_reply(request, owner, kept[1])
        head = stream_head(command_id)
        shell.busy += 1
        try:
            fragments, done = shell.outbox.take(
                command.key if command else None,
                limit_bytes=min(request.envelope_bytes, self.quotas.envelope_bytes) - REPLY_OVERHEAD_BYTES,
                overhead_bytes=len(head) + _STREAM_TAIL_BYTES,
                limit_fragments=self.quotas.fragments_per_reply,
                timeout_seconds=request.timeout_seconds,
                alive=caller.alive,
            )
        except TimeoutError:
            raise Fault(
                Code.OPERATION_TIMED_OUT,
                "The WS-Management service cannot complete the operation within the time specified in "
                "OperationTimeout.",
            ) from None
        except (ShellBroken, Superseded, KeyError) as err:
            raise _aborted(str(err)) from err
        finally:
            shell.busy -= 1
            shell.used = time.monotonic()
        return self._receive_reply(request, owner, receive_body(head, fragments, command_id, done=done))

    def _receive_reply(self, request: Request, owner: Shell | Command, body: Parts) -> Reply:
        def undelivered() -> None:
            owner.undelivered = (request.message_id, body)

        def repeat() -> None:
            owner.undelivered = (None, body)

        return Reply(200, reply(request, body), undelivered=undelivered, repeat=repeat)


def _aborted(reason: str) -> Fault:
    return Fault(
        Code.OPERATION_ABORTED,
        "The I/O operation has been aborted because of either a thread exit or an application request. "
        f"({reason})",
    )


def _compact(text: str) -> bytes:
    """Base64 without the white space that XML allows around it."""
    data = text.encode()
    return data if data.isalnum() else b"".join(data.split())


__all__ = ["Caller", "ClientGone", "Reply", "Service"]
