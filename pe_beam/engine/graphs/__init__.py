"""The Beam graphs of a run: thin transforms that hold the name of a run directory and do no mathematics.

Labels are fixed literals. There is no side input, no state and no splittable DoFn (DESIGN, section 5).

May import: what `pe_beam.engine` may; Beam.
"""
