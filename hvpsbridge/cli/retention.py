"""Options of commands that apply retention."""

from __future__ import annotations

from hvpsbridge.cli.declared import OptionGroup
from hvpsbridge.formats.retention import Rules

# Their defaults mean that a rule is off, so the help does not show them.
RULE_OPTIONS = OptionGroup(
    Rules,
    {
        "keep_last": "--keep-last",
        "keep_hourly": "--keep-hourly",
        "keep_daily": "--keep-daily",
        "keep_weekly": "--keep-weekly",
        "keep_monthly": "--keep-monthly",
        "keep_yearly": "--keep-yearly",
        "keep_within": "--keep-within",
        "keep_tags": "--keep-tag",
        "time_zone": "--time-zone",
    },
    with_defaults=False,
)
