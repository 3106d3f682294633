"""What a shell needs of the engine behind it, and the engine of the shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Sink(Protocol):
    """Where an engine puts what it has to say. Thread-safe."""

    def put(self, key: str | None, fragment: bytes | memoryview) -> None:
        """Queue one PSRP fragment in base64 for a pipeline, or for the shell (None).

        Blocks while the client has not taken what is queued already: that is the back-pressure.
        """
        ...

    def fail(self, reason: str) -> None:
        """The engine has ended by itself; nothing more comes."""
        ...


class Engine(Protocol):
    """One shell's engine. Pipeline keys are lower-case ids; data is PSRP fragments in base64.

    Methods return as soon as the engine has taken the data; results come through the sink. They raise
    :class:`EngineGone` once the engine has ended.
    """

    @property
    def process_id(self) -> int:
        """Id of the process that runs the shell."""
        ...

    def open(self, fragments: bytes) -> None:
        """Start the runspace pool with the client's first fragments."""
        ...

    def start(self, key: str, fragments: bytes) -> None:
        """Start a pipeline with its first fragments."""
        ...

    def feed(self, key: str | None, fragments: bytes) -> None:
        """Hand further fragments to a pipeline, or to the pool (None)."""
        ...

    def stop(self, key: str) -> None:
        """Stop a running pipeline; its final state still comes."""
        ...

    def release(self, key: str) -> None:
        """The client is done with a pipeline: stop it if it runs, and forget it."""
        ...

    def kill(self) -> None:
        """End the shell's process as a crash would. Never raises."""
        ...

    def close(self) -> None:
        """End the shell and everything that runs in it. Never raises; calling it twice is fine."""
        ...


class EngineGone(Exception):
    """The engine behind a shell has ended."""


EngineFactory = Callable[[Sink], Engine]
