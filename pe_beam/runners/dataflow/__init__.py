"""Google Cloud Dataflow: checks flags, names jobs, submits a job or attaches to the one that runs, explains failures.

Only `runner` and `service` import Beam. No module uses recipes or private data.
"""
