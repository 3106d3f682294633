"""Each rule that keeps points beside a collect has a test that fails without it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from hvpsbridge.errors import HvpsError
from tests.repository import missing_rules as missing
from tests.repository import test_collect as directed
from tests.repository import test_collect_moments as moments
from tests.repository.actors import Lost
from tests.repository.conftest import make
from tests.repository.memory_store import MemoryStore
from tests.repository.test_collect_beside import SEED, play, small  # noqa: F401 - a fixture

Rule = Callable[[pytest.MonkeyPatch], None]
TESTS: dict[Rule, Callable[..., None]] = {
    missing.lists_are_not_read: (
        directed.test_a_writer_that_begins_after_the_list_stores_what_is_doomed_again
    ),
    missing.lists_are_read_once: moments.test_a_writer_reads_a_list_that_is_replaced_meanwhile,
    missing.lists_are_published_in_one_step: (
        moments.test_a_writer_that_begins_just_before_the_list_is_there_is_waited_for
    ),
    missing.runs_are_not_waited_for: directed.test_a_writer_beside_a_collect_keeps_what_it_relies_on,
    missing.runs_are_listed_after_manifests: (
        moments.test_a_writer_that_ends_while_a_collect_looks_is_seen_by_its_point
    ),
    missing.there_is_no_second_mark: directed.test_a_writer_beside_a_collect_keeps_what_it_relies_on,
    missing.there_are_no_fences: directed.test_a_manifest_after_its_fence_is_no_point,
    missing.bases_are_not_checked: (directed.test_a_writer_whose_base_is_pruned_meanwhile_commits_nothing),
    missing.used_packs_are_not_checked: (
        moments.test_a_writer_commits_nothing_if_a_pack_that_it_used_is_gone
    ),
    missing.kept_copies_are_not_checked: (
        directed.test_the_copy_that_stays_is_checked_before_the_other_one_goes
    ),
}
# Moments at which a writer is suspended, so that the scheduler finds what a rule prevents.
MOMENTS = {missing.used_packs_are_not_checked: ("put index/",)}
FOUND_BY_CHANCE = [
    missing.lists_are_not_read,
    missing.runs_are_not_waited_for,
    missing.runs_are_listed_after_manifests,
    missing.there_is_no_second_mark,
    missing.there_are_no_fences,
    missing.used_packs_are_not_checked,
]


@pytest.mark.parametrize("rule", TESTS, ids=lambda rule: rule.__name__)
def test_a_test_fails_without_the_rule(rule: Rule) -> None:
    store = MemoryStore()
    with make(store) as repository, pytest.MonkeyPatch.context() as patch:
        rule(patch)
        given = {"repository": repository, "store": store, "monkeypatch": patch}
        wanted = inspect.signature(TESTS[rule]).parameters
        with pytest.raises((AssertionError, HvpsError, pytest.fail.Exception)):
            TESTS[rule](**{name: given[name] for name in wanted})


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rule", FOUND_BY_CHANCE, ids=lambda rule: rule.__name__)
def test_the_scheduler_finds_what_the_rule_prevents(rule: Rule, tmp_path: Path) -> None:
    for seed in range(SEED, SEED + 500):
        with pytest.MonkeyPatch.context() as patch:
            rule(patch)
            try:
                play(seed, tmp_path, rounds=3, press=MOMENTS.get(rule, ("put runs/", "put points/")))
            except Lost:
                return
    pytest.fail(f"nothing is lost with seeds {SEED} to {SEED + 499}")
