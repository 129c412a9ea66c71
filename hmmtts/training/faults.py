"""Why a run ended, as exceptions, and the exit code of each (docs/reliability.md lists them)."""

import errno

from hmmtts.build.checkpoint import CheckpointError


class ConfigError(ValueError):
    """A config that cannot work, found before any data was touched."""


class DataError(ValueError):
    """A corpus that cannot be trained on."""


class NumericsError(RuntimeError):
    """The loss stayed non-finite, or the weights became so."""


class EnvironmentFault(RuntimeError):
    """What surrounds the run refuses: a full disk, a run folder in use."""


class RankFailure(RuntimeError):
    """What ended a training over several processes, with the exit code of the one that failed first."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(BaseException):
    """A signal asked the run to end and its state is saved. Not an Exception, so that nobody swallows it."""

    def __init__(self, message: str, exit_code: int, signal: int = 0):
        super().__init__(message)
        self.exit_code = exit_code
        self.signal = signal


EXIT_CODES: dict[type[BaseException], int] = {
    ConfigError: 2,
    DataError: 3,
    CheckpointError: 4,
    NumericsError: 5,
    EnvironmentFault: 6,
    KeyboardInterrupt: 130,
}
SURROUNDINGS = {  # errors of the operating system that no change of the program or its input would mend
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE
}  # fmt: skip


def exit_code(error: BaseException) -> int:
    """1 for what nobody foresaw."""
    if isinstance(error, Interrupted | RankFailure):
        return error.exit_code
    if isinstance(error, OSError) and error.errno in SURROUNDINGS:
        return EXIT_CODES[EnvironmentFault]
    if (
        isinstance(error, ImportError) and error.name is None
    ):  # ours, and says what to install; Python's own names a module
        return EXIT_CODES[EnvironmentFault]
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
