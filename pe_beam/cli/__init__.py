"""The command line `pe-beam`.

`main` has all commands, and runs those that a module of their own does not: `asking` (init), `planning` (plan),
`telling` (status and privacy), `book`. `previewing` has the lines of a preview, `terminal` how things are printed.

May import: everything.
"""
