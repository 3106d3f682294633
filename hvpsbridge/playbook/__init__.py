"""Playbooks: YAML in, frozen specs out, and every mistake at once with its line.

``load`` is the door to YAML and keeps positions; ``template`` puts variables into values; ``specs`` are
the frozen values with their types, defaults and descriptions; ``read`` puts the three together.
"""
