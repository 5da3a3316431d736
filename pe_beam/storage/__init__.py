"""Where the files of a run lie.

May import: contracts, durable, errors.
"""
