from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.playbook import load
from hvpsbridge.playbook.problems import PlaybookInvalid


def _plain(text: str) -> object:
    tree, problems = load.parse(text, "f.yaml")
    assert problems == []
    return load.plain(tree)


def _refusal(text: str) -> str:
    with pytest.raises(PlaybookInvalid) as caught:
        load.parse(text, "f.yaml")
    return str(caught.value)


def test_plain_scalars_are_read_by_a_few_patterns_only() -> None:
    text = "{a: 1, b: -7, c: 1.5, d: true, e: false, f: null, g: ~, h: word, i: '1', j: \"true\", k: 1/14}"
    assert _plain(text) == {
        "a": 1,
        "b": -7,
        "c": 1.5,
        "d": True,
        "e": False,
        "f": None,
        "g": None,
        "h": "word",
        "i": "1",
        "j": "true",
        "k": "1/14",
    }


@pytest.mark.parametrize(
    "word",
    [
        "12:30",
        "1:30:00",
        "on",
        "Off",
        "yes",
        "NO",
        "y",
        "n",
        "True",
        "FALSE",
        "Null",
        "010",
        "0o17",
        "0x1F",
        "0b11",
        "1_000",
        ".5",
        "1e3",
        ".inf",
        "2026-03-01",
        "2026-03-01T02:00:00Z",
    ],
)
def test_what_some_yaml_readers_take_for_something_else_is_marked_and_fine_in_quotes(word: str) -> None:
    tree, _ = load.parse(f"key: {word}", "f.yaml")
    ((_, scalar),) = load.scalars(tree)
    assert scalar.surprise
    assert scalar.text == word
    tree, _ = load.parse(f"key: '{word}'", "f.yaml")
    ((_, quoted),) = load.scalars(tree)
    assert not quoted.surprise
    assert quoted.value == word


def test_a_surprising_or_untyped_key_is_reported() -> None:
    _, problems = load.parse("on: 1\n7: 2\n", "f.yaml")
    assert [(problem.mark.line, problem.path) for problem in problems] == [(1, "on"), (2, "7")]


def test_a_doubled_key_names_both_lines() -> None:
    _, problems = load.parse("a: 1\nb: 2\na: 3\n", "f.yaml")
    assert [(p.mark.line, p.mark.column, p.what) for p in problems] == [
        (3, 1, "duplicate key 'a'; first at line 1")
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: &x 1\nb: *x\n", "f.yaml:2:4: alias *x"),
        ("a: &x {k: 1}\n", "f.yaml:1:4: anchor &x"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: a second document"),
        ("a: [1, 2\n", "is not YAML"),
        ("a:\n\t- b\n", "is not YAML"),
        ("", "is empty"),
        ("a: \x07\n", "is not YAML"),
        ('a: "\\Uffffffff"\n', "a character that does not exist"),
    ],
)
def test_what_is_refused_altogether_says_where(text: str, part: str) -> None:
    assert part in _refusal(text)


def test_merge_keys_and_tags_are_refused() -> None:
    _, problems = load.parse("a: {<<: {b: 1}}\nc: !!python/object:os.system x\n", "f.yaml")
    assert [problem.mark.line for problem in problems] == [1, 2]


def test_aliases_are_refused_before_anything_is_expanded() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    assert "aliases" in _refusal("\n".join(lines))


def test_deep_nesting_is_a_mistake_and_no_crash() -> None:
    assert _plain("[" * 32 + "]" * 32)
    for depth in (33, 100_000):
        assert "f.yaml:1:33: is nested more than 32 levels deep" in _refusal("[" * depth + "]" * depth)


@given(st.text(alphabet=st.sampled_from("ab: -[]{}&*!'\"#|>\n\t%0~,\u20ac"), max_size=60))
def test_any_text_gives_a_tree_or_the_one_error(text: str) -> None:
    try:
        tree, _ = load.parse(text, "f.yaml")
    except PlaybookInvalid:
        return
    load.plain(tree)
