"""Noisy votes -> who survives and how often: schedules, quotas, thresholds, samplers.

All of it is post-processing of what is released already: it costs no budget.

May import: errors; NumPy. No Beam.
"""
