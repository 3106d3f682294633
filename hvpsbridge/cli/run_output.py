"""Showing what came of a run: tables or JSON on standard output, a line per trouble on standard error."""

from __future__ import annotations

from enum import StrEnum

from hvpsbridge.cli import console
from hvpsbridge.errors import ExitCode
from hvpsbridge.report.truth import RunReport
from hvpsbridge.report.views import condition_lines, run_events, run_tables, summary_line


class Form(StrEnum):
    """What is printed on standard output."""

    TEXT = "text"
    JSON = "json"
    LINES = "lines"


def form_of(*, as_json: bool, as_lines: bool) -> Form:
    """The form of ``--json`` and ``--json-lines``."""
    return Form.LINES if as_lines else Form.JSON if as_json else Form.TEXT


def show(report: RunReport, form: Form) -> ExitCode:
    """Print a report; its exit code comes back."""
    for text in condition_lines(report):
        console.note(f"hvps: {text}")
    if form is Form.JSON:
        console.document(report)
    elif form is Form.LINES:
        for event in run_events(report):
            console.document(event, indent=None)
    else:
        for table in run_tables(report):
            console.table(table)
        console.line(summary_line(report))
    return ExitCode(report.exit_code)
