"""Reading the user's files, bounded: the only input/output of the loaders."""

import os
import stat
from typing import BinaryIO, Final

from hv.errors import ImageError

MAX_IMAGE_SIZE: Final = 1 << 31  # a kernel with debug information; only its segments reach the guest
_BLOCK: Final = 1 << 24


def read_file(path: str, limit: int, limit_name: str) -> bytes:
    """The whole content of a regular file or pipe of at most `limit` bytes.

    Raises `ImageError` if it cannot be read, is empty or is larger than `limit` (`limit_name` says
    what that is).
    """
    too_large = ImageError(path, f"is larger than {limit_name} ({limit >> 20} MiB)")
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            what = "is a directory" if stat.S_ISDIR(mode) else "is neither a regular file nor a pipe"
            raise ImageError(path, what)
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > limit:
                raise too_large
            content = _read_bounded(file, limit)
    except OSError as error:
        raise ImageError(path, error.strerror or "cannot be read") from None
    except ValueError:  # a zero byte in the name
        raise ImageError(path, "is not a file name") from None
    if len(content) > limit:
        raise too_large
    if not content:
        raise ImageError(path, "is empty")
    return content


def _read_bounded(file: BinaryIO, limit: int) -> bytes:
    """The content up to `limit` + 1 bytes, in blocks: the size of a pipe is not known beforehand."""
    blocks: list[bytes] = []
    size = 0
    while size <= limit and (block := file.read(min(_BLOCK, limit + 1 - size))):
        blocks.append(block)
        size += len(block)
    return b"".join(blocks)
