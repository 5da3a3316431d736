"""Streams: windows of private data that never end, each a run of its own (DESIGN, privacy rule 16).

`loop` closes, runs and publishes the windows that are due, by `clock`. `closing` commits the members of a window.
`registry` knows which positions and clients have been in which windows. `ledger` is written before a window spends.
`promise` fixes what the stream promises before its first window. `publishing` makes a release public at its scheduled
instant, and deletes what is private. `status` and `report` show where a stream stands and what it has published.
`booking` enters a budget book, and compares the runs and streams of one with what they have spent.

May import: driver, books, engine, report, recipe, privacy, storage, contracts, registry, keyed,
numbers, wording, errors.
"""
