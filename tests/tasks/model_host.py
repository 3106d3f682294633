"""``HyperVHost`` on the simulator's model without a wire; the builtin engine's code answers operations.

For tests that need thousands of backups. Parameters, answers, paging, errors and blocks are those of the
product and of the builtin engine; only PSRP, WSMan and retries are left out.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from hvpsbridge import errors
from hvpsbridge.contract import OPERATIONS, Effect, Operation
from hvpsbridge.host import answers
from hvpsbridge.host.binding import BindingError, Tagged, bind_parameters
from hvpsbridge.host.error_records import Record, category_name, from_record
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.configuration import WinRmLimits
from hvpsbridge.host.psrp.shells import HostShell, shell_name
from hvpsbridge.host.retry import while_vm_busy
from hvpsbridge.host.runner import OperationRunner
from hvpsbridge.sim.engines import binder
from hvpsbridge.sim.engines.failure import Failure, of_call
from hvpsbridge.sim.engines.operations import ANSWERS, Context, HostProcess
from hvpsbridge.sim.engines.readers import Readers
from hvpsbridge.sim.model import Model
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.state import Job

T = TypeVar("T")

CREATE, CONVERT = "New-HvpsCheckpoint", "ConvertTo-HvpsReferencePoint"
CATEGORY_NUMBERS = {category_name(number): number for number in range(32)}

# A shell outlives a client that dies without closing it. All nodes of a world share one list.
_SHELLS: WeakKeyDictionary[Model, list[HostShell]] = WeakKeyDictionary()


def shells_of(model: Model) -> list[HostShell]:
    return _SHELLS.setdefault(model, [])


class ModelShell:
    """A shell: a host process with its readers. What ``HyperVHost`` needs of a session."""

    idle_seconds = 0.0

    def __init__(
        self, model: Model, node: str, before: Callable[[str], None], run_id: uuid.UUID | None
    ) -> None:
        self.model = model
        self.node = node
        self.before = before
        self.run_id = run_id
        self.closed = False
        self.shell_id = str(uuid.uuid4()).upper()
        self._booted = model.nodes.get(node).booted
        self._shells = shells_of(model)
        self._shells.append(HostShell(self.shell_id, shell_name(run_id), "backup", 0))
        readers = Readers(model, self.shell_id, node)
        self.process = HostProcess(os.getpid(), datetime.now(UTC), readers)

    def ask(self, name: str) -> None:
        """A message to the host: it arrives unless the shell or the node is gone, or ``before`` raises."""
        node = self.model.nodes.get(self.node)
        if self.closed:
            raise errors.SessionLost(self.node, name, "the shell is closed")
        if not node.alive:
            raise errors.HostUnreachable(self.node, "the node is down")
        if node.booted != self._booted:
            raise errors.SessionLost(self.node, name, "the shell went with the power")
        self.before(name)

    def answer(self, operation: Operation, parameters: dict[str, object], context: Context) -> Iterator[Any]:
        """Results of an operation, as the builtin engine makes them."""
        values = bind_parameters(operation, parameters)
        given = [(key, value.value if isinstance(value, Tagged) else value) for key, value in values.items()]
        try:
            yield from ANSWERS[operation.name](context, binder.bind(operation, given))
        except (Failure, CallRefused) as err:
            error = err if isinstance(err, Failure) else of_call(err)
            record = Record(error.error_id, CATEGORY_NUMBERS[error.category], error.message)
            raise from_record(self.node, operation.name, record) from err

    def shells(self) -> tuple[HostShell, ...]:
        self.ask("list shells")
        return tuple(self._shells)

    def limits(self) -> WinRmLimits:
        return WinRmLimits(shells_per_user=30)

    def end_shell(self, shell_id: str) -> bool:
        self.ask("end shell")
        return self._end(shell_id)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._end(self.shell_id)

    def _end(self, shell_id: str) -> bool:
        self.model.driver.close_owner(shell_id)
        found = [shell for shell in self._shells if shell.shell_id == shell_id]
        for shell in found:
            self._shells.remove(shell)
        return bool(found)


class MessageContext(Context):
    """A run of an operation that creates something: its reply can be lost while the host still works."""

    def __init__(self, shell: ModelShell, name: str) -> None:
        super().__init__(shell.model, shell.node, shell.process)
        self._shell = shell
        self._name = name
        self._made = False

    def run_job(
        self, what: str, method: str, about: object, start: Callable[[], Job], seconds: int
    ) -> Job | None:
        job = super().run_job(what, method, about, start, seconds)
        if method.endswith(".CreateSnapshot"):
            self._shell.before(f"{CREATE}: rename")
        self._made = True
        return job

    def pause(self) -> None:
        self.reply()
        super().pause()

    def reply(self) -> None:
        """The moment at which the reply can be lost: once what was asked for exists."""
        if self._made:
            self._made = False
            self._shell.before(f"{self._name}: reply")


class ModelHost(HyperVHost):
    """One node of a model, through one pretended shell. Only a VM in use is tried again.

    ``before`` is called with the name of each message and may raise; that is how tests cut the wire.
    """

    def __init__(
        self,
        model: Model,
        node: str | None = None,
        before: Callable[[str], None] = lambda name: None,
        run_id: uuid.UUID | None = None,
    ) -> None:
        self.shell = ModelShell(model, model.nodes.get(node).name, before, run_id)
        super().__init__(ModelRunner(self.shell))

    def new_shell(self) -> ModelHost:
        self.shell.ask("open shell")
        return ModelHost(self.shell.model, self.shell.node, self.shell.before, self.shell.run_id)


class ModelRunner(OperationRunner):
    """Runs operations on the model."""

    def __init__(self, shell: ModelShell) -> None:
        super().__init__(SimpleNamespace(name=shell.node), shell, None)  # type: ignore[arg-type]
        self.shell = shell

    def open_reader(self, path: str) -> ModelSource:
        self.shell.ask("Read-HvpsExtent")
        return ModelSource(self.shell, path)

    def _results(
        self, name: str, parameters: dict[str, object], max_bytes: int | None = None
    ) -> Generator[Any, None, None]:
        operation = OPERATIONS[name]
        self.shell.ask(name)
        context = MessageContext(self.shell, name)
        for result in self.shell.answer(operation, parameters, context):
            if name == "Get-HvpsDiskDigest":
                self.shell.ask(f"{name}: page")
            try:
                answers.check_result(name, parameters, result)
            except BindingError as err:
                yield self.violation(operation, str(err))
            else:
                yield result
        if name in (CREATE, CONVERT):
            context.reply()

    def _tried(self, name: str, call: Callable[[], T]) -> T:
        if OPERATIONS[name].effect is Effect.READS:
            return while_vm_busy(call, first_pause_seconds=0.01)
        return call()

    def renew(self) -> None:
        # The loss being handled: no new shell takes the place of a lost one.
        loss = sys.exception()
        assert loss is not None
        raise loss


class ModelSource:
    """A reader pipeline of a :class:`ModelHost`: a request is answered when its reply is asked for."""

    def __init__(self, shell: ModelShell, path: str) -> None:
        self._shell = shell
        self._path = path
        self._requests: list[bytes] = []
        self._blocks = 0
        self.wire_bytes = 0

    def send(self, request: bytes) -> None:
        self._shell.ask("Read-HvpsExtent: send")
        self._requests.append(request)

    def receive(self, timeout_seconds: float) -> Sequence[bytes]:
        self._shell.ask("Read-HvpsExtent: receive")
        if not self._requests:
            time.sleep(min(timeout_seconds, 0.01))
            return ()
        context = Context(self._shell.model, self._shell.node, self._shell.process)
        context.inbox.put(self._requests.pop(0))
        context.inbox.put(None)
        parameters: dict[str, object] = {"Path": self._path, "FirstBlock": self._blocks}
        messages = self._shell.answer(OPERATIONS["Read-HvpsExtent"], parameters, context)
        blocks = [message.block for message in messages]
        self._blocks += len(blocks)
        self.wire_bytes += sum(map(len, blocks))
        return blocks

    def close(self) -> None:
        pass
