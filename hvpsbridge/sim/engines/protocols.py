"""The interface between a shell and its engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Sink(Protocol):
    """Takes the output of an engine. Thread-safe."""

    def put(self, key: str | None, fragment: bytes | memoryview) -> None:
        """Queue one PSRP fragment in base64 for a pipeline, or for the shell (None).

        Blocks while too much waits for the client.
        """
        ...

    def fail(self, reason: str) -> None:
        """Report that the engine has ended; no output follows."""
        ...


class Engine(Protocol):
    """The engine of one shell. Pipeline keys are lower-case ids; data is PSRP fragments in base64.

    Methods return as soon as the engine has taken the data; output goes to the sink. They raise
    ``EngineGone`` once the engine has ended.
    """

    @property
    def process_id(self) -> int:
        """Id of the shell's process."""
        ...

    def open(self, fragments: bytes) -> None:
        """Open the runspace pool with the client's first fragments."""
        ...

    def start(self, key: str, fragments: bytes) -> None:
        """Start a pipeline with its first fragments."""
        ...

    def feed(self, key: str | None, fragments: bytes) -> None:
        """Pass further fragments to a pipeline, or to the pool (None)."""
        ...

    def stop(self, key: str) -> None:
        """Stop a running pipeline; its final state follows."""
        ...

    def release(self, key: str) -> None:
        """Forget a pipeline that the client has finished with; stop it if it is running."""
        ...

    def kill(self) -> None:
        """Kill the shell's process. Never raises."""
        ...

    def close(self) -> None:
        """End the shell and everything that runs in it. Never raises and may be called twice."""
        ...


class EngineGone(Exception):
    """The engine has ended."""


EngineFactory = Callable[[Sink], Engine]
