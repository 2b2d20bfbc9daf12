"""The execution core: a software x86-64 CPU in C, called through cffi.

`ffi` and `lib` are the whole interface; `include/accel.h` documents it. Nothing of the machine, of the debugger or
of the host is known here. With `ACCEL_SANITIZE=1` in the environment the sanitizer build is loaded instead.
"""

import os

if os.environ.get("ACCEL_SANITIZE") == "1":
    from accel._core_san import ffi, lib
else:
    from accel._core import ffi, lib

__all__ = ["ffi", "lib"]
