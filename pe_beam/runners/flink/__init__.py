"""Flink: checks and runs jobs on it, installs its parts, starts and stops a cluster on one machine.

`python -m pe_beam.runners.flink start --dir DIR` is the command line. Only `runner`, `arrival` and `workers` import
Beam. No module uses recipes or private data.
"""
