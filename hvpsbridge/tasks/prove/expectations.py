"""What the simulated host does by default, as facts, and which knob covers a host that does otherwise.

The replay test holds the simulated host to recorded facts by this table: a fact that differs where no knob is
named fails until the simulated host or a knob covers it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Longer than any job or merge of a small scratch disk on the simulated host.
SLOW_SECONDS = 1.8
# Tracking reports whole units (docs/hyperv-facts.md#tracking-tiers), and some beside what was written.
USUAL_UNIT_BYTES = 512 * 1024
# Below this a scratch disk in memory is not read: even a gigabit wire brings more.
SLOW_RATE_BYTES = 4_000_000
# A reply with four fragments of 32 KiB in base64, and its envelope.
FOUR_FRAGMENTS_BYTES = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One fact as the simulated host shows it by default.

    Attributes:
        fact: its name.
        question: number of the open question in docs/real-host.md.
        expected: in words.
        holds: whether a value is as expected.
        knob: of the simulated host, that shows another value; None if there is none.
        wrong: whether another value means that hvps cannot work, rather than that it works in another way.
        timed: whether it is a time or a rate, which depends on how busy everything is.
    """

    fact: str
    question: int
    expected: str
    holds: Callable[[Any], bool]
    knob: str | None
    wrong: bool = False
    timed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """A fact that is not as the simulated host shows it by default.

    Attributes:
        found: the value.
        knob: of the simulated host, that covers it; null if none does.
        wrong: whether hvps cannot work like this.
        timed: whether it is a time or a rate.
    """

    fact: str
    question: int
    expected: str
    found: Any
    knob: str | None
    wrong: bool
    timed: bool


def _is(wanted: Any) -> Callable[[Any], bool]:
    return lambda found: bool(found == wanted)


def _at_most(limit: float) -> Callable[[Any], bool]:
    return lambda found: found is not None and found <= limit


def _yes(
    fact: str, question: int, knob: str | None, *, wanted: Any = True, wrong: bool = False
) -> Expectation:
    expected = {True: "yes", False: "no"}.get(wanted, str(wanted))
    return Expectation(
        fact=fact, question=question, expected=expected, holds=_is(wanted), knob=knob, wrong=wrong
    )


def _under(fact: str, question: int, knob: str | None, limit: float, unit: str) -> Expectation:
    return Expectation(
        fact=fact,
        question=question,
        expected=f"at most {limit:g} {unit}",
        holds=_at_most(limit),
        knob=knob,
        timed=unit == "s",
    )


EXPECTATIONS: tuple[Expectation, ...] = (
    # Operations of hvps, one by one.
    _yes("checkpoint.name_kept", 1, "names_refused"),
    _yes("checkpoint.second_works", 22, "one_recovery_checkpoint"),
    _under("vm.asked_seconds", 7, "call_seconds", SLOW_SECONDS, "s"),
    _yes("vm.status_usual", 9, "operational_status"),
    _yes("definition.whole", 7, None),
    _yes("frozen.tracking_enabled", 2, "tracking_starts_at_conversion"),
    _yes("frozen.shows_last_id", 3, "frozen_id_of_last_point", wanted=False),
    _yes("frozen.rct_id_present", 3, "info_without_id"),
    _yes("frozen.newer_changes", 3, "newer_changes", wanted=False),
    _yes("frozen.info_handle_answers", 2, "info_only_refusal"),
    _yes("frozen.reading_handle_answers", 2, "attached_refusal"),
    _yes("frozen.a_handle_answers", 2, "state_refusal"),
    _yes("frozen.vhd_answers", 2, "vhd_state_refusal"),
    _yes("allocation.log_is_empty", 12, "frozen_log"),
    _yes("allocation.file_opens", 12, "files_held"),
    _yes("reference_point.arrays_equally_long", 4, "reference_point_arrays_differ"),
    _yes("reference_point.one_id_per_disk", 4, "conversion_drops_disk"),
    _yes("reference_point.ids_equal_frozen", 3, "new_id_at_conversion"),
    _yes("reference_point.ids_stay", 4, None),
    _yes("reference_point.own_id_of_freeze", 5, "new_id_of_freeze", wanted=False),
    _yes("window.covered", 5, "new_id_at_conversion"),
    _yes("changes.answered", 2, "query_refusal"),
    _yes("changes.empty", 5, "empty_answers", wanted=False),
    _yes("changes.cover_writes", 5, "missing_changes"),
    _under("changes.unit_bytes", 20, "memory_granularity_bytes", USUAL_UNIT_BYTES, "bytes for a small write"),
    _under("changes.longer_share", 20, "over_report", 0.7, "of the ranges longer than what was written"),
    _yes("changes.sorted", 2, "unsorted_answers"),
    _yes("changes.page_cut_by_ranges", 2, "ranges_per_page", wanted=False),
    _yes("changes.page_cut_by_bytes", 2, "pages_bytes", wanted=False),
    _yes("changes.within_disk", 2, "range_past_end"),
    _under("merge.seconds", 9, "merge_seconds", SLOW_SECONDS, "s"),
    _under("checkpoint.seconds", 17, "visibility_seconds", SLOW_SECONDS, "s"),
    Expectation(
        fact="read.rate_bytes",
        question=18,
        expected=f"at least {SLOW_RATE_BYTES} bytes/s",
        holds=lambda found: found is not None and found >= SLOW_RATE_BYTES,
        knob="read_delay_seconds",
        timed=True,
    ),
    Expectation(
        fact="host.culture",
        question=16,
        expected="en-... or none",
        holds=lambda found: not found or str(found).startswith("en"),
        knob="language",
    ),
    # What happens to ids of change tracking between backups.
    _yes("ids.after_user_checkpoint", 3, "ids_die_on_user_checkpoint"),
    _yes("ids.known_in_child", 3, "ids_differ_on_children"),
    _yes("ids.refused_after_apply", 3, "ids_survive_apply"),
    _yes("ids.cover_after_cut", 20, "power_loss_forgets"),
    _yes("ids.after_storage_move", 3, "ids_die_on_move"),
    _yes("ids.after_migration", 14, "ids_die_on_migration"),
    _yes("unmap.reported", 5, "unmap_unreported"),
    _yes("unmap.reads_zeros", 5, "unmap_keeps_data"),
    # WinRM and what protects the host.
    _yes("winrm.readable", 18, "config_unreadable"),
    Expectation(
        fact="wire.largest_reply_bytes",
        question=18,
        expected=f"more than {FOUR_FRAGMENTS_BYTES}",
        holds=lambda found: bool(found > FOUR_FRAGMENTS_BYTES),
        knob="reply_bytes",
    ),
    _yes("winrm.enough_shells", 18, "shells_per_user"),
    _yes("winrm.enough_memory", 18, "shell_memory_mb"),
    _yes("host.defender_has_rules", 19, "defender", wanted=False),
    # Probes, which call WMI and virtdisk themselves.
    _yes("job.there_after_end", 17, "job_vanishes"),
    _yes("job.by_reference", 17, "jobs_at_once"),
    _under("checkpoint.listed_seconds", 17, "visibility_seconds", SLOW_SECONDS, "s"),
    _yes("wmi_changes.arrays", 2, "wmi_changes_as_job"),
    _yes("wmi_changes.whole_length", 2, "wmi_length_below_size"),
    _yes("reads.pending", 11, "read_sync"),
    _yes("reads.whole", 11, "short_reads"),
    _under("reads.free_again_seconds", 8, "detach_seconds", 1.0, "s"),
    _yes("merge.vhd_answers", 9, "vhd_busy_while_merging"),
    _yes("merge.settings_there", 10, "no_merge_settings"),
    _yes("security.settings_there", 7, "no_security_settings"),
    _yes("checkpoint.disabled_works", 6, "disabled_refuses_backups"),
    # What only restores in place rely on.
    _yes("restore.write_works", 24, None),
    _yes("restore.flush_works", 24, "attached_flush_refusal"),
    _yes("restore.written_stays", 24, None),
    _yes("restore.ids_after_rename", 25, "ids_die_on_rename"),
    _under("restore.heartbeat_seconds", 26, "heartbeat_seconds", SLOW_SECONDS, "s"),
    # The product.
    _yes("cycle.points_good", 5, None, wrong=True),
    _yes("cycle.host_clean", 9, None, wrong=True),
    _yes("cycle.increments", 3, None),
    _yes("proof.whole", 5, None, wrong=True),
    _yes("proof.lied_chunks", 5, "missing_changes", wanted=0, wrong=True),
)


def deviations(facts: Mapping[str, Any]) -> tuple[Deviation, ...]:
    """Where recorded facts differ from the simulated host's defaults, in the order of the table."""
    return tuple(
        Deviation(
            fact=one.fact,
            question=one.question,
            expected=one.expected,
            found=facts[one.fact],
            knob=one.knob,
            wrong=one.wrong,
            timed=one.timed,
        )
        for one in EXPECTATIONS
        if one.fact in facts and not one.holds(facts[one.fact])
    )
