"""What data sets, mappers and loaders pass on to each other."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

Record = dict[str, Any]
"""What a data set says of one video ("videos") or of one key frame ("key_frames"), nothing decoded yet."""

Mapper = Callable[[Record, np.random.Generator], dict[str, Any]]
"""Makes a sample of a record; everything random comes from the generator."""


class Records(Protocol):
    """The records of a data set, made when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...
