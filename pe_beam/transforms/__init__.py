"""The Beam layer: thin transforms that carry run directories, names and Arrow batches between workers.

May import Beam and `pe_beam.runs`; holds no maths. Labels are fixed literals; no side input, no state, no
splittable DoFn (DESIGN, section 5).
"""
