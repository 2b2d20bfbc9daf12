"""Who may touch the machine: its thread while a plan runs, else whoever calls.

A request that comes while the machine thread runs is queued and kicks the core; the thread serves it
between two ticks and runs on. Without a running plan it is carried out at once, by the caller. Either
way requests never overlap each other or the guest.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from hv.errors import HvError

T = TypeVar("T")
Job = Callable[[], None]


class Owner:
    """The machine thread and the queue in front of it. `kick` makes a running plan look at it soon."""

    def __init__(self, kick: Callable[[], None]) -> None:
        self.lock = threading.Condition(threading.RLock())
        self.busy = False
        """Whether the machine thread owns the machine."""
        self._kick = kick
        self._queue: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._job: Job | None = None
        self._closing = False
        self._woken = False  # since the last wait: whoever wakes may come just before it
        self._thread: threading.Thread | None = None

    # --- any thread --------------------------------------------------------------------------------

    def submit(self, request: Callable[[], T]) -> Future[T]:
        """Have `request` carried out by the owner between two ticks; now, if nothing runs."""
        future: Future[T] = Future()
        with self.lock:
            if self.busy:
                self._queue.append((request, future))
                self.wake()
            else:
                _carry_out(request, future)
        return future

    def call(self, request: Callable[[], T]) -> T:
        """`submit` and wait for the result."""
        return self.submit(request).result()

    def wake(self) -> None:
        """Make the machine thread look around: out of the guest, or out of an idle wait."""
        with self.lock:
            self._woken = True
            self._kick()
            self.lock.notify_all()

    def start(self, job: Job) -> None:
        """Let the machine thread carry out `job`, which ends with `finish`. The machine must be free."""
        with self.lock:
            if self.busy or self._closing:
                raise HvError("the machine runs already")
            self.busy = True
            self._job = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="machine", daemon=True)
                self._thread.start()
            self.lock.notify_all()

    def close(self) -> None:
        """Let the thread end after its present job, and wait for it."""
        with self.lock:
            self._closing = True
            self.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # --- the machine thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self.lock:
                while self._job is None:
                    if self._closing:
                        return
                    self.lock.wait()
                job, self._job = self._job, None
            job()

    def serve(self) -> None:
        """Carry out what is queued."""
        while True:
            with self.lock:
                if not self._queue:
                    return
                request, future = self._queue.popleft()
            _carry_out(request, future)

    def wait(self, timeout_s: float | None) -> bool:
        """Sleep until `wake` or the timeout, not at all if there was a `wake` since the last time.

        False after the timeout.
        """
        with self.lock:
            woken = self._woken or self.lock.wait(timeout_s)
            self._woken = False
            return woken

    def finish(self) -> None:
        """The job is over: what is still queued is served, and the machine is free."""
        while True:
            self.serve()
            with self.lock:
                if not self._queue:
                    self.busy = False
                    return


def _carry_out(request: Callable[[], T], future: Future[T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = request()
    except BaseException as error:  # noqa: BLE001  whoever waits for the result gets it, and decides
        future.set_exception(error)
    else:
        future.set_result(result)
