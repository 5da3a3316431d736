"""The command line `pe-beam`.

May import: everything.
"""
