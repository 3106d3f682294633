"""What ``hvps host check`` prints: a table of the host, a table of its VMs, and a line."""

from __future__ import annotations

from collections.abc import Iterator

from hvpsbridge.report.views import Table
from hvpsbridge.tasks.host_facts import CheckedHost, CheckedVm
from hvpsbridge.units import duration_text, size_text


def check_tables(found: CheckedHost) -> tuple[Table, ...]:
    """The tables, without empty ones."""
    host = Table(
        "host",
        ("check", "result", "what", "remedy"),
        tuple((check.topic, check.state.value, check.text, check.remedy) for check in found.checks),
    )
    vms = Table(
        "VMs",
        ("VM", "storage", "data", "full takes", "result", "what", "remedy"),
        tuple(row for vm in found.vms for row in _rows(vm)),
        frozenset({2, 3}),
    )
    return tuple(table for table in (host, vms) if table.rows)


def _rows(checked: CheckedVm) -> Iterator[tuple[str, ...]]:
    """A row for each finding, or one that says that there is none."""
    storage = ", ".join(f"{place.root} ({place.kind.value})" for place in checked.storage)
    takes = "" if checked.full_seconds is None else duration_text(checked.full_seconds)
    data = size_text(checked.full_bytes) if checked.storage else ""
    head = (checked.vm.name, storage, data, takes)
    if not checked.findings:
        yield (*head, "good", "", "")
    for finding in checked.findings:
        yield (*head, finding.severity.value, finding.text, finding.remedy)
        head = ("", "", "", "")


def check_summary(name: str, found: CheckedHost) -> str:
    """The last line: how many VMs can be backed up, and how long fulls of all of them take."""
    if not found.fit and not found.vms and not found.problems:
        return f"{name}: its VMs were not looked at"
    fit = [vm for vm in found.vms if vm.fit] if found.fit else []
    text = f"{name}: {len(fit)} of {len(found.vms) + len(found.problems)} VMs can be backed up"
    if fit and found.rate is not None:
        size, seconds = sum(vm.full_bytes for vm in fit), sum(vm.full_seconds or 0 for vm in fit)
        text += f"; fulls of all read {size_text(size)}, about {duration_text(seconds)} with one reader"
    return text
