"""The operations on a host: each with its parameters, result, effect and errors.

The host layer, the simulated host and the tests of the scripts use the same entries.
"""

from hvpsbridge.contract.operation import Effect, Operation, Parameter
from hvpsbridge.contract.operations import CONTRACT, OPERATIONS

__all__ = ["CONTRACT", "OPERATIONS", "Effect", "Operation", "Parameter"]
