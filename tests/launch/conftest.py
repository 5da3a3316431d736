"""A bucket for launches."""

from tests.storage.conftest import servers  # noqa: F401
