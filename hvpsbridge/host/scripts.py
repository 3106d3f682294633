"""The text of an operation's script: its file with the shared code it includes. The door to jinja2.

Rule: code is joined to code here, and nothing else. No value from a user, a playbook or a host becomes
script text; values travel as parameters. The template marks are PowerShell comments (``#% include``), so
a source file is valid PowerShell for an editor and a linter, and whatever expression remains is written
as a PowerShell literal.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

from hvpsbridge.contract import CONTRACT, Operation
from hvpsbridge.errors import InternalError
from hvpsbridge.resources import resource_folder


def literal(value: object) -> str:
    """``value`` as a PowerShell literal.

    Raises:
        InternalError: no literal is known for its type.
    """
    if value is None:
        return "$null"
    if isinstance(value, bool):
        return "$true" if value else "$false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        # PowerShell takes the typographic quotation marks for the plain one.
        quoted = "".join(mark * 2 if mark in "'\u2018\u2019\u201a\u201b" else mark for mark in value)
        return f"'{quoted}'"
    raise InternalError(f"no PowerShell literal for a {type(value).__name__}")


@cache
def _environment(folder: Path) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        line_statement_prefix="#%",
        block_start_string="<#%",
        block_end_string="%#>",
        variable_start_string="<#=",
        variable_end_string="=#>",
        comment_start_string="<#!",
        comment_end_string="!#>",
        finalize=literal,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the output is PowerShell, not HTML; literal() quotes what is inserted
    )


def first_line(operation: Operation) -> str:
    """What a rendered script starts with: it tells a transcript, and the simulated host, what runs."""
    return f"# hvps operation={operation.name} contract={CONTRACT}"


@cache
def script_text(operation: Operation, folder: Path | None = None) -> str:
    """The whole script of ``operation``, the same text from run to run.

    Args:
        operation: an entry of the contract.
        folder: where the scripts are; the shipped ones without it.

    Raises:
        InternalError: the installation lacks the script, or it does not render.
    """
    folder = folder or resource_folder("ps_scripts")
    try:
        body = _environment(folder).get_template(f"{operation.name}.ps1").render()
    except jinja2.TemplateError as err:
        raise InternalError(f"script {operation.name}: {type(err).__name__} {err}") from err
    return f"{first_line(operation)}\n{body}"
