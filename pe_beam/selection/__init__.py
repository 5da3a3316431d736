"""Decides from noisy votes which candidates survive, and how often: schedules, quotas, thresholds, samplers.

All of it is post-processing of released data: it costs no budget.

May import: errors; NumPy. No Beam.
"""
