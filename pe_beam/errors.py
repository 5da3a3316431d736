"""The errors that a user sees, and the exit status of each.

A message says what is wrong, where, and what is allowed. For private data it says only the recipe key, the
kind of fault and what is allowed. File, row and value go to `private/rejects/` (DESIGN, privacy rule 7).
"""

from __future__ import annotations


class PeBeamError(Exception):
    """A failure that one message explains to the user. The exit status is 1 unless a subclass changes it."""

    exit_status = 1


class InputError(PeBeamError):
    """A bad recipe, input or secret, changed recipe or data, or too many rejects. Status 2.

    Most of these errors are raised before any budget is spent; those about committed counts come after it.
    """

    exit_status = 2


class RecipeError(InputError):
    """A recipe cannot be run. The message names the key, its value and what is allowed."""


class DataError(InputError):
    """Private or holdout data cannot be read as declared. The message never contains a value of the data.

    Attributes:
      file: the file that it is about, for `private/rejects/` alone; "": not known.
    """

    file = ""


class MissingDataError(DataError):
    """There is nothing at a path of a disk, as the machine sees it that has looked."""


class EmptyInputError(DataError):
    """`data.path` contains no private record."""


class SecretError(InputError):
    """A secret is missing, is unreadable or belongs to another run."""


class MissingExtraError(InputError):
    """A recipe needs a package that is not installed. The message names the package or the extra that contains it."""


class LockedError(PeBeamError):
    """Another process works in this run directory."""


class StorageError(PeBeamError):
    """The run directory cannot be read or written: a missing file, a full disk, missing permissions, no hard links."""


class UnreachableError(StorageError):
    """A store that cannot be used as it is named: no such bucket, no access, a wrong endpoint. Status 2."""

    exit_status = 2


class StageError(PeBeamError):
    """A stage of a pipeline failed. Its message names the stage and the kind of error, never a value."""


class UnusableError(StageError):
    """A generator made nothing that can be used of a whole chunk of new candidates."""


class ServiceError(PeBeamError):
    """A remote service refuses calls or does not answer. The same command resumes when the service answers again."""


class RefusedError(ServiceError):
    """A remote service refuses a call. It certainly did no work, and the call costs nothing."""


class SpentError(PeBeamError):
    """The next call could exceed a limit of the recipe. Nothing is lost: the run resumes after the limit is raised."""


class PeBeamWarning(UserWarning):
    """Something that a user should know and that does not stop the run."""


def damaged(name: str, remedy: str = "put it back as it was") -> InputError:
    """Returns the error for a file of a run or a stream that is not what was written, and what to do about it."""
    return InputError(f"{name}: damaged, not what this run has made; {remedy}")
