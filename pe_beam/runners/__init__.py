"""Runs graphs on a runner: flags, checks, start and stop. Each runner has a file or a folder.

`job` runs one graph on the runner that the flags name. `direct` is Beam in this process. `flink` is Flink on one
machine or on a cluster. `dataflow` is Google Cloud Dataflow. `traces` is what a runner's error says.
`staging` deletes what Beam leaves behind.

May import: contracts, storage, registry, shipped, console, errors; Beam.
"""
