"""The pledge: a record of the counts that get noise, written before they get it, so that no others ever do (rule 3)."""

from __future__ import annotations

import hashlib
import hmac

from pe_beam.contracts.store import Store


def pledge(store: Store, name: str, key: bytes) -> bool:
    """Records the key of a noise under a name, once.

    Args:
      store: the store that keeps the record; private.
      name: name of the file, one for each histogram.
      key: key of the noise, which depends on the counts. A digest of it is kept.

    Returns:
      False if another key was recorded before: other noise would cost budget again.
    """
    mine = hashlib.sha256(b"pe_beam/noised/1" + key).hexdigest().encode()
    return store.commit(name, mine) or hmac.compare_digest(store.read(name), mine)
