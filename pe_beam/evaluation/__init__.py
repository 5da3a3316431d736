"""Measures the quality of samples against real records: reads, measures and shows. `metrics` has the mathematics.

All results are computed from real records without noise. They are written only to `private/evaluation/`, and no
command filters, ranks or stops by them (DESIGN, privacy rule 9). Only `graph` uses Beam. docs/evaluation.md explains
each figure.

May import: driver, engine, transforms, report, recipe, metrics, voting, storage, services, contracts, registry,
subsamples, keyed, errors.
"""
