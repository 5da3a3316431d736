"""The pledge: which counts were given noise, noted before they are, so that no others ever are (rule 3)."""

from __future__ import annotations

import hashlib
import hmac

from pe_beam.contracts.store import Store


def pledge(store: Store, name: str, key: bytes) -> bool:
    """Notes the key of a noise under a name, once.

    Args:
      store: where it is noted; private.
      name: of the file: one for each histogram.
      key: of the noise, which follows from the counts. A digest of it is kept.

    Returns:
      False where another key was noted before: another noise would cost budget again.
    """
    mine = hashlib.sha256(b"pe_beam/noised/1" + key).hexdigest().encode()
    return store.commit(name, mine) or hmac.compare_digest(store.read(name), mine)
