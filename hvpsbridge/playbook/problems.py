"""Mistakes in playbooks and configuration files: where, what, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.text import counted

# A file of another kind can have a mistake for each of its words.
MAX_PROBLEMS = 100


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; lines and columns count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, order=True)
class PlaybookProblem:
    """One mistake.

    Attributes:
        mark: its position.
        path: its keys, for example ``plays[0].tasks[1].verify``; empty for the file itself.
        what: what is wrong and what to do; one line, no full stop.
    """

    mark: Position
    path: str
    what: str


@dataclass(eq=False)
class PlaybookInvalid(ConfigurationError):
    """A playbook or configuration file has mistakes; ``problems`` holds the first of them, in file order."""

    problems: tuple[PlaybookProblem, ...]

    def lines(self) -> tuple[str, ...]:
        """One line for each mistake, in the form editors jump to: ``file:line:column: path: what``."""
        return tuple(
            f"{self.where}:{problem.mark.line}:{problem.mark.column}: "
            + (f"{problem.path}: " if problem.path else "")
            + problem.what
            for problem in self.problems
        )

    def describe(self) -> str:
        return "\n".join(self.lines())


def invalid(where: str, problems: Iterable[PlaybookProblem]) -> PlaybookInvalid:
    """The error for the first :data:`MAX_PROBLEMS` of ``problems`` by position, without duplicates."""
    found = sorted(set(problems))
    shown = found[:MAX_PROBLEMS]
    if rest := len(found) - len(shown):
        shown.append(PlaybookProblem(found[-1].mark, "", f"{rest} more mistakes up to here are not shown"))
    return PlaybookInvalid(where, counted(len(found), "mistake"), tuple(shown))


def nearest(word: str, known: Iterable[str]) -> str:
    """Text such as ``; did you mean 'tasks'?``, or ``; known: a, b`` if nothing is similar."""
    candidates = sorted(known)
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(candidates)}" if candidates else ""


def path_text(path: Iterable[str | int]) -> str:
    """Keys and indexes as ``plays[0].vms.include``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
