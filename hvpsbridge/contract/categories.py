"""PowerShell's ErrorCategory for each error id of the contract, as scripts and the simulated host give it.

Held against ``ps_scripts/lib/Errors.ps1`` by a test.
"""

from __future__ import annotations

CATEGORIES: dict[str, str] = {
    "Hvps.AccessDenied": "PermissionDenied",
    "Hvps.ScriptsRefused": "SecurityError",
    "Hvps.Unexpected": "NotSpecified",
    "Hvps.VmNotFound": "ObjectNotFound",
    "Hvps.CheckpointNotFound": "ObjectNotFound",
    "Hvps.FileNotFound": "ObjectNotFound",
    "Hvps.VmBusy": "ResourceBusy",
    "Hvps.DiskBusy": "ResourceBusy",
    "Hvps.DiskUnreadable": "OpenError",
    "Hvps.ChainBroken": "InvalidData",
    "Hvps.ReadFailed": "ReadError",
    "Hvps.BadRequest": "InvalidArgument",
    "Hvps.FormatUnsupported": "NotImplemented",
    "Hvps.TrackingUnusable": "ResourceUnavailable",
    "Hvps.NoSpace": "LimitsExceeded",
    "Hvps.JobFailed": "InvalidResult",
    "Hvps.JobTimedOut": "OperationTimeout",
    "Hvps.ConsistencyFailed": "InvalidResult",
    "Hvps.CommitForkFailed": "DeviceError",
    "Hvps.LogonRightMissing": "AuthenticationError",
}
