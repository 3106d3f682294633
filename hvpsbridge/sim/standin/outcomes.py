"""References and jobs in the parameters of WMI methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hvpsbridge.sim.model import HyperVError, Wmi
from hvpsbridge.sim.model.state import Job
from hvpsbridge.sim.standin.instances import job_id

Row = dict[str, Any]
# A method of WMI: takes its arguments, and sets out parameters in what it answers.
Run = Callable[[Row, Row], None]


def reference(class_name: str, keys: Row) -> Row:
    """A reference to an instance."""
    return {"$ref": class_name, "keys": keys}


def keys_of(value: Any, class_name: str) -> Row:
    """Keys in a reference.

    Raises:
        HyperVError: it is not a reference to that class.
    """
    if not isinstance(value, dict) or value.get("$ref") != class_name:
        raise HyperVError(Wmi.INVALID_PARAMETER, "")
    return dict(value["keys"])


def started(job: Job, outcome: Row) -> None:
    """Set what a method answers that started a job, or has finished it."""
    if not job.done:
        outcome["ReturnValue"] = int(Wmi.JOB_STARTED)
        outcome["Job"] = reference("Msvm_ConcreteJob", {"InstanceID": job_id(job)})
    elif job.error_code:
        outcome["ReturnValue"] = int(job.error_code)
