"""Tables of ``hvps host prove``."""

from __future__ import annotations

from collections.abc import Iterator

from hvpsbridge.report.views import Table
from hvpsbridge.tasks.prove.prover import ProveResult
from hvpsbridge.units import duration_text


def proved_tables(result: ProveResult) -> Iterator[Table]:
    """The stages, and what differs from the simulated host if anything does."""
    yield Table(
        "stages",
        ("stage", "questions", "verdict", "what", "time"),
        tuple(
            (
                row.stage,
                ", ".join(map(str, row.questions)),
                row.verdict.value,
                row.text,
                duration_text(row.seconds),
            )
            for row in result.rows
        ),
        frozenset({4}),
    )
    if result.deviations:
        yield Table(
            "other than the simulated host",
            ("question", "fact", "expected", "found", "knob"),
            tuple(
                (str(one.question), one.fact, one.expected, str(one.found), one.knob or "none")
                for one in result.deviations
            ),
        )
