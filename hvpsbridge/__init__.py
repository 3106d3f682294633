"""Agentless backup of Hyper-V virtual machines from Linux."""

__version__ = "0.1.0"
