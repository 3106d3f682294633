"""Runs operations of the contract in a shell of a host, and opens a new shell when it is lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar
from uuid import UUID

from hvpsbridge.contract import OPERATIONS, Effect, Operation
from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import ConnectionLimit, OperationFailed, ProtocolViolation, SessionLost
from hvpsbridge.host import answers
from hvpsbridge.host.binding import BindingError, bind_parameters, bind_result
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.opening import open_session
from hvpsbridge.host.psrp.session import IDLE_TIMEOUT_SECONDS, Session
from hvpsbridge.host.reader import READ_EXTENT, PipelineSource
from hvpsbridge.host.retry import by_effect
from hvpsbridge.host.scripts import script_text
from hvpsbridge.host.writer import WRITE_DISK, WRITE_FILE, FileWriter
from hvpsbridge.units import MIB

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A shell that was idle for this long is asked something harmless before it creates anything.
WAKE_SECONDS = IDLE_TIMEOUT_SECONDS / 4
# Parameter of operations that wait for a WMI job, and how much longer their answer may take.
JOB_SECONDS = "JobSeconds"
JOB_REPLY_SECONDS = 100
# Of an answer that is kept as a whole. A host with 2000 VMs lists them in 8 MiB.
MAX_ANSWER_BYTES = 64 * MIB


class OperationRunner:
    """Runs operations in one shell, which is replaced when it is lost. Thread-safe.

    Attributes:
        connection: how to reach the host.
        session: the current shell.
        run_id: shows in the names of shells on the host.
    """

    def __init__(self, connection: HostConnection, session: Session, run_id: UUID | None) -> None:
        self.connection = connection
        self.session = session
        self.run_id = run_id
        self._renewing = threading.Lock()

    def run(self, name: str, **parameters: object) -> Generator[Any, None, None]:
        """The results of an operation, as they arrive. Not retried."""
        return _raising(self._results(name, parameters))

    def fold(self, name: str, take: Callable[[Iterator[Any]], T], **parameters: object) -> T:
        """What ``take`` makes of the results as they arrive, retried as the effect allows.

        Results are not kept, so there may be any number of them.
        """

        def taken() -> T:
            with closing(self.run(name, **parameters)) as results:
                return take(results)

        return self._tried(name, taken)

    def each(self, name: str, **parameters: object) -> tuple[Any, ...]:
        """All results of an operation that reads; one that cannot be read is a ProtocolViolation.

        An error that the host reports after some results comes last in place of the rest.
        """

        def listed() -> tuple[Any, ...]:
            found: list[Any] = []
            try:
                for result in self._results(name, parameters, MAX_ANSWER_BYTES):
                    found.append(result)
            except OperationFailed as err:
                if not found:
                    raise
                found.append(err)
            return tuple(found)

        return self._tried(name, listed)

    def _tried(self, name: str, call: Callable[[], T]) -> T:
        return by_effect(OPERATIONS[name].effect, call, self.renew)

    def _results(
        self, name: str, parameters: dict[str, object], max_bytes: int | None = None
    ) -> Generator[Any, None, None]:
        operation = OPERATIONS[name]
        values = bind_parameters(operation, parameters)
        logger.debug("%s on %s", name, self.connection.name)
        deadline_seconds = operation.deadline_seconds
        if isinstance(job_seconds := parameters.get(JOB_SECONDS), int):
            # The script ends by itself when the job takes too long.
            deadline_seconds = min(deadline_seconds, job_seconds + JOB_REPLY_SECONDS)
        emitted = self.session.run(
            name,
            self.text(operation),
            values,
            deadline_seconds,
            # Half of a creation would leave something that nothing marks as created by hvps.
            to_the_end=operation.effect is Effect.CREATES,
            seconds_each=operation.seconds_each,
            max_bytes=max_bytes,
        )
        # Closed at once: the garbage collector would stop the script much later, in whatever thread it runs.
        with closing(emitted):
            # One that cannot be read is a ProtocolViolation in place of the result.
            for item in emitted:
                try:
                    result = bind_result(operation.result, item.type_names, item.properties)
                    answers.check_result(name, parameters, result)
                    yield result
                except BindingError as err:
                    vm_id = str(item.properties.get("VmId"))[:36]
                    violation = self.violation(operation, f"{err} (VM {vm_id})")
                    violation.__cause__ = err
                    yield violation

    def many(self, name: str, **parameters: object) -> tuple[Any, ...]:
        """All results of an operation, retried as its effect allows."""
        operation = OPERATIONS[name]
        if operation.effect is Effect.CREATES:
            self.wake(parameters.get("VmId"))
        results = self._tried(
            name, lambda: tuple(_raising(self._results(name, parameters, MAX_ANSWER_BYTES)))
        )
        try:
            answers.check_results(results)
        except BindingError as err:
            raise self.violation(operation, str(err)) from err
        return results

    def wake(self, vm_id: object = None) -> None:
        """Before something that cannot be repeated: replace a shell that the host ended because it was idle.

        Args:
            vm_id: a VM to ask about; None to ask about the host.
        """
        if self.session.idle_seconds <= WAKE_SECONDS:
            return
        # A question finds out, and can be repeated.
        if vm_id is not None:
            self.many("Get-HvpsJob", VmId=vm_id)
        else:
            self.many("Get-HvpsHost")

    def one(self, kind: type[T], name: str, **parameters: object) -> T:
        """The only result of an operation, retried as its effect allows.

        Args:
            kind: what the contract says the operation returns; for the type checker only.
            name: of the operation.
            parameters: of the operation.
        """
        results = self.many(name, **parameters)
        if len(results) != 1:
            raise self.violation(OPERATIONS[name], f"{len(results)} objects instead of one")
        only: T = results[0]
        return only

    def new(
        self, name: str, id_of: Callable[[Any], object], existing: Iterable[object], **parameters: object
    ) -> Any:
        """As :meth:`one`, of something that must not have existed before.

        Args:
            name: of the operation.
            id_of: the id of a result.
            existing: the ids from before.
            parameters: of the operation.
        """
        created: Any = self.one(object, name, **parameters)
        if (came := id_of(created)) in set(existing):
            raise self.violation(
                OPERATIONS[name], f"asked for a new object, got {came}, which existed before"
            )
        return created

    def open_reader(self, path: str) -> BlockSource:
        """A reader pipeline of a frozen disk.

        Raises:
            SessionLost: the shell is gone and a new one could not be opened.
        """
        return self._tried(
            READ_EXTENT.name, lambda: PipelineSource(self.session, path, self.text(READ_EXTENT))
        )

    def open_writer(self, path: str, *, disk: bool = False) -> FileWriter:
        """A pipeline that writes a new file, or a disk through the driver, in the current shell.

        Raises:
            SessionLost: the shell is gone.
        """
        operation = WRITE_DISK if disk else WRITE_FILE
        return FileWriter(self.session, path, self.text(operation), operation)

    def renew(self) -> None:
        """Open a new shell if the current one is lost. Threads that come later find it open."""
        with self._renewing:
            if not self.session.lost:
                return
            old = self.session
            logger.warning("%s: session lost, opening a new shell", self.connection.name)
            self.session = open_session(self.connection, self.run_id)
            old.close()
            # The old process may still run and hold a disk, so end it, but do not wait for that.
            try:
                self.session.end_shell(old.shell_id)
            except (SessionLost, ConnectionLimit):
                logger.warning("%s: shell %s may still exist", self.connection.name, old.shell_id)

    def text(self, operation: Operation) -> str | None:
        """The script to send; None if the endpoint has a command for it."""
        return script_text(operation) if self.connection.jea is None else None

    def violation(self, operation: Operation, problem: str) -> ProtocolViolation:
        """The error for a result that does not follow the contract."""
        return ProtocolViolation(self.connection.name, operation.name, problem)


def _raising(results: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """The results; raises the first one that cannot be read. Closes `results`."""
    with closing(results):
        for result in results:
            if isinstance(result, ProtocolViolation):
                raise result
            yield result
