"""Calls to services that cost money: pace, account, journal, endpoints, and what makes the calls. No Beam.

This package does not affect the release. It decides how and when a request is sent; other packages decide its content.

May import: contracts, errors.
"""
