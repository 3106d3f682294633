"""Playbooks: reads YAML into frozen values and reports all mistakes at once, each with its line.

``load`` reads YAML and keeps positions, ``template`` fills in variables, ``specs`` and the options classes of
``tasks`` declare the keys, ``derive`` makes pydantic models of them, ``read`` combines all of it.
"""
