"""The one place that imports torchaudio, whose wheel is built for one CUDA version of torch.

Beside a CPU build of torch its extension cannot load (OSError), beside a newer CUDA build it refuses to
(RuntimeError). Its transforms are plain torch and need no extension, so a stub takes the extension's place where it
does not load. Only `forced_align`, `rnnt_loss` and a fast `lfilter` are then missing, which hmmtts does not use.

Objects of torchaudio's own classes must not cross to a spawned process bare: unpickling them would import torchaudio
before this module. Wrap them in a class of hmmtts, whose module imports this one first.
"""

import sys
from importlib import import_module
from types import ModuleType

EXTENSION = "torchaudio._extension"


def _stub() -> ModuleType:
    """What torchaudio asks of its extension, answered with: not there."""

    def unavailable(*arguments: object) -> None:
        raise RuntimeError("torchaudio's compiled extension does not load beside this build of torch")

    def fail_if_no_align(function: object) -> object:
        return unavailable

    stub = ModuleType(EXTENSION)
    stub.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False, fail_if_no_align=fail_if_no_align, _load_lib=lambda name: False
    )
    return stub


def _load() -> tuple[ModuleType, bool]:
    try:
        return import_module("torchaudio"), True
    except ModuleNotFoundError:
        raise
    except (OSError, ImportError, RuntimeError, AttributeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules[EXTENSION] = _stub()
        return import_module("torchaudio"), False


_torchaudio, native = _load()
functional = import_module("torchaudio.functional")
transforms = import_module("torchaudio.transforms")
