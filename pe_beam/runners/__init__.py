"""Where graphs run: flags, checks, start and stop. A file or a folder each.

`job` runs one graph on the runner that the flags name; `direct` is Beam in this process, `flink` a Flink of one machine
or a cluster.

May import: contracts, storage, registry, shipped, console, errors; Beam.
"""
