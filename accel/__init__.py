"""The execution core: a software x86-64 CPU in C, called through cffi.

`ffi` and `lib` are the whole interface; `include/accel.h` documents it. Nothing of the machine, of the
debugger or of the host is known here. With `ACCEL_SANITIZE=1` in the environment the sanitizer build is
loaded instead.

The extension is loaded on first use, so that the builder beside it can be imported before it exists.
"""

import importlib
import os
from typing import Any

__all__ = ["ffi", "lib"]

ffi: Any
lib: Any


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    core = importlib.import_module(
        "accel._core_san" if os.environ.get("ACCEL_SANITIZE") == "1" else "accel._core"
    )
    globals().update(ffi=core.ffi, lib=core.lib)
    return globals()[name]
