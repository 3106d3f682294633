"""What every error has: a text, a remedy and an exit code; and which code wins when several apply."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Process exit codes (docs/exit-codes.md). The JSON report names every condition; this is a summary."""

    DONE = 0
    BUG = 1
    VM_FAILED = 2
    DEGRADED = 3
    HOST_UNREACHABLE = 4
    INVALID = 5
    HOST_NOT_CLEAN = 6
    DAMAGE = 7
    POLICY = 8
    NO_REPOSITORY = 10
    LOCKED = 11
    WRONG_KEY = 12
    NO_SPACE = 13
    REFUSED = 14
    USAGE = 64
    GATED = 75
    INTERRUPTED = 130
    TERMINATED = 143


# When several conditions hold, the first of these wins (docs/exit-codes.md). A VM that was not found must not
# hide damage. An interrupt beats them all: the shell that sent it wants to see it.
PRECEDENCE: tuple[ExitCode, ...] = (
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.USAGE,
    ExitCode.DAMAGE,
    ExitCode.BUG,
    ExitCode.NO_SPACE,
    ExitCode.WRONG_KEY,
    ExitCode.NO_REPOSITORY,
    ExitCode.LOCKED,
    ExitCode.INVALID,
    ExitCode.VM_FAILED,
    ExitCode.REFUSED,
    ExitCode.HOST_UNREACHABLE,
    ExitCode.HOST_NOT_CLEAN,
    ExitCode.POLICY,
    ExitCode.DEGRADED,
    ExitCode.GATED,
)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The exit code for several conditions; ``DONE`` for none."""
    seen = set(codes)
    return next((code for code in PRECEDENCE if code in seen), ExitCode.DONE)


@dataclass(eq=False)
class HvpsError(Exception):
    """Root of the tree. A subclass is a dataclass whose fields are its facts.

    Attributes:
        template: what went wrong, with fields in braces; one line, no full stop.
        remedy: what to do about it, with fields in braces; empty when the text says it.
        exit_code: of the process when nothing worse happens.
    """

    template: ClassVar[str] = "{kind}"
    remedy: ClassVar[str] = ""
    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def describe(self) -> str:
        """What went wrong, without the remedy."""
        return self.template.format_map(self._values())

    def __str__(self) -> str:
        remedy = self.remedy.format_map(self._values())
        return f"{self.describe()}; {remedy}" if remedy else self.describe()

    def _values(self) -> dict[str, object]:
        """What templates can name: the kind and the fields, with tuples as lists. Subclasses may add."""
        return {
            "kind": self.kind,
            **{
                name: ", ".join(map(str, value)) if isinstance(value, tuple) else value
                for name, value in self.facts().items()
            },
        }

    def facts(self) -> dict[str, object]:
        """The fields by name, for the JSON report."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def code(self) -> ExitCode:
        """Exit code of this error; most classes have one for all."""
        return self.exit_code

    @property
    def kind(self) -> str:
        """Stable identifier of this condition in reports: the class name."""
        return type(self).__name__
