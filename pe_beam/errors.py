"""The errors that a user meets, and the exit status of each.

A message says what is wrong, where, and what is allowed. Of private data it says only the recipe key, the
kind of fault and what is allowed; file, row and value go to `private/rejects/` (DESIGN, privacy rule 7).
"""

from __future__ import annotations


class PeBeamError(Exception):
    """A failure that is explained to the user in one message. Exit status 1 unless said otherwise."""

    exit_status = 1


class InputError(PeBeamError):
    """A recipe, input, changed recipe or data, secret, or too many rejects. Status 2; nothing was spent."""

    exit_status = 2


class RecipeError(InputError):
    """A recipe that cannot be run: the message names the key, its value and what is allowed."""


class DataError(InputError):
    """Private or holdout data that cannot be read as declared: the message never holds a value of it."""


class EmptyInputError(DataError):
    """There is no private record at all where `data.path` points."""


class SecretError(InputError):
    """A secret that is missing, unreadable or that of another run."""


class MissingExtraError(InputError):
    """A recipe asks for a package that is not installed: the message names the extra that brings it."""


class LockedError(PeBeamError):
    """Another process is at work in this run directory."""


class StorageError(PeBeamError):
    """The run directory cannot be written: full disk, missing rights, a file system without hard links."""


class UnreachableError(StorageError):
    """A store that cannot be used as it is named: no such bucket, no access, a wrong endpoint. Status 2."""

    exit_status = 2


class StageError(PeBeamError):
    """A stage of a pipeline failed. Its message names the stage and the kind of error, never a value."""


class ServiceError(PeBeamError):
    """A remote service refuses calls or does not answer; the same command goes on once it does."""


class RefusedError(ServiceError):
    """A remote service refuses a call: it surely did no work, and the call costs nothing."""


class SpentError(PeBeamError):
    """The next call could pass a ceiling of the recipe; nothing is lost, and a raised ceiling goes on."""


class PeBeamWarning(UserWarning):
    """Something that a user should know and that does not stop the run."""
