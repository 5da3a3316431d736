"""The recipe of the tests of texts."""

from __future__ import annotations

from tests.modalities.text.conftest import texts  # noqa: F401
