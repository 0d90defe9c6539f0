"""A time limit for a stranger's code, without a process of its own.

An endless loop would take the kernel with it, and everything that the reader has
computed there. So a second thread keeps the time, and raises `TookTooLong` in the thread
that runs the code, again and again if the code catches it. A single operation of PyTorch
that takes minutes can't be interrupted: the exception waits until it returns.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from companion.exercises.memory import memory_limit

# For one call; right answers take milliseconds. Where the system tells a thread's own
# time on the processor, that counts, so that a busy machine fails nobody.
SECONDS = 5.0
WALL_SECONDS = 60.0  # for what waits, such as time.sleep in a loop

_TICK = 0.1  # seconds between two looks, or two attempts to stop the code


class TookTooLong(BaseException):
    """The code ran out of time. Not an Exception, so that few handlers catch it.

    One that is caught all the same, by a bare ``except:`` in an endless loop, is raised
    again at the next line, which then lies outside of that ``try``.
    """

    def __init__(self) -> None:
        super().__init__()
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != __file__:
            frame.f_trace = _stop_here
            frame = frame.f_back
        if frame is not None:  # this runs in the thread whose time is up
            sys.settrace(_leave_new_calls_alone)


def _stop_here(frame: FrameType, event: str, _: Any) -> Any:
    if event == "line":
        raise TookTooLong
    return _stop_here


def _leave_new_calls_alone(frame: FrameType, event: str, _: Any) -> None:
    """Handlers and cleaning up may call what they need."""


def within_limits(call: Callable[[], Any]) -> Any:
    """What ``call()`` returns, if it keeps to the limits.

    Raises:
        TookTooLong: it takes longer than `SECONDS`.
        MemoryError: it asks for too much memory (`memory_limit`).
    """
    tracing = sys.gettrace()
    try:
        with memory_limit():
            _WATCH.start()
            try:
                return call()
            finally:
                _WATCH.stop()
                if sys.gettrace() is _leave_new_calls_alone:
                    sys.settrace(tracing)
    except TookTooLong:
        _WATCH.stop()  # the exception may have come while it was being stopped
        sys.settrace(tracing)
        raise


class _Watch:
    """Raises `TookTooLong` in threads whose time is up, from a thread of its own."""

    def __init__(self) -> None:
        self._started: dict[int, tuple[float, float]] = {}  # by the thread watched
        self._something_to_do = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            self._started[thread] = (time.monotonic(), _busy(thread))
            self._something_to_do.set()
            if self._thread is None or not self._thread.is_alive():  # or after a fork
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            self._started.pop(thread, None)
            if not self._started:
                self._something_to_do.clear()
            _raise_in(thread, None)  # what was raised and has not arrived

    def _run(self) -> None:
        while True:
            self._something_to_do.wait()
            time.sleep(_TICK)
            with self._lock:
                for thread, (wall, busy) in self._started.items():
                    late = time.monotonic() - wall > WALL_SECONDS
                    if late or _busy(thread) - busy > SECONDS:
                        _raise_in(thread, TookTooLong)


_WATCH = _Watch()


def _busy(thread: int) -> float:
    """The time that a thread spent on the processor, or what time it is."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic()
    return time.clock_gettime(time.pthread_getcpuclockid(thread))


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    kind = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), kind)
