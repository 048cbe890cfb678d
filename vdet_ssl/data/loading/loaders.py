"""The loaders of training and evaluation: `list[dict]` batches of what a mapper makes of records."""

import contextlib
import itertools
import math
import os
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm

from vdet_ssl.data.loading.broken_videos import BrokenVideos
from vdet_ssl.data.loading.shuffled_stream import ShuffledStream
from vdet_ssl.data.loading.workers import Lost, WorkerPool
from vdet_ssl.data.records import Mapper, Record, Records
from vdet_ssl.data.storage import is_remote, read_bytes
from vdet_ssl.errors import VideoError

Sample = dict[str, Any]
Task = tuple[int, int]  # epoch, index of the record


class Samples:
    """A task (epoch, index) -> the mapper's sample, or the VideoError that it raised.

    A sample follows from (seed, epoch, index) alone, wherever it is made.

    Args:
        records: of the data set.
        mapper: makes a sample of each.
        seed: of the generators.
    """

    def __init__(self, records: Records, mapper: Mapper, *, seed: int) -> None:
        self.records, self.mapper, self.seed = records, mapper, seed

    def __call__(self, task: Task) -> Sample | VideoError:
        epoch, index = task
        record = self.records[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        try:
            with on_this_machine(record) as local_record:
                sample = self.mapper(local_record, rng)
        except VideoError as error:
            return VideoError(record["file_name"], error.reason, index)
        except MemoryError:
            return VideoError(record["file_name"], "takes too much memory (DATALOADER.DECODE_MEMORY_GB)", index)
        return {**sample, "file_name": record["file_name"]}

    def map(
        self, tasks: Iterable[Task], *, num_workers: int, num_ahead: int, timeout_s: float, memory_bytes: int
    ) -> Generator[tuple[Task, Sample | VideoError]]:
        """Yield (task, sample or VideoError) in the order of the tasks; see `WorkerPool` for the arguments.

        Without workers neither memory nor a decoder that does not return can be cut off.
        """
        if num_workers == 0:
            yield from ((task, self(task)) for task in tasks)
            return
        pool = WorkerPool(
            self, num_workers=num_workers, num_ahead=num_ahead, timeout_s=timeout_s, memory_bytes=memory_bytes
        )
        with contextlib.closing(pool):
            for task, result in pool.imap(tasks):
                if isinstance(result, Lost):
                    result = VideoError(self.records[task[1]]["file_name"], result.reason, task[1])
                yield task, result


@contextlib.contextmanager
def on_this_machine(record: Record) -> Iterator[Record]:
    """The record, with the video in memory under a name that decoders can open if it is in a tar file or elsewhere."""
    if "shard" in record:
        where = {"path": record["shard"], "offset": record["offset"], "num_bytes": record["num_bytes"]}
    elif is_remote(record["file_name"]):
        where = {"path": record["file_name"]}
    else:
        yield record
        return
    with _nameable_file() as (file, path):
        try:
            file.write(read_bytes(**where))
        except OSError as error:
            raise VideoError(record["file_name"], f"cannot be read: {error}") from error
        file.flush()
        yield {**record, "file_name": path}


@contextlib.contextmanager
def _nameable_file() -> Iterator[tuple[BinaryIO, str]]:
    """An empty file and the path under which decoders can open it: in memory on Linux, a temporary one elsewhere."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("video"), "w+b") as file:
            yield file, f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "video"), "w+b") as file:
            yield file, file.name


class TrainLoader:
    """Endless batches of one process, `list[dict]`; see `ShuffledStream` for the order.

    A sample whose video is broken is left out, and the next one of the process' order takes its place.

    Args:
        samples: what it is made of.
        batch_size: samples of a batch of this process.
        broken: counts the broken videos.
        workers: arguments of `Samples.map`.
    """

    def __init__(self, samples: Samples, *, batch_size: int, broken: BrokenVideos, workers: Mapping[str, Any]) -> None:
        self.samples, self.batch_size, self.broken, self.workers = samples, batch_size, broken, workers
        self._stream = ShuffledStream(
            size=len(samples.records), seed=samples.seed, rank=comm.get_rank(), world_size=comm.get_world_size()
        )
        self._batches_per_epoch = math.ceil(len(samples.records) / (batch_size * comm.get_world_size()))
        self._position = 0  # tasks of this process' order that are done with
        self._num_batches = 0

    def __iter__(self) -> Generator[list[Sample]]:
        with contextlib.closing(self.samples.map(self._stream.tasks(self._position), **self.workers)) as results:
            while True:
                yield self._next_batch(results)

    def _next_batch(self, results: Iterator[tuple[Task, Sample | VideoError]]) -> list[Sample]:
        batch: list[Sample] = []
        while len(batch) < self.batch_size:
            (epoch, _), sample = next(results)
            self._position += 1
            if isinstance(sample, VideoError):
                self.broken.add(sample, epoch)
            else:
                batch.append(sample)
        self._num_batches += 1
        if self._num_batches % self._batches_per_epoch == 0:  # the same batch on all processes, as it has to be
            self.broken.gather()
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return where this process is in its order; processes differ by the broken videos they met."""
        state = {"position": self._position, "num_batches": self._num_batches}
        return {**state, "broken": self.broken.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` was called, before the next `iter`."""
        self._position, self._num_batches = state["position"], state["num_batches"]
        self.broken.load_state_dict(state["broken"])


class EvaluationLoader:
    """The whole data set once, in order: each process has a contiguous slice, as with detectron2's InferenceSampler.

    Args:
        samples: what it is made of.
        batch_size: samples of a batch of this process.
        workers: arguments of `Samples.map`.
    """

    def __init__(self, samples: Samples, *, batch_size: int, workers: Mapping[str, Any]) -> None:
        self.samples, self.batch_size, self.workers = samples, batch_size, workers
        self._indices = list(InferenceSampler(len(samples.records)))

    def __len__(self) -> int:
        return math.ceil(len(self._indices) / self.batch_size)

    def __iter__(self) -> Generator[list[Sample]]:
        """Yield batches, the last one as large as what is left.

        Raises:
            VideoError: a video is broken; in evaluation none is left out.
        """
        tasks = [(0, index) for index in self._indices]
        with contextlib.closing(self.samples.map(tasks, **self.workers)) as results:
            for _ in range(len(self)):
                yield [_whole(sample) for _, sample in itertools.islice(results, self.batch_size)]


def _whole(sample: Sample | VideoError) -> Sample:
    """Return a sample; raise it if it is a VideoError."""
    if isinstance(sample, VideoError):
        raise sample
    return sample
