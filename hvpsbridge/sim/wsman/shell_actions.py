"""WSMan actions on shells: create, delete, show, disconnect."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from xml.sax.saxutils import escape

from hvpsbridge.sim.engines.protocols import EngineFactory
from hvpsbridge.sim.faults import WireFaults
from hvpsbridge.sim.wsman import names
from hvpsbridge.sim.wsman.envelope import Fault, Request, compact, parse_duration, reply
from hvpsbridge.sim.wsman.exchange import Caller, Handler, Reply
from hvpsbridge.sim.wsman.listing import describe_command, describe_shell
from hvpsbridge.sim.wsman.names import Code
from hvpsbridge.sim.wsman.shells import Quotas, Shell, ShellTable
from hvpsbridge.sim.wsman.tampering import TamperingSink

_RSP = f"{{{names.SHELL}}}"


class ShellActions:
    """Actions on the shells of a host. A handler raises ``Fault`` if it refuses a request."""

    def __init__(
        self,
        shells: ShellTable,
        quotas: Quotas,
        faults: WireFaults,
        endpoints: Mapping[str, EngineFactory],
        configuration: Callable[[str], bytes],
        machine: Callable[[], str],
    ) -> None:
        self._machine = machine
        self._configuration = configuration
        self._shells = shells
        self._quotas = quotas
        self._faults = faults
        self._endpoints = endpoints

    def handlers(self) -> Mapping[str, Handler]:
        """Handlers by action."""
        return {
            names.CREATE: self._create,
            names.DELETE: self._delete,
            names.ENUMERATE: self._enumerate,
            names.GET: self._get,
            names.DISCONNECT: self._disconnect,
            names.RECONNECT: self._reconnect,
        }

    def _create(self, request: Request, caller: Caller) -> Reply:
        head, _, endpoint = request.resource_uri.rpartition("/")
        factory = self._endpoints.get(endpoint.lower()) if head == names.POWERSHELL else None
        if factory is None or request.body is None:
            raise Fault(Code.INVALID_RESOURCE_URI, f"The resource {request.resource_uri!r} does not exist.")
        first = request.body.findtext(f"{{{names.POWERSHELL}}}creationXml")
        if first is None:
            raise Fault(Code.SCHEMA_VALIDATION, "The request to create a shell has no creationXml.")
        shell_id = request.body.get("ShellId") or str(uuid.uuid4()).upper()
        idle_seconds = parse_duration(request.body.findtext(f"{_RSP}IdleTimeOut"), self._quotas.idle_seconds)
        name = request.body.findtext(f"{_RSP}Name") or ""

        def build(**parts: object) -> Shell:
            return Shell(
                shell_id=shell_id,
                owner=caller.user,
                client_address=caller.address,
                resource_uri=request.resource_uri,
                name=name,
                idle_seconds=idle_seconds,
                **parts,  # type: ignore[arg-type]  # outbox and engine, named by ShellTable.create
            )

        shell = self._shells.create(
            shell_id, caller.user, lambda outbox: TamperingSink(outbox, self._faults), factory, build
        )
        shell.engine.open(compact(first))
        body = (
            f"<x:ResourceCreated><a:Address>{escape(request.to)}</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{escape(request.resource_uri)}</w:ResourceURI><w:SelectorSet>"
            f'<w:Selector Name="ShellId">{escape(shell_id)}</w:Selector></w:SelectorSet>'
            f"</a:ReferenceParameters></x:ResourceCreated>"
            + describe_shell(shell, self._machine(), memory=False)
        )
        return Reply(200, reply(request, (body.encode(),)))

    def _delete(self, request: Request, caller: Caller) -> Reply:
        self._shells.remove(self._shells.find(request.shell_id, caller.user))
        return Reply(200, reply(request, ()))

    def _get(self, request: Request, caller: Caller) -> Reply:
        if request.resource_uri.startswith(names.CONFIG):
            return Reply(200, reply(request, (self._configuration(request.resource_uri),)))
        shell = self._shells.find(request.shell_id, caller.user)
        return Reply(200, reply(request, (describe_shell(shell, self._machine()).encode(),)))

    def _enumerate(self, request: Request, caller: Caller) -> Reply:
        if request.resource_uri == names.SHELLS:
            items = "".join(
                describe_shell(shell, self._machine())
                for shell in self._shells.all()
                if shell.owner == caller.user
            )
        elif request.resource_uri == names.COMMANDS:
            selector = None
            if request.body is not None:
                selector = request.body.findtext(f".//{{{names.WSMAN}}}Selector[@Name='ShellId']")
            shell = self._shells.find(selector or "", caller.user)
            items = "".join(describe_command(command) for command in tuple(shell.commands.values()))
        else:
            raise Fault(Code.INVALID_RESOURCE_URI, f"The resource {request.resource_uri!r} does not exist.")
        found = f"<w:Items>{items}</w:Items>" if items else ""
        body = (
            f"<n:EnumerateResponse><n:EnumerationContext></n:EnumerationContext>{found}<w:EndOfSequence/>"
            "</n:EnumerateResponse>"
        )
        return Reply(200, reply(request, (body.encode(),)))

    def _disconnect(self, request: Request, caller: Caller) -> Reply:
        self._shells.find(request.shell_id, caller.user).disconnected = True
        return Reply(200, reply(request, ()))

    def _reconnect(self, request: Request, caller: Caller) -> Reply:
        self._shells.find(request.shell_id, caller.user).disconnected = False
        return Reply(200, reply(request, ()))
