"""The simulated Hyper-V host: a model of Hyper-V, a WSMan front, and the stand-ins scripts run against.

Rule: this package knows errors, units, secret, formats and contract only. Product code never imports it;
``cli``, ``testing`` and the tests do.
"""
