"""Flink for one machine: the pieces it needs, a standalone cluster to start and stop, a Python worker pool.

`python -m pe_beam.runners.flink start --dir DIR` is the command line. Only `workers` imports Beam; nothing here
knows of recipes or private data.
"""
