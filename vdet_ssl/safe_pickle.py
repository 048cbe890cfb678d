"""Pickles that anybody may have written: numpy arrays in plain containers are read, and no code in them is run."""

import collections
import os
import pickle
from typing import Any

import numpy as np

from vdet_ssl.errors import DataError

_NUMPY_GLOBALS = {
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "_reconstruct": np.empty(0).__reduce__()[0],
    "_frombuffer": np.empty(0).__reduce_ex__(5)[0],
    "scalar": np.float64(0).__reduce__()[0],
}


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """Return what a pickle holds: numbers, strings, numpy arrays, and dicts, lists, tuples and sets of them.

    Text that Python 2 wrote is read as latin-1, which gives any bytes back.

    Raises:
        DataError: the file is not a pickle, or holds anything else, which could run any code.
        OSError: there is no such file.
    """
    with open(path, "rb") as file:
        try:
            return _ArrayUnpickler(file, encoding="latin1").load()
        except Exception as error:  # noqa: BLE001 - what a damaged pickle does, and raises, is anything
            raise DataError(f"{path} is not a pickle of numpy arrays in plain containers: {error}") from None


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in _NUMPY_GLOBALS:
            return _NUMPY_GLOBALS[name]
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("_codecs", "encode"):  # how protocols below 3 write bytes
            return lambda text, _: text.encode("latin1")
        if (module, name) == ("__builtin__", "bytes"):  # and no bytes
            return lambda: b""
        raise pickle.UnpicklingError(f"it holds {module}.{name}, and only numpy arrays are read")
