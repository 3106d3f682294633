"""Asking before something is removed."""

from __future__ import annotations

import sys

import click

from hvpsbridge.cli.logs import printable
from hvpsbridge.errors import UsageError


def confirmed(question: str, *, yes: bool, command: str, instead: str) -> bool:
    """Whether the user agrees, now or with ``--yes``.

    Args:
        question: what to ask, without a question mark.
        yes: whether ``--yes`` was given.
        command: that asks.
        instead: the option that only looks.

    Raises:
        UsageError: standard input is not a terminal.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"{command} asks for confirmation; use --yes or {instead}")
    return click.confirm(printable(f"{question}?"), err=True)
