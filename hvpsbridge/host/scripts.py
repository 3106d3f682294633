"""Renders the script of an operation: its file with the shared code it includes. The only user of jinja2.

Only code is inserted into code. No value from a user, a playbook or a host becomes script text: values are
passed as parameters. The template marks are PowerShell comments (``#% include``), so source files are valid
PowerShell for editors and linters, and an expression would be written as a PowerShell literal.
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
        InternalError: its type has no literal.
    """
    if value is None:
        return "$null"
    if isinstance(value, bool):
        return "$true" if value else "$false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        # PowerShell treats typographic quotation marks like the plain one.
        quoted = "".join(mark * 2 if mark in "'\u2018\u2019\u201a\u201b" else mark for mark in value)
        return f"'{quoted}'"
    raise InternalError(f"no PowerShell literal for a {type(value).__name__}")


@cache
def _environment(*folders: Path, left_out: tuple[str, ...] = ()) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.DictLoader(dict.fromkeys(left_out, "")), jinja2.FileSystemLoader(folders)]
        ),
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
    """The first line of a rendered script; it shows in transcripts, and the simulated host reads it."""
    return f"# hvps operation={operation.name} contract={CONTRACT}"


@cache
def script_text(operation: Operation, folder: Path | None = None) -> str:
    """The whole script of ``operation``; the text is the same in every run.

    Args:
        operation: an entry of the contract.
        folder: folder with the scripts; the installed one by default.

    Raises:
        InternalError: the script is missing or cannot be rendered.
    """
    return f"{first_line(operation)}\n{rendered(f'{operation.name}.ps1', folder)}"


def rendered(name: str, folder: Path | None = None, *, left_out: tuple[str, ...] = ()) -> str:
    """A file of ``ps_scripts`` with what it includes.

    Args:
        name: path within the folder.
        folder: folder with the scripts; the installed one by default.
        left_out: files whose text is not included.

    Raises:
        InternalError: the file is missing or cannot be rendered.
    """
    folder = folder or resource_folder("ps_scripts")
    try:
        return _environment(folder, left_out=left_out).get_template(name).render()
    except jinja2.TemplateError as err:
        raise InternalError(f"script {name}: {type(err).__name__} {err}") from err


@cache
def probe_text(name: str) -> str:
    """The whole probe script ``name`` of the conformance kit, with what it includes; it runs alone, too.

    Raises:
        InternalError: the script is missing or cannot be rendered.
    """
    try:
        folders = (resource_folder("conformance"), resource_folder("ps_scripts"))
        body = _environment(*folders).get_template(f"{name}.ps1").render()
    except (jinja2.TemplateError, FileNotFoundError) as err:
        raise InternalError(f"probe {name}: {type(err).__name__} {err}") from err
    return f"# hvps probe={name} contract={CONTRACT}\n{body}"
