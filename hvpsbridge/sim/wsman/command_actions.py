"""WSMan actions on the commands of a shell: start, send, receive, signal."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Mapping
from xml.sax.saxutils import escape

from hvpsbridge.sim.wsman import names
from hvpsbridge.sim.wsman.counters import Counters
from hvpsbridge.sim.wsman.envelope import (
    REPLY_OVERHEAD_BYTES,
    Fault,
    Parts,
    Request,
    compact,
    receive_body,
    reply,
    stream_head,
)
from hvpsbridge.sim.wsman.exchange import Caller, Handler, Reply, aborted
from hvpsbridge.sim.wsman.names import Code
from hvpsbridge.sim.wsman.outbox import ShellBroken, Superseded
from hvpsbridge.sim.wsman.shells import Command, Inbound, Quotas, Shell, ShellTable

_RSP = f"{{{names.SHELL}}}"
_STREAM_TAIL_BYTES = len(b"</rsp:Stream>")


class CommandActions:
    """Actions on the commands of shells. A handler raises ``Fault`` if it refuses a request."""

    def __init__(
        self, shells: ShellTable, quotas: Quotas, counters: Counters, reply_bytes: Callable[[], int]
    ) -> None:
        self._reply_bytes = reply_bytes
        self._shells = shells
        self._quotas = quotas
        self._counters = counters

    def handlers(self) -> Mapping[str, Handler]:
        """Handlers by action."""
        return {
            names.COMMAND: self._command,
            names.SEND: self._send,
            names.RECEIVE: self._receive,
            names.SIGNAL: self._signal,
        }

    def _command(self, request: Request, caller: Caller) -> Reply:
        shell = self._shells.find(request.shell_id, caller.user)
        if request.body is None:
            raise Fault(Code.SCHEMA_VALIDATION, "The request to start a command has no command line.")
        command_id = request.body.get("CommandId") or str(uuid.uuid4()).upper()
        fragments = compact("".join(part.text or "" for part in request.body.iterfind(f"{_RSP}Arguments")))
        if len(shell.commands) >= self._quotas.commands_per_shell:
            raise Fault(
                Code.QUOTA_OPERATIONS,
                "The WS-Management service cannot process the request. The maximum number of concurrent "
                f"commands of a shell, {self._quotas.commands_per_shell}, has been exceeded.",
            )
        command = Command(command_id, Inbound(self._quotas))
        command.inbound.count(fragments)
        shell.commands[command.key] = command
        self._counters.started(command.key, fragments)
        shell.outbox.open(command.key)
        shell.engine.start(command.key, fragments)
        body = (
            f"<rsp:CommandResponse><rsp:CommandId>{escape(command_id)}</rsp:CommandId></rsp:CommandResponse>"
        )
        return Reply(200, reply(request, (body.encode(),)))

    def _send(self, request: Request, caller: Caller) -> Reply:
        shell = self._shells.find(request.shell_id, caller.user)
        for stream in () if request.body is None else request.body.iterfind(f"{_RSP}Stream"):
            command_id = stream.get("CommandId")
            command = shell.command(command_id) if command_id else None
            fragments = compact(stream.text or "")
            if command is not None:
                try:
                    command.inbound.count(fragments)
                    self._counters.fed(command.key, fragments)
                except Fault:
                    self._forget(shell, command)
                    raise
            shell.engine.feed(command.key if command else None, fragments)
        return Reply(200, reply(request, (b"<rsp:SendResponse/>",)))

    def _signal(self, request: Request, caller: Caller) -> Reply:
        shell = self._shells.find(request.shell_id, caller.user)
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
        self._counters.ended(command.key)
        shell.outbox.close(command.key)
        shell.engine.release(command.key)

    def _receive(self, request: Request, caller: Caller) -> Reply:
        shell = self._shells.find(request.shell_id, caller.user)
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
                limit_bytes=min(request.envelope_bytes, self._quotas.envelope_bytes) - REPLY_OVERHEAD_BYTES,
                overhead_bytes=len(head) + _STREAM_TAIL_BYTES,
                enough_bytes=self._reply_bytes() or sys.maxsize,
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
            raise aborted(str(err)) from err
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
