"""Pickles that anybody may have written: numpy arrays in plain containers are read, and no code in them is run."""

import collections
import os
import pickle
import pickletools
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vdet_ssl.errors import DataError


class _Never:
    """Stands for numpy.ndarray, which pickles name; called, it would make arrays of any size."""


def _empty_array(*_: Any) -> NDArray:
    """Stand for numpy's `_reconstruct`: an array whose shape and content follow, and have to fit each other."""
    return np.empty(0)


_NUMPY_GLOBALS = {
    "ndarray": _Never,
    "dtype": np.dtype,
    "_reconstruct": _empty_array,
    "_frombuffer": np.empty(0).__reduce_ex__(5)[0],
    "scalar": np.float64(0).__reduce__()[0],
}


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """Return what a pickle holds: numbers, strings, numpy arrays, and dicts, lists, tuples and sets of them.

    Text that Python 2 wrote is read as latin-1, which gives any bytes back.  What is made takes no more memory than some
    times the size of the file.

    Raises:
        DataError: the file is not a pickle, or holds anything else, which could run any code.
        OSError: there is no such file.
    """
    with open(path, "rb") as file:
        try:
            _check_memo(file, os.path.getsize(path))
            file.seek(0)
            return _ArrayUnpickler(file, encoding="latin1").load()
        except Exception as error:  # noqa: BLE001 - what a damaged pickle does, and raises, is anything
            raise DataError(f"{path} is not a pickle of numpy arrays in plain containers: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]


def _check_memo(file: BinaryIO, num_bytes: int) -> None:
    """Raise UnpicklingError where a pickle numbers its objects higher than it has bytes: such a table would be made."""
    for opcode, argument, _ in pickletools.genops(file):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > num_bytes:
            raise pickle.UnpicklingError(f"it has an object {argument}, and {num_bytes} bytes")


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
