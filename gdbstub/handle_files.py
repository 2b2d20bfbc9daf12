"""Handlers for `vFile`: a read-only table of names. Nothing here reaches a file system.

::

    F result[,errno][;attachment]      numbers are hex; errno has the protocol's own values

Source: *Debugging with GDB*, appendix "Remote Protocol", sections "Host I/O Packets", "File-I/O Remote
Protocol Extension" (errno, open flags, struct stat).
"""

from __future__ import annotations

import struct

from gdbstub.context import Context, Outcome
from gdbstub.handle_state import fit
from gdbstub.replies import Empty, Raw
from gdbstub.requests_control import FileChange, FileClose, FileOpen, FileRead, FileSize, FileStat, FileSystem

ENOENT, EBADF, EMFILE, EROFS = 2, 9, 24, 30
MAX_OPEN = 16
MAX_FILE = 1 << 26
"""Bytes of all open files together."""
_WRITING = 0x1 | 0x2 | 0x8 | 0x200 | 0x400
"""O_WRONLY, O_RDWR, O_APPEND, O_CREAT, O_TRUNC."""
_MODE = 0o100444
_STAT = struct.Struct(">IIIIIIIQQQIII")
"""st_dev ino mode nlink uid gid rdev, 4 bytes each; size blksize blocks, 8; atime mtime ctime, 4."""


def _failed(errno: int) -> Raw:
    return Raw(b"F-1,%x" % errno)


async def file_system(context: Context, request: FileSystem) -> Outcome:
    """`vFile:setfs`: there is one."""
    return Empty() if context.capabilities.virtual_files is None else Raw(b"F0")


async def file_open(context: Context, request: FileOpen) -> Outcome:
    """`vFile:open`: the contents are those of this moment until `close`."""
    capability, files = context.capabilities.virtual_files, context.session.files
    if capability is None:
        return Empty()
    if request.flags & _WRITING:
        return _failed(EROFS)
    contents = await capability.read_file(request.path)
    if contents is None:
        return _failed(ENOENT)
    if len(files) >= MAX_OPEN or sum(map(len, files.values())) + len(contents) > MAX_FILE:
        return _failed(EMFILE)
    descriptor = next(n for n in range(3, 4 + MAX_OPEN) if n not in files)
    files[descriptor] = contents
    return Raw(b"F%x" % descriptor)


async def file_close(context: Context, request: FileClose) -> Outcome:
    """`vFile:close`."""
    if context.capabilities.virtual_files is None:
        return Empty()
    return _failed(EBADF) if context.session.files.pop(request.descriptor, None) is None else Raw(b"F0")


async def file_read(context: Context, request: FileRead) -> Outcome:
    """`vFile:pread`. Less than asked for when more does not fit a packet."""
    if context.capabilities.virtual_files is None:
        return Empty()
    contents = context.session.files.get(request.descriptor)
    if contents is None:
        return _failed(EBADF)
    size = context.session.packet_size - 16
    chunk = contents[request.offset : request.offset + min(request.count, size)]
    data = fit(b"", chunk, size)
    return Raw(b"F%x;%b" % (len(data), data))


async def file_stat(context: Context, request: FileStat) -> Outcome:
    """`vFile:fstat` and `vFile:stat`."""
    capability = context.capabilities.virtual_files
    if capability is None:
        return Empty()
    if request.path is not None:
        contents = await capability.read_file(request.path)
        missing = ENOENT
    else:
        contents = context.session.files.get(request.descriptor)
        missing = EBADF
    if contents is None:
        return _failed(missing)
    size = len(contents)
    packed = _STAT.pack(0, 0, _MODE, 1, 0, 0, 0, size, 512, -(-size // 512), 0, 0, 0)
    return Raw(b"F%x;%b" % (len(packed), packed))


async def file_size(context: Context, request: FileSize) -> Outcome:
    """LLDB's `vFile:size` and `vFile:exists`."""
    capability = context.capabilities.virtual_files
    if capability is None:
        return Empty()
    contents = await capability.read_file(request.path)
    if request.exists:
        return Raw(b"F,%d" % (contents is not None))
    return _failed(ENOENT) if contents is None else Raw(b"F%x" % len(contents))


async def file_change(context: Context, request: FileChange) -> Outcome:
    """`vFile:pwrite`, `vFile:unlink`, `vFile:readlink`."""
    return Empty() if context.capabilities.virtual_files is None else _failed(EROFS)
