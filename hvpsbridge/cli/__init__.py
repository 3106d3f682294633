"""The command line: commands, composition, exit codes. The only package that prints or exits.

``main`` is the entry point and turns every outcome into one exit code; ``app`` holds the command group;
``compose`` builds connections, repositories and runs from specs; ``console`` writes to the terminal.
"""
