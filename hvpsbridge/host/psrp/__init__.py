"""The door to pypsrp: shells, pipelines and the bulk reply path. Nothing outside sees a pypsrp object."""
