"""Output of a run: tables or JSON on standard output, one line per problem on standard error."""

from __future__ import annotations

from enum import StrEnum

from hvpsbridge.cli import console
from hvpsbridge.errors import ExitCode
from hvpsbridge.report.documents.run import RunReport
from hvpsbridge.report.views import condition_lines, run_events, run_tables, summary_line


class OutputFormat(StrEnum):
    """What is printed on standard output."""

    TEXT = "text"
    JSON = "json"
    LINES = "lines"


def output_format(*, as_json: bool, as_lines: bool) -> OutputFormat:
    """The format that ``--json`` and ``--json-lines`` ask for."""
    return OutputFormat.LINES if as_lines else OutputFormat.JSON if as_json else OutputFormat.TEXT


def print_report(report: RunReport, output: OutputFormat) -> ExitCode:
    """Print a report. Returns its exit code."""
    code = print_problems(report)
    if output is OutputFormat.TEXT:
        for table in run_tables(report):
            console.table(table)
        console.line(summary_line(report))
    else:
        print_document(report, output)
    return code


def print_problems(report: RunReport) -> ExitCode:
    """Print one line per problem on standard error, and nothing else. Returns the exit code."""
    for text in condition_lines(report):
        console.note(f"hvps: {text}")
    return ExitCode(report.exit_code)


def print_document(report: RunReport, output: OutputFormat) -> None:
    """Print a report as JSON: one document, or lines of events."""
    if output is OutputFormat.LINES:
        for event in run_events(report):
            console.document(event, indent=None)
    else:
        console.document(report)
