"""One pipeline in a shell: a script with parameters and perhaps input, polled until it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pypsrp.complex_objects import GenericComplexObject, PSInvocationState
from pypsrp.messages import EndOfPipelineInput
from pypsrp.powershell import PowerShell
from pypsrp.serializer import TaggedValue

from hvpsbridge.errors import HostError, SessionLost
from hvpsbridge.host.binding import Tagged
from hvpsbridge.host.error_records import Record, from_record
from hvpsbridge.host.psrp.client import WSManClient
from hvpsbridge.host.psrp.errors import transport_failure
from hvpsbridge.host.psrp.fragments import input_fragments
from hvpsbridge.host.psrp.prepared import SendRequest


@dataclass(frozen=True, slots=True)
class Emitted:
    """One object a script emitted: its type names, most derived first, and its note properties."""

    type_names: list[str]
    properties: Mapping[str, object]


class Pipeline:
    """A running script, used from one thread at a time.

    Attributes:
        client: the connection it uses.
    """

    def __init__(
        self,
        client: WSManClient,
        operation: str,
        text: str | None,
        parameters: Mapping[str, object],
        *,
        input_open: bool = False,
    ) -> None:
        """Start the script.

        Args:
            client: a connection that no other thread uses at the same time.
            operation: name for errors, and of the command if text is None.
            text: the whole script; None to call the command of that name, which the endpoint must have.
            parameters: bound values by name.
            input_open: whether :meth:`send` will be called; otherwise the input is closed at once.

        Raises:
            SessionLost: the connection or the shell is gone.
        """
        self.client = client
        self._operation = operation
        self._shell = PowerShell(client.pool)
        self._input: SendRequest | None = None
        if text is None:
            self._shell.add_cmdlet(operation)
        else:
            self._shell.add_script(text, use_local_scope=True)
        self._shell.add_parameters({name: _to_wire(value) for name, value in parameters.items()})
        try:
            self._shell.begin_invoke(input=_input_left_open() if input_open else None)
        except Exception as err:
            self.close()
            raise self._failure(err) from err

    @property
    def command_id(self) -> str:
        """The WSMan id of the command."""
        return str(self._shell._command_id or self._shell.id)

    @property
    def running(self) -> bool:
        """Whether the script runs, as far as the host has reported."""
        return bool(self._shell.state == PSInvocationState.RUNNING)

    def poll(self, timeout_seconds: float) -> list[Emitted]:
        """Objects of the next reply; none if the host sent nothing within the time.

        Raises:
            SessionLost: the connection or the shell is gone.
            ProtocolViolation: the reply cannot be read.
        """
        try:
            # pypsrp writes whole seconds into the request.
            self._shell.poll_invoke(timeout=max(1, int(timeout_seconds)))
        except Exception as err:
            raise self._failure(err) from err
        # The last one ended the script; more are not kept.
        del self._shell.streams.error[:-1]
        return self.take_output()

    def take_output(self) -> list[Emitted]:
        """Objects that arrived and were not taken yet. Drops those of pypsrp, which hold their XML."""
        arrived, self._shell.output = self._shell.output, []
        return [_emitted(item) for item in arrived]

    def take_fragments(self, fragments: bytes) -> None:
        """Have pypsrp read the decoded stream of a reply that it did not receive itself.

        Raises:
            ProtocolViolation: they cannot be read.
        """
        try:
            for kind, message in self.client.pool._parse_responses(fragments, self._shell):
                if kind == _PIPELINE_OUTPUT:
                    self._shell.output.append(message.data.data)
        except Exception as err:
            raise self._failure(err) from err
        del self._shell.streams.error[:-1]

    def send(self, data: bytes) -> None:
        """Send one byte array to the input of the script.

        Raises:
            SessionLost: the connection or the shell is gone.
        """
        pool = self.client.pool
        self._put(input_fragments(pool._fragmenter, data, pool.id, self._shell.id))

    def end_input(self) -> None:
        """Close the input."""
        pool = self.client.pool
        self._put(pool._fragmenter.fragment(EndOfPipelineInput(), pool.id, self._shell.id))

    def error(self) -> HostError | None:
        """The error that the script reported, terminating or not; None if there is none."""
        records = self._shell.streams.error
        if records:
            try:
                record = _record(records[-1])
            except Exception as err:  # noqa: BLE001 - pypsrp reads an error record as almost anything
                return self._failure(err)
            return from_record(self.client.host, self._operation, record)
        if self._shell.state == PSInvocationState.FAILED:
            unknown = Record("Hvps.Unexpected", 0, "the pipeline failed without an error record")
            return from_record(self.client.host, self._operation, unknown)
        if self._shell.state == PSInvocationState.STOPPED:
            return SessionLost(self.client.host, self._operation, "the pipeline was stopped on the host")
        return None

    def close(self) -> None:
        """Stop the script if it still runs and release its command. Never raises."""
        with suppress(Exception):
            if self.running:
                self._shell.stop()
            self._shell.close()
        self.client.pool.pipelines.pop(self._shell.id, None)

    def _put(self, fragments: Iterable[bytes]) -> None:
        try:
            self._input = self._input or SendRequest(self.client, self.command_id)
            for fragment in fragments:
                self._input.send(fragment)
        except Exception as err:
            raise self._failure(err) from err

    def _failure(self, err: Exception) -> HostError:
        return transport_failure(self.client.host, self._operation, err)


_PIPELINE_OUTPUT = 0x00041004  # MS-PSRP 2.2.1, message type PIPELINE_OUTPUT


def _input_left_open() -> Iterator[None]:
    """Input for pypsrp that sends nothing and stays open."""
    yield None


def _to_wire(value: object) -> object:
    """A bound parameter as pypsrp sends it; it always sends plain integers as 32 bits."""
    return TaggedValue(value.tag, value.value) if isinstance(value, Tagged) else value


def _emitted(item: object) -> Emitted:
    """An emitted object as pypsrp read it; values that are not objects have the name of their Python type."""
    if not isinstance(item, GenericComplexObject):
        return Emitted([type(item).__name__], {})
    return Emitted(
        [str(name) for name in item.types], {**item.adapted_properties, **item.extended_properties}
    )


def _record(record: Any) -> Record:
    text = getattr(record, "to_string", None) or getattr(record, "_to_string", None) or record.message
    return Record(str(record.fq_error or ""), int(record.category or 0), str(text or ""))
