"""The engine that needs no PowerShell: a PSRP server that answers pipelines from Python.

Scripts of hvps are recognized by their first line, ``# hvps operation=<Name> contract=<N>``; the rest is
ignored. Parameters are checked against the contract, and results come from the model, with the types that
the script would return. Other scripts fail.

psrpcore parses what the client sends and keeps the state of the pool. Results are serialized by ``clixml``,
because blocks of a disk are bulk data. No other module uses psrpcore.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock, Semaphore, Thread
from typing import Any
from uuid import UUID

import psrpcore
from psrpcore.types import (
    ErrorCategory,
    ErrorCategoryInfo,
    ErrorRecord,
    NETException,
    PSInvocationState,
)

from hvpsbridge.contract import CONTRACT, OPERATIONS
from hvpsbridge.sim.engines import binder, clixml
from hvpsbridge.sim.engines.failure import Failure, failure, of_call
from hvpsbridge.sim.engines.operations import ANSWERS, Context, HostProcess, Stopped
from hvpsbridge.sim.engines.protocols import EngineGone, Sink
from hvpsbridge.sim.engines.readers import Readers
from hvpsbridge.sim.model import Model
from hvpsbridge.sim.model.calls import CallRefused

logger = logging.getLogger(__name__)

_FIRST_LINE = re.compile(r"# hvps operation=([A-Za-z-]+) contract=(\d+)\s*")
# First object id of results; psrpcore counts its own objects from 1.
_FIRST_OBJECT = 1 << 32
# Process ids of shells, above the default maximum of Linux.
_process_ids = itertools.count(1 << 22)


@dataclass(slots=True)
class _Run:
    """One pipeline."""

    key: str
    context: Context
    pipeline: psrpcore.ServerPipeline
    thread: Thread | None = None


# Leaves room for the byte order mark.
_SENT_BYTES = clixml.FRAGMENT_BYTES - 3


class BuiltinEngine:
    """One shell. Each pipeline is a thread; the size of the pool limits how many run.

    Args:
        sink: takes fragments.
        model: the simulated world.
        node: name of the host; None for the first.
    """

    def __init__(self, sink: Sink, model: Model, node: str | None = None) -> None:
        self._sink = sink
        self._model = model
        self._node = node
        self._process_id = next(_process_ids)
        self._owner = f"pid:{self._process_id}"
        self._process = HostProcess(self._process_id, datetime.now(UTC), Readers(model, self._owner, node))
        self._pool = psrpcore.ServerRunspacePool()
        self._lock = Lock()
        self._runs: dict[str, _Run] = {}
        self._objects = itertools.count(_FIRST_OBJECT)
        self._runspaces = Semaphore(1)
        self._closed = False

    @property
    def process_id(self) -> int:
        """Id of the process that this shell pretends to be."""
        return self._process_id

    def open(self, fragments: bytes) -> None:
        """Start the runspace pool."""
        self._take(fragments)
        self._runspaces = Semaphore(max(1, self._pool.max_runspaces))

    def start(self, key: str, fragments: bytes) -> None:
        """Start a pipeline."""
        self._alive()
        context = Context(self._model, self._node, self._process)
        with self._lock:
            pipeline = psrpcore.ServerPipeline(self._pool, UUID(key))
        self._runs[key] = _Run(key, context, pipeline)
        self._take(fragments)

    def feed(self, key: str | None, fragments: bytes) -> None:
        """Pass further fragments on."""
        self._alive()
        self._take(fragments)

    def stop(self, key: str) -> None:
        """Stop a running pipeline."""
        self._alive()
        run = self._runs.get(key)
        if run is not None:
            run.context.stopping.set()

    def release(self, key: str) -> None:
        """Stop a pipeline if it is running, and forget it."""
        run = self._runs.pop(key, None)
        if run is not None:
            run.context.stopping.set()

    def kill(self) -> None:
        """End the shell as if its process was killed."""
        # First, because a pipeline may wait for space in a queue that is no longer emptied.
        self._sink.fail(f"process {self._process_id} was killed")
        self.close()

    def close(self) -> None:
        """End all pipelines and detach all disks."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            # No pipeline starts from here on.
            runs = list(self._runs.values())
        for run in runs:
            run.context.stopping.set()
        for run in runs:
            if run.thread is not None:
                run.thread.join(timeout=5)
        self._process.readers.close()
        self._model.driver.close_owner(self._owner)
        self._model.host_files.close_owner(self._owner)

    def _alive(self) -> None:
        if self._closed:
            raise EngineGone(f"process {self._process_id} has ended")

    # -- input --------------------------------------------------------------------------------

    def _take(self, fragments: bytes) -> None:
        self._process.readers.close_idle()
        out: list[tuple[str | None, bytes]] = []
        with self._lock:
            self._pool.receive_data(psrpcore.PSRPPayload(base64.b64decode(fragments), _DEFAULT, None))
            while (event := self._pool.next_event()) is not None:
                self._on(event)
                out += self._drain()
        for key, fragment in out:
            self._sink.put(key, fragment)

    def _drain(self) -> Iterator[tuple[str | None, bytes]]:
        """Output of psrpcore. Hold the lock."""
        while (payload := self._pool.data_to_send(_SENT_BYTES)) is not None:
            key = str(payload.pipeline_id) if payload.pipeline_id else None
            for fragment in clixml.split_fragments(payload.data):
                yield key, fragment

    def _on(self, event: psrpcore.PSRPEvent[Any, Any]) -> None:
        """Handle an event of the client. Hold the lock."""
        if isinstance(event, psrpcore.CreatePipelineEvent):
            run = self._runs.get(str(event.pipeline_id))
            if run is None or self._closed:
                return
            if event.pipeline.no_input:
                run.context.inbox.put(None)
            run.thread = Thread(target=self._run, args=(run, event), name=f"pipeline-{run.key}", daemon=True)
            run.thread.start()
        elif isinstance(event, psrpcore.PipelineInputEvent):
            self._put_input(str(event.pipeline_id), event.data)
        elif isinstance(event, psrpcore.EndOfPipelineInputEvent):
            self._put_input(str(event.pipeline_id), None)
        elif isinstance(event, psrpcore.GetAvailableRunspacesEvent):
            busy = sum(run.thread is not None and run.thread.is_alive() for run in list(self._runs.values()))
            self._pool.runspace_availability_response(event.ci, max(0, self._pool.max_runspaces - busy))
        elif isinstance(event, psrpcore.SetMaxRunspacesEvent | psrpcore.SetMinRunspacesEvent):
            self._pool.runspace_availability_response(event.ci, False)
        elif isinstance(event, psrpcore.ResetRunspaceStateEvent):
            self._pool.runspace_availability_response(event.ci, True)

    def _put_input(self, key: str, item: object) -> None:
        run = self._runs.get(key)
        if run is not None:
            run.context.inbox.put(bytes(item) if isinstance(item, bytes | bytearray) else item)

    # -- running ----------------------------------------------------------------------------------------

    def _run(self, run: _Run, event: psrpcore.CreatePipelineEvent) -> None:
        """The thread of a pipeline: wait for a runspace, send results, send the final state."""
        while not self._runspaces.acquire(timeout=0.1):
            if run.context.stopping.is_set():
                self._end(run, None, stopped=True)
                return
        try:
            with self._lock:
                run.pipeline.start()
                # The real engine does not send the state Running.
                for _ in self._drain():
                    pass
            error: Failure | None = None
            stopped = False
            try:
                for result in self._answer(run, event):
                    run.context.check()
                    self._emit(run, clixml.result_object(result))
            except Stopped:
                stopped = True
            except Failure as err:
                error = err
            except CallRefused as err:
                error = of_call(err)
            except Exception as err:
                # A bug in the simulator. The client must learn of it; the thread would end silently.
                logger.exception("operation failed in the simulator")
                error = failure("Hvps.Unexpected", f"simulator: {type(err).__name__}: {err}")
            self._end(run, error, stopped=stopped)
        finally:
            self._runspaces.release()

    def _answer(self, run: _Run, event: psrpcore.CreatePipelineEvent) -> Iterator[object]:
        commands = getattr(event.pipeline, "commands", [])
        text = commands[0].command_text if len(commands) == 1 else ""
        line = _FIRST_LINE.match(text)
        if line is None or line[1] not in OPERATIONS:
            raise Failure(
                "Hvps.NotOurScript", "NotImplemented", "the builtin engine runs the operations of hvps only"
            )
        if int(line[2]) != CONTRACT:
            raise Failure(
                "Hvps.OtherContract",
                "InvalidArgument",
                f"{line[1]} was written for contract {line[2]}, this simulated host has {CONTRACT}",
            )
        if self._model.knobs.language_mode != "FullLanguage":
            raise Failure(
                "MethodInvocationNotSupportedInConstrainedLanguage",
                "InvalidOperation",
                "Method invocation is supported only on core types in this language mode.",
            )
        given = binder.bind(OPERATIONS[line[1]], commands[0].parameters)
        return ANSWERS[line[1]](run.context, given)

    def _emit(self, run: _Run, element: bytes) -> None:
        message = clixml.message(clixml.PIPELINE_OUTPUT, self._pool.runspace_pool_id, UUID(run.key), element)
        for fragment in clixml.fragments(next(self._objects), message):
            self._sink.put(run.key, fragment)

    def _end(self, run: _Run, error: Failure | None, *, stopped: bool) -> None:
        """Send the pipeline's final state."""
        if self._closed:
            return
        with self._lock:
            pipeline = run.pipeline
            with contextlib.suppress(psrpcore.PSRPCoreError):
                if stopped:
                    if pipeline.state == PSInvocationState.NotStarted:
                        pipeline.start()
                        list(self._drain())
                    pipeline.stop()
                elif error is not None:
                    pipeline._change_state(PSInvocationState.Failed, error=_record(error))
                else:
                    pipeline.complete()
            out = list(self._drain())
            self._pool.pipeline_table.pop(pipeline.pipeline_id, None)
        for key, fragment in out:
            self._sink.put(key, fragment)


_DEFAULT = psrpcore.StreamType.default


def _record(error: Failure) -> ErrorRecord:
    exception = NETException(Message=error.message, HResult=-2146233079)
    exception.PSObject.type_names = [*error.type_names, *exception.PSTypeNames]
    reason = error.type_names[0].rpartition(".")[2]
    return ErrorRecord(
        Exception=exception,
        CategoryInfo=ErrorCategoryInfo(Category=ErrorCategory[error.category], Reason=reason),
        FullyQualifiedErrorId=error.error_id,
    )


__all__ = ["BuiltinEngine"]
