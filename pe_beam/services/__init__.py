"""Calls to services that cost money: settings, pace, spending, journal, and the dispatcher that makes them. No Beam.

Nothing here shapes a release: what is asked is decided elsewhere, this is how and when it is asked.

May import: contracts, errors.
"""
