from __future__ import annotations

import pytest

from hvpsbridge.errors import UsageError
from hvpsbridge.playbook import load
from hvpsbridge.playbook.problems import PlaybookProblem
from hvpsbridge.playbook.template import extra_vars, fill


def _fill(text: str, **variables: load.Plain) -> tuple[object, list[PlaybookProblem]]:
    tree, problems = load.parse(text, "f.yaml")
    filled = fill(tree, (), variables, problems)
    return load.plain(filled), problems


def test_a_whole_value_takes_the_variable_with_its_type() -> None:
    assert _fill("a: '{{ x }}'", x=4) == ({"a": 4}, [])
    assert _fill("a: '{{x}}'", x=True) == ({"a": True}, [])


def test_inside_other_text_the_value_becomes_text() -> None:
    assert _fill("a: /srv/{{ x }}/{{ y }}", x=4, y=False) == ({"a": "/srv/4/false"}, [])


def test_what_a_variable_brings_in_is_not_looked_at_again() -> None:
    assert _fill("a: x{{ x }}", x="{{ y }}", y="z") == ({"a": "x{{ y }}"}, [])


def test_keys_are_never_templates() -> None:
    assert _fill("'{{ x }}': 1", x="a") == ({"{{ x }}": 1}, [])


def test_names_known_only_per_vm_stay_for_then() -> None:
    assert _fill("a: raw:/r/{{vm}}", x=1) == ({"a": "raw:/r/{{ vm }}"}, [])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{{ rot }}", "variable 'rot' is not set; did you mean 'root'?"),
        ("{{ root | upper }}", "only {{ name }} is supported"),
        ("{{ root", "{{ without }}"),
        ("{% if x %}", "only {{ name }} is supported"),
    ],
)
def test_anything_else_in_braces_is_a_mistake(text: str, part: str) -> None:
    _, problems = _fill(f'a: "{text}"', root="/")
    (problem,) = problems
    assert part in problem.what
    assert problem.path == "a"


def test_extra_variables_are_read_as_unquoted_yaml() -> None:
    assert extra_vars(("a=1", "b=x=y", "c=", "d=true", "e=12:30")) == {
        "a": 1,
        "b": "x=y",
        "c": None,
        "d": True,
        "e": "12:30",
    }


@pytest.mark.parametrize("assignment", ["a", "=1", "a b=1", "1a=2"])
def test_an_extra_variable_that_is_no_assignment_is_a_usage_error(assignment: str) -> None:
    with pytest.raises(UsageError):
        extra_vars((assignment,))
