"""The Beam graphs of a run: thin transforms that carry a run directory's name, and no maths.

Labels are fixed literals. There is no side input, no state and no splittable DoFn (DESIGN, section 5).

May import: what `pe_beam.engine` may; Beam.
"""
