"""Variables in values: only ``{{ name }}``. No expressions, no filters, no variables in keys.

A scalar that consists of one ``{{ name }}`` takes the value of the variable with its type; inside other text
the text of the value is inserted. Variables come from the playbook, the play and ``-e``; later ones take
precedence. Inserted text is not searched for variables again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from hvpsbridge.errors import UsageError
from hvpsbridge.playbook.load import Items, Keys, Path, Plain, Scalar, Tree, plain_value
from hvpsbridge.playbook.problems import PlaybookProblem, nearest, path_text

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Without braces inside, so that each text is searched once: {{ repeated a million times took hours.
_MARK = re.compile(r"\{\{([^{}\n]*)\}\}")

# Filled in for each VM when the task runs; left as they are until then.
RUN_TIME_NAMES = frozenset({"vm", "vm_id", "host", "run_id"})


def extra_vars(assignments: tuple[str, ...]) -> dict[str, Plain]:
    """Variables of ``-e name=value`` options; values are read like unquoted YAML scalars.

    Raises:
        UsageError: an option is not of this form.
    """
    found: dict[str, Plain] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not NAME.fullmatch(name):
            raise UsageError(f"-e {assignment!r} is not name=value")
        found[name] = plain_value(text)
    return found


def text_of(value: Plain) -> str:
    """The value of a variable as text, as YAML would have it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def fill(tree: Tree, path: Path, variables: Mapping[str, Plain], problems: list[PlaybookProblem]) -> Tree:
    """The tree with all variables filled in; mistakes are added to ``problems``."""
    return _map(tree, path, lambda at, scalar: _fill_scalar(at, scalar, variables, problems))


def _map(tree: Tree, path: Path, change: Callable[[Path, Scalar], Scalar]) -> Tree:
    if isinstance(tree, Keys):
        entries = {key: _map(value, (*path, key), change) for key, value in tree.entries.items()}
        return Keys(entries, tree.marks, tree.mark)
    if isinstance(tree, Items):
        return Items(tuple(_map(item, (*path, i), change) for i, item in enumerate(tree.items)), tree.mark)
    return change(path, tree)


def _fill_scalar(
    path: Path, scalar: Scalar, variables: Mapping[str, Plain], problems: list[PlaybookProblem]
) -> Scalar:
    text = scalar.value
    if not isinstance(text, str) or ("{{" not in text and "{%" not in text):
        return scalar

    def report(what: str) -> None:
        problems.append(PlaybookProblem(scalar.mark, path_text(path), what))

    if "{%" in text:
        report("contains {%; only {{ name }} is supported")
        return scalar
    whole = _MARK.fullmatch(text)
    if whole is not None and (name := whole[1].strip()) in variables:
        value = variables[name]
        return Scalar(value, scalar.mark, text_of(value))

    def put(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name in variables:
            return text_of(variables[name])
        if name in RUN_TIME_NAMES:
            return "{{ " + name + " }}"
        if not NAME.fullmatch(name):
            report(f"contains {match[0]}; only {{{{ name }}}} is supported")
        else:
            report(f"variable {name!r} is not set{nearest(name, {*variables, *RUN_TIME_NAMES})}")
        return match[0]

    filled = _MARK.sub(put, text)
    if "{{" in _MARK.sub("", text):
        report("contains {{ without }}")
    return Scalar(filled, scalar.mark, filled)
