"""Tests of `pe-beam watch`."""
