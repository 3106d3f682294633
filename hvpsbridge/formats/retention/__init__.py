"""Retention: which recovery points stay. Values and rules only; nothing is deleted here.

``rules`` holds what a playbook declares, ``points`` what is known of a point and what is decided about it,
``decide`` the counting, ``guard`` the check against earlier prunes, and ``simulate`` a look ahead.
"""

from hvpsbridge.formats.retention.decide import decide
from hvpsbridge.formats.retention.guard import (
    GuardFinding,
    GuardVerdict,
    PastPrune,
    guard,
    past_prunes,
    refuse_out_of_line,
)
from hvpsbridge.formats.retention.points import (
    Decision,
    Reason,
    RetentionPoint,
    State,
    Usable,
    VmDecisions,
    Why,
)
from hvpsbridge.formats.retention.rules import Rules
from hvpsbridge.formats.retention.simulate import AgeRange, Forecast, HeldAfter, Schedule, simulate
from hvpsbridge.formats.retention.span import Span, parse_span

__all__ = [
    "AgeRange",
    "Decision",
    "Forecast",
    "GuardFinding",
    "GuardVerdict",
    "HeldAfter",
    "PastPrune",
    "Reason",
    "RetentionPoint",
    "Rules",
    "Schedule",
    "Span",
    "State",
    "Usable",
    "VmDecisions",
    "Why",
    "decide",
    "guard",
    "parse_span",
    "past_prunes",
    "refuse_out_of_line",
    "simulate",
]
