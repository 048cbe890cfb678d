"""The order in which training visits its videos: a function of (seed, epoch) alone."""

import itertools
from collections.abc import Iterator

import numpy as np


class ShuffledStream:
    """The endless order of training: every epoch visits every index once, in an order of its own.

    Position p of the stream is place p % size of epoch p // size; process r of w has the positions r, r + w, r + 2w...
    So w processes that take b each hold the same samples as one process that takes w * b, and any position can be
    gone to at once.

    Args:
        size: number of indices.
        seed: of the orders.
        rank, world_size: this process, and how many there are.
    """

    def __init__(self, *, size: int, seed: int, rank: int, world_size: int) -> None:
        self.size, self.seed, self.rank, self.world_size = size, seed, rank, world_size

    def tasks(self, start: int) -> Iterator[tuple[int, int]]:
        """Yield (epoch, index) of this process' `start`-th position and of all that follow."""
        order_of, order = -1, np.zeros(0, np.int64)
        for step in itertools.count(start):
            epoch, place = divmod(step * self.world_size + self.rank, self.size)
            if epoch != order_of:
                order_of, order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.size)
            yield epoch, int(order[place])
