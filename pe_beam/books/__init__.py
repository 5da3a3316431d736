"""Budget books: a budget over runs on overlapping data, fixed before the first of them (DESIGN, privacy rule 17).

`lines` has the lines of a book, `standing` what follows from them, `total` how much the runs of a book may spend
together, `file` reads and writes a book in any store, and `entering` lets a run reserve what it will spend.

May import: contracts, storage, privacy, keyed, errors.
"""
