"""Processes that work through tasks in order, and can be cut off: torch's DataLoader dies with its workers.

A video can make a decoder loop for ever, take all memory or crash the process.  Here that costs one result: the
process is ended and replaced, and what it was asked for comes back as a `Lost` that says why.
"""

import collections
import contextlib
import io
import itertools
import math
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from typing import Any

import cv2
import torch

from vdet_ssl.errors import ConfigError

_ALIGNMENT = 64  # bytes; of tensors in a message
# What Linux lets wait in sockets by default: about 270 tasks on the way to one process, 1,024 open files in all.
_MAX_AHEAD_OF_WORKER, _MAX_AHEAD = 64, 512


def require_linux(remedy: str) -> None:
    """Raise ConfigError where there cannot be worker processes, which are forked and answer through memfd and /proc."""
    if not sys.platform.startswith("linux"):
        raise ConfigError(f"worker processes need Linux, and this is {sys.platform}: {remedy}")


@dataclass
class Lost:
    """Takes the place of a result that a process was not able to give; `reason` is one line."""

    reason: str


class WorkerPool:
    """Apply a function to tasks in processes of their own; the results come in the order of the tasks.

    Args:
        function: task -> result.  Tensors in a result (CPU) go through shared memory that no process has to attend to.
        num_workers: processes.
        num_ahead: tasks that are being worked on, or done, before their result is asked for (64 for a process, 512 in
            all, at most).
        timeout_s: seconds that a result is waited for before its process is ended; 0: for ever.
        memory_bytes: how much more memory than at its start a process may take; 0: any.
    Raises:
        ConfigError: this is not Linux.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        num_workers: int,
        num_ahead: int,
        timeout_s: float,
        memory_bytes: int,
    ) -> None:
        require_linux("set DATALOADER.NUM_WORKERS to 0")
        self.timeout_s = timeout_s or None
        self.num_ahead = min(max(num_ahead, num_workers), _MAX_AHEAD_OF_WORKER * num_workers, _MAX_AHEAD)
        self.workers = [_Worker(function, memory_bytes) for _ in range(num_workers)]

    def imap(self, tasks: Iterable[Any]) -> Generator[tuple[Any, Any]]:
        """Yield (task, result) for each task; a result that its process did not give is a `Lost`.

        Raises:
            RuntimeError: the function raised; with its traceback.
        """
        waiting: collections.deque[_Worker] = collections.deque()
        for worker, task in zip(itertools.cycle(self.workers), tasks, strict=False):
            worker.submit(task)
            waiting.append(worker)
            if len(waiting) > self.num_ahead:
                yield waiting.popleft().result(self.timeout_s)
        while waiting:
            yield waiting.popleft().result(self.timeout_s)

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        for worker in self.workers:
            worker.end()


class _Worker:
    """One process, and the tasks that it has been sent and not answered, oldest first."""

    def __init__(self, function: Callable[[Any], Any], memory_bytes: int) -> None:
        self.function, self.memory_bytes = function, memory_bytes
        self.tasks: collections.deque[Any] = collections.deque()
        self._start()

    def _start(self) -> None:
        # Forked: started in no time and with the parent's data sets in shared pages, also in processes that were
        # themselves spawned (as detectron2's launch does), where Python's default would import everything again.
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, self.connection, self.function, self.memory_bytes)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        for task in self.tasks:
            self._send(task)

    def submit(self, task: Any) -> None:
        self.tasks.append(task)
        self._send(task)

    def _send(self, task: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # the process died; `result` sees to it
            self.connection.send(task)

    def result(self, timeout_s: float | None) -> tuple[Any, Any]:
        """Return the oldest task and its result; all older ones are answered, so the process is at work on it."""
        error = None
        try:
            if self.connection.poll(timeout_s):
                result, error = _receive(self.connection)
            else:
                result = Lost(f"not done after {timeout_s:g} s (it hangs, or the machine is overloaded): cut off")
        except (EOFError, ConnectionError):
            self.process.join()
            result = Lost(f"the process that was reading it died ({_exit_cause(self.process.exitcode)})")
        if error is not None:
            raise RuntimeError(f"A data worker failed:\n\n{error}")
        task = self.tasks.popleft()
        if isinstance(result, Lost):
            self.end()
            self._start()
        return task, result

    def end(self) -> None:
        self.process.kill()
        self.process.join(timeout=1.0)  # one that waits for a dead network drive cannot even be killed
        self.connection.close()


def _exit_cause(exitcode: int | None) -> str:
    if exitcode is None:
        return "exit code not known"
    return signal.Signals(-exitcode).name if exitcode < 0 else f"exit code {exitcode}"


def _serve(connection: Connection, parents_end: Connection, function: Callable[[Any], Any], memory_bytes: int) -> None:
    """Answer the tasks that come, until the parent ends."""
    parents_end.close()  # this process' copy: as long as one is open the connection does not end with the parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it, and ends its workers
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    if memory_bytes:
        _limit_memory(memory_bytes)
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    while parent.sentinel not in wait([connection, parent.sentinel]):
        try:
            result, error = function(connection.recv()), None
        except Exception:  # noqa: BLE001 - whatever it is, it is raised in the parent
            result, error = None, traceback.format_exc()
        _send(connection, (result, error))


def _limit_memory(num_bytes: int) -> None:
    import resource  # not on every system

    with open("/proc/self/statm") as statm:
        in_use = int(statm.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = in_use + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


class _Pickler(pickle.Pickler):
    """Keeps the contents of tensors out of the pickle."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Tensor):
            return torch.from_numpy, (obj.numpy(),)
        return NotImplemented


def _send(connection: Connection, result: Any) -> None:
    """Write a result into a piece of memory without a name and hand that over: one copy, and nothing to clean up."""
    stream = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    _Pickler(stream, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append).dump(result)
    parts = [stream.getbuffer(), *(buffer.raw() for buffer in buffers)]
    file = os.memfd_create("sample")
    for part in parts:
        os.lseek(file, math.ceil(os.lseek(file, 0, os.SEEK_CUR) / _ALIGNMENT) * _ALIGNMENT, os.SEEK_SET)
        written = 0
        while written < len(part):
            written += os.write(file, part[written:])
    connection.send([len(part) for part in parts])
    reduction.send_handle(connection, file, None)
    os.close(file)


def _receive(connection: Connection) -> Any:
    sizes = connection.recv()
    file = reduction.recv_handle(connection)
    starts = list(itertools.accumulate((math.ceil(n / _ALIGNMENT) * _ALIGNMENT for n in sizes), initial=0))
    num_bytes = starts[-2] + sizes[-1]
    memory = torch.from_file(f"/proc/self/fd/{file}", shared=True, size=num_bytes, dtype=torch.uint8).numpy()
    os.close(file)
    head, *buffers = (memory[start : start + n] for start, n in zip(starts, sizes, strict=False))
    return pickle.loads(head.data, buffers=buffers)
