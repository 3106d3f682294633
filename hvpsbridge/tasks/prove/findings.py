"""What the conformance kit finds out: facts about a host, and a row with a verdict for each stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hvpsbridge.errors import HostUnreachable, HvpsError, Interrupted
from hvpsbridge.text import one_line


class Verdict(StrEnum):
    """How a stage ended. ``differs``: hvps copes, but the host is not as the simulated host is by default."""

    PASS = "pass"  # noqa: S105 - a verdict
    DIFFERS = "differs"
    FAIL = "fail"
    NOT_RUN = "not run"


class NotPossible(Exception):
    """A stage cannot be run here; the text says why and what would make it possible."""


class StageFailed(Exception):
    """A stage found that hvps does not do its work on this host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One stage.

    Attributes:
        stage: name, as ``--only`` takes it.
        questions: numbers of the open questions of docs/real-host.md that it answers.
        text: what happened, one line.
    """

    stage: str
    questions: tuple[int, ...]
    verdict: Verdict
    text: str
    seconds: float


@dataclass(slots=True)
class Findings:
    """Facts and rows so far.

    Attributes:
        facts: by name, such as ``reference_point.ids_equal_frozen``; JSON values.
        note: called with a line when a stage begins.
        ended: what ended the proof early: a signal or a lost host.
    """

    note: Callable[[str], None] = lambda text: None
    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    ended: HvpsError | None = None

    def fact(self, name: str, value: Any) -> None:
        """Record a fact. The last one of a name counts."""
        self.facts[name] = value

    @contextmanager
    def stage(self, name: str, *questions: int) -> Iterator[list[str]]:
        """Run a stage: what it raises becomes its row, and later stages go on.

        Yields:
            A list of remarks, which become the text of the row.

        Raises:
            Interrupted: by a signal; the stage has no row.
            HostUnreachable: the host is lost, so later stages cannot run.
        """
        self.note(name)
        started, remarks, verdict = time.monotonic(), list[str](), Verdict.PASS
        lost: HostUnreachable | None = None
        before = set(self.facts)
        try:
            yield remarks
        except Interrupted:
            raise
        except NotPossible as err:
            verdict, remarks[:] = Verdict.NOT_RUN, [str(err)]
        except StageFailed as err:
            verdict = Verdict.FAIL
            remarks.append(str(err))
        except HvpsError as err:
            verdict = Verdict.FAIL
            remarks.append(err.describe())
            self.fact(f"{name}.error", err.describe())
            lost = err if isinstance(err, HostUnreachable) else None
        except Exception as err:  # noqa: BLE001 - one surprise must not hide what the other stages find
            verdict = Verdict.FAIL
            remarks.append(f"{type(err).__name__}: {err}")
            self.fact(f"{name}.error", f"{type(err).__name__}: {err}")
        added = len(set(self.facts) - before)
        text = "; ".join(remarks) or (f"{added} facts" if added else "as expected")
        self.rows.append(
            Row(
                stage=name,
                questions=questions,
                verdict=verdict,
                text=one_line(text),
                seconds=round(time.monotonic() - started, 3),
            )
        )
        if lost is not None:
            raise lost
