"""Public transforms of Private Evolution over plain PCollections. None of them needs a run directory.

`EmbedRecords` and `Vote` make exact counts of private records. `NoisyHistogram` makes the counts differentially
private. Later transforms are post-processing. `Spread` gives elements to all workers, and `GroupRows` brings all rows
of a key together. `pe_beam.engine` uses the same transforms in a run.

Labels are fixed literals. There is no side input, no state and no splittable DoFn (DESIGN, section 5).

`beam_yaml` has constructors for Beam YAML.

May import: contracts, voting, privacy, selection, storage, registry, errors, keyed, kept; Beam.
"""
