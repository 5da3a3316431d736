"""Noisy votes -> who survives and how often: schedules, quotas, thresholds, samplers. NumPy only, no Beam.

All of it is post-processing of what is released already: it costs no budget.
"""
