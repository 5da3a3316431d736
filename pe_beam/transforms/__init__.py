"""Public transforms of Private Evolution over plain PCollections. None needs a run directory.

`EmbedRecords` and `Vote` make exact counts of private records; `NoisyHistogram` makes them differentially private; what
follows is post-processing. `pe_beam.engine` binds the same transforms to a run.

Labels are fixed literals. There is no side input, no state and no splittable DoFn (DESIGN, section 5).

May import: contracts, voting, privacy, selection, storage, errors, keyed; Beam.
"""
