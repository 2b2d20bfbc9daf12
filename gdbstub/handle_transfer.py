"""Handlers for `qXfer` objects, and for the branch traces that are one of them."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from xml.sax.saxutils import escape, quoteattr

from gdbstub.capabilities import Block, Table
from gdbstub.context import Context, Outcome
from gdbstub.errors import RequestError, UnsupportedError
from gdbstub.handle_state import fit
from gdbstub.replies import Empty, Error, Features, Ok, Raw, thread_text
from gdbstub.requests import Transfer
from gdbstub.requests_control import BranchTraceRequest, BranchTraceSize
from gdbstub.session import DEFAULT_TRACE_SIZE
from gdbstub.target import ThreadInfo

MAX_TRACE_SIZE = 1 << 24
"""Bytes of branch trace that a client may ask for."""
_MAX_DOCUMENTS = 8


def _document(lines: Sequence[str]) -> bytes:
    return "\n".join(['<?xml version="1.0"?>', *lines, ""]).encode()


async def _features(context: Context, annex: str) -> bytes | None:
    if annex != "target.xml":
        return None
    if context.capabilities.relayout is not None:
        await context.capabilities.relayout.latch_description(context.general_thread())
    return context.target.description.target_xml


@functools.lru_cache
def _thread_line(info: ThreadInfo, features: Features) -> str:
    # gdb asks at every stop, and mostly nothing has changed.
    core = "" if info.core is None else f' core="{info.core}"'
    text = f"name={quoteattr(info.name)}>{escape(info.detail)}"
    return f'<thread id="{thread_text(info.id, features)}"{core} {text}</thread>'


async def _threads(context: Context, annex: str) -> bytes | None:
    if annex:
        return None
    features = context.session.features
    lines = [_thread_line(info, features) for info in await context.target.threads()]
    return _document(["<threads>", *lines, "</threads>"])


async def _executable(context: Context, annex: str) -> bytes | None:
    files = context.capabilities.virtual_files
    # The annex is a process id; there is one process.
    name = None if files is None or annex not in ("", "1") else await files.executable()
    return None if name is None else name.encode()


async def _libraries(context: Context, annex: str) -> bytes | None:
    capability = context.capabilities.libraries
    if capability is None or annex:
        return None
    lines = ["<library-list>"]
    for library in await capability.libraries():
        segments = "".join(f'<segment address="{address:#x}"/>' for address in library.segments)
        lines.append(f"<library name={quoteattr(library.name)}>{segments}</library>")
    return _document([*lines, "</library-list>"])


async def _system_data(context: Context, annex: str) -> bytes | None:
    tables = context.capabilities.system_tables
    if tables is None:
        return None
    if annex in ("", "types"):
        rows = tuple((name, description, name) for name, description in await tables.tables())
        return _table_document("types", Table(("Type", "Description", "Title"), rows))
    table = await tables.table(annex)
    return None if table is None else _table_document(annex, table)


def _table_document(name: str, table: Table) -> bytes:
    lines = [f"<osdata type={quoteattr(name)}>"]
    for row in table.rows:
        columns = zip(table.columns, row, strict=True)
        cells = "".join(f"<column name={quoteattr(c)}>{escape(value)}</column>" for c, value in columns)
        lines.append(f"<item>{cells}</item>")
    return _document([*lines, "</osdata>"])


async def _branch_trace(context: Context, annex: str) -> bytes | None:
    trace = context.capabilities.branch_trace
    # After the error that "delta" gets, gdb reads the whole again.
    if trace is None or annex not in ("all", "new"):
        return None
    blocks: Sequence[Block] = await trace.branch_trace(context.general_thread())
    lines = [f'<block begin="{block.begin:#x}" end="{block.end:#x}"/>' for block in blocks]
    return _document(['<btrace version="1.0">', *lines, "</btrace>"])


async def _branch_configuration(context: Context, annex: str) -> bytes | None:
    if annex:
        return None
    if context.general_thread() not in context.session.traced:
        # gdb takes any answer for a recording that it can resume.
        raise UnsupportedError("this thread is not traced")
    size = context.session.trace_size
    return _document([f'<btrace-conf version="1.0"><bts size="{size:#x}"/></btrace-conf>'])


OBJECTS: dict[str, tuple[Callable[[Context, str], Awaitable[bytes | None]], str | None]] = {
    "features": (_features, None),
    "threads": (_threads, None),
    "exec-file": (_executable, "virtual_files"),
    "libraries": (_libraries, "libraries"),
    "osdata": (_system_data, "system_tables"),
    "btrace": (_branch_trace, "branch_trace"),
    "btrace-conf": (_branch_configuration, "branch_trace"),
}
"""Object to what makes its document (None for an annex that it lacks), and the capability it needs."""


async def transfer(context: Context, request: Transfer) -> Outcome:
    """`qXfer`: all chunks of one reading come from the document as it was at offset 0."""
    make, needed = OBJECTS.get(request.object, (None, None))
    if make is None or (needed is not None and getattr(context.capabilities, needed) is None):
        return Empty()
    key = (request.object, request.annex)
    documents = context.session.transfers
    if request.offset == 0 or key not in documents:
        made = await make(context, request.annex)
        if made is None:
            return Error(0, f"{request.object} has no {request.annex[:100]!a}")
        documents.pop(key, None)
        while len(documents) >= _MAX_DOCUMENTS:
            documents.pop(next(iter(documents)))
        documents[key] = made
    document = documents[key]
    if request.offset > len(document):
        raise RequestError(f"offset {request.offset:#x} is beyond the document")
    chunk = document[request.offset : request.offset + min(request.length, context.session.packet_size)]
    payload = fit(b"m", chunk, context.session.packet_size)
    last = request.offset + len(payload) - 1 >= len(document)
    return Raw(b"l" + payload[1:] if last else payload)


async def branch_trace(context: Context, request: BranchTraceRequest) -> Outcome:
    """`Qbtrace:bts` and `Qbtrace:off`, for the thread of `Hg`."""
    capability = context.capabilities.branch_trace
    if capability is None:
        return Empty()
    thread, traced = context.general_thread(), context.session.traced
    await capability.set_branch_trace(thread, context.session.trace_size if request.on else None)
    if request.on:
        traced.add(thread)
    else:
        traced.discard(thread)
    return Ok()


async def branch_trace_size(context: Context, request: BranchTraceSize) -> Outcome:
    """`Qbtrace-conf:bts:size`: counts from the next `Qbtrace:bts` on. 0 is the size we like best."""
    if context.capabilities.branch_trace is None:
        return Empty()
    if request.size > MAX_TRACE_SIZE:
        raise RequestError(f"more than {MAX_TRACE_SIZE:#x} bytes of branch trace")
    context.session.trace_size = request.size or DEFAULT_TRACE_SIZE
    return Ok()
