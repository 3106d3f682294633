"""What hvps and a host agree on: each operation once, with parameters, result, effect and errors.

The host layer, the simulated host and the script tests read the same entries, so they cannot drift.
"""

from hvpsbridge.contract.operation import Effect, Operation, Parameter
from hvpsbridge.contract.operations import CONTRACT, OPERATIONS

__all__ = ["CONTRACT", "OPERATIONS", "Effect", "Operation", "Parameter"]
