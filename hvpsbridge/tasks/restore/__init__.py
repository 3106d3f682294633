"""The way back: disks of a recovery point, written to a target (docs/restore.md).

:mod:`targets` has the kinds of targets, :mod:`task` the task that playbooks and ``hvps restore`` run.
"""
