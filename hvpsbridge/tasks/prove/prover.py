"""The whole proof, stage by stage, and its result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from hvpsbridge.contract.results import HostInfo, VmInfo
from hvpsbridge.errors import HostError, HvpsError
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.tasks.host_check import CheckState, check_system
from hvpsbridge.tasks.prove.cycle import BACKUPS, IDLE_SECONDS, LONG_INCREMENTS, Cycle
from hvpsbridge.tasks.prove.expectations import Deviation, deviations
from hvpsbridge.tasks.prove.findings import Findings, Row, StageFailed, Verdict
from hvpsbridge.tasks.prove.incidents import Incidents
from hvpsbridge.tasks.prove.operations import Operations
from hvpsbridge.tasks.steps import Step

# Version of the document of facts. Raised when the meaning of a fact changes.
SCHEMA = 1
# Hashing on the host costs no wire; disks of scratch VMs are read at least this fast.
HASH_RATE_BYTES = 200_000_000
# Checkpoint, conversion and merge of a small VM.
BACKUP_SECONDS = 45
# Of the group "facts", and of each probe that makes checkpoints.
FACTS_SECONDS = 30
PROBE_SECONDS = 120
PROBES = 5
# Of the groups "operations" and "ids".
CHECKPOINTS_BY_HAND = 6
CHECKPOINTS_OF_IDS = 11
# What hvps uses with its defaults (docs/real-host.md#winrm-limits).
ENOUGH_SHELLS = 20
ENOUGH_MEMORY_MB = 512
# OperationalStatus of a VM for which nothing is going on.
STATUS_OK = 2
LIMIT_SECONDS = 3 * 3600

# Groups of stages. The group "long" is not one of them, since it takes a day.
GROUPS = ("facts", "probes", "operations", "ids", "cycle", "crashes", "sweep", "restore")
# The last stage: after it, nothing of hvps is left on the host.
CLEAN_UP = "clean up"
# Stages without which nothing is proved. One that could not run counts as little as one that failed.
NEEDED = frozenset({"operations", *BACKUPS, "crashes", "sweep", "restore", CLEAN_UP})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveResult:
    """What a proof found.

    Attributes:
        schema: version of the facts.
        facts: by name.
        deviations: where the host differs from the simulated host's defaults, each with the knob of the
            simulated host that covers it.
        proved: whether backups work on this host: every stage of :data:`NEEDED` passed and
            none failed.
    """

    schema: int
    host: str
    vm: str
    started: datetime
    seconds: float
    rows: tuple[Row, ...]
    facts: Mapping[str, Any]
    deviations: tuple[Deviation, ...]
    proved: bool

    @property
    def passed(self) -> frozenset[str]:
        """Names of the stages that passed."""
        return frozenset(row.stage for row in self.rows if row.verdict is Verdict.PASS)

    @property
    def failed(self) -> bool:
        """Whether a stage failed."""
        return any(row.verdict is Verdict.FAIL for row in self.rows)


def estimate_seconds(groups: Collection[str], size_bytes: int, rate_bytes: float) -> float:
    """How long groups of stages take, with disks of this size in all and this rate of one reader."""
    hashing = size_bytes / HASH_RATE_BYTES
    # A crash may cost the base, so that a backup is compared instead: hashed once more.
    backup = BACKUP_SECONDS + 2 * hashing
    backups = {
        "cycle": len(BACKUPS),
        "crashes": len(Step) + 1,
        "sweep": 1,
        "restore": 1,
        "long": LONG_INCREMENTS,
    }
    seconds = {
        "facts": FACTS_SECONDS,
        "probes": PROBES * PROBE_SECONDS,
        "operations": CHECKPOINTS_BY_HAND * BACKUP_SECONDS,
        "ids": CHECKPOINTS_OF_IDS * BACKUP_SECONDS + hashing,  # the host copies the disks once
        **{group: count * backup for group, count in backups.items()},
    }
    seconds["restore"] += BACKUP_SECONDS + hashing  # of a checkpoint to compare with
    seconds["long"] += IDLE_SECONDS
    # Without a point before, the first backup is read over the wire.
    reading = size_bytes / rate_bytes if backups.keys() & set(groups) else 0.0
    return reading + sum(seconds[group] for group in groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """A proof of one host with one scratch VM.

    Attributes:
        only: groups of stages to run, of :data:`GROUPS`.
        probes: names of probe scripts that give facts.
        begin: called before this proof makes anything, after the last one was cleaned up after.
    """

    host: HyperVHost
    info: HostInfo
    vm: VmInfo
    operations: Operations
    cycle: Cycle
    found: Findings
    only: Collection[str] = GROUPS
    probes: tuple[str, ...] = ()
    begin: Callable[[], object] = lambda: None

    def run(self) -> ProveResult:
        """Run the stages. One that fails does not end the proof; a signal does, and is in the findings."""
        started = datetime.now(UTC)
        try:
            self._stages()
        except HvpsError as err:
            self.found.ended = err
        return self._result(started)

    def _stages(self) -> None:
        self.cycle.clean_earlier()
        self.begin()
        if "facts" in self.only:
            self._host_facts()
        if "probes" in self.only:
            for probe in self.probes:
                self._probe(probe)
        if "operations" in self.only:
            self.operations.cycle_by_hand()
            Incidents(self.operations).writes_in_the_window()
            Incidents(self.operations).two_checkpoints()
        if "ids" in self.only:
            self._ids()
        if "cycle" in self.only:
            self.cycle.backups()
        if "crashes" in self.only:
            self.cycle.crashes()
        if "sweep" in self.only:
            self.cycle.sweep()
        if "restore" in self.only:
            self.cycle.restore()
        if "long" in self.only:
            self.cycle.soak()
        self.cycle.forget()

    def _host_facts(self) -> None:
        with self.found.stage("facts", 7, 18, 19) as remarks:
            for name, value in asdict(self.info).items():
                if name not in ("name", "fqdn", "machine_id", "process_id", "process_started", "time"):
                    self.found.fact(f"host.{name}", value if not isinstance(value, tuple) else list(value))
            reader = self.host.check_reader()
            self.found.fact("reader.compiled", reader.compiled)
            self.found.fact("reader.seconds", reader.seconds)
            for volume in self.host.volumes(self.vm.vm_id):
                self.found.fact(f"volume.{volume.root}", [volume.free_bytes, volume.total_bytes])
            listed, problems = self.host.list_vms()
            self.found.fact("host.vms", len(listed))
            self.found.fact("host.unreadable_vms", len(problems))
            self._optional_facts()
            checks = tuple(check_system(self.info, datetime.now(UTC)))
            remarks += [check.text for check in checks if check.state is not CheckState.GOOD]
            if any(check.state is CheckState.REFUSE for check in checks):
                raise StageFailed("backups cannot run on this host")

    def _optional_facts(self) -> None:
        """Facts that a host may refuse to give; the refusal is a fact, too."""

        def ask(name: str, question: Callable[[], Any]) -> None:
            try:
                self.found.fact(name, question())
            except HostError as err:
                self.found.fact(f"{name}.refusal", err.describe())

        checks = self.host.checks
        ask("winrm.limits", lambda: asdict(checks.limits()))
        limits = self.found.facts.get("winrm.limits") or {}
        self.found.fact("winrm.readable", any(value is not None for value in limits.values()))
        for name, limit, least in (
            ("winrm.enough_shells", "shells_per_user", ENOUGH_SHELLS),
            ("winrm.enough_memory", "shell_memory_mb", ENOUGH_MEMORY_MB),
        ):
            # A limit that cannot be read is not known to be too low; 0 is none.
            self.found.fact(name, (limits.get(limit) or least) >= least)
        ask("host.access", lambda: asdict(checks.access()))
        access = self.found.facts.get("host.access") or {}
        self.found.fact("host.defender_has_rules", bool(access.get("defender_rules")))
        started = time.monotonic()
        status = list(self.host.vm(self.vm.vm_id).operational_status)
        self.found.fact("vm.asked_seconds", round(time.monotonic() - started, 3))
        self.found.fact("vm.operational_status", status)
        self.found.fact("vm.status_usual", status == [STATUS_OK])
        ask("definition.problems", lambda: json.loads(self.host.definition(self.vm.vm_id).json)["problems"])
        problems = self.found.facts.get("definition.problems")
        self.found.fact("definition.whole", not problems and self.vm.settings_error is None)

    def _probe(self, name: str) -> None:
        with self.found.stage(f"probe {name}"):
            for fact, value in self.operations.scratch.observe(name).items():
                self.found.fact(fact, value)

    def _ids(self) -> None:
        scratch, incidents = self.operations.scratch, Incidents(self.operations)
        incidents.ids_in_a_child()
        incidents.ids_after("after_user_checkpoint", 3, self._user_checkpoint)
        incidents.ids_after_apply()
        incidents.ids_after("cover_after_cut", 20, scratch.cut)
        incidents.ids_after("after_storage_move", 3, scratch.move_storage)
        incidents.ids_after("after_migration", 14, scratch.migrate)
        incidents.trims()

    def _user_checkpoint(self) -> None:
        scratch = self.operations.scratch
        scratch.remove_user_checkpoint(scratch.user_checkpoint())

    def _result(self, started: datetime) -> ProveResult:
        differing = deviations(self.found.facts)
        failed = any(row.verdict is Verdict.FAIL for row in self.found.rows)
        passed = {row.stage for row in self.found.rows if row.verdict is Verdict.PASS}
        return ProveResult(
            schema=SCHEMA,
            host=self.host.name,
            vm=self.vm.name,
            started=started,
            seconds=round((datetime.now(UTC) - started).total_seconds(), 3),
            rows=tuple(self.found.rows),
            facts=dict(self.found.facts),
            deviations=differing,
            proved=passed >= NEEDED and not failed and not any(one.wrong for one in differing),
        )
