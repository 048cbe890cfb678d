"""Manifests: what is known of each video of a collection, in a parquet file that DATASETS.TRAIN and TEST take."""

import hashlib
import os
from collections.abc import Iterable
from os import PathLike
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vdet_ssl.data.video.info import require_file
from vdet_ssl.data.video.pyav_reader import PyAVReader
from vdet_ssl.errors import VideoError
from vdet_ssl.files import atomic_write

SCHEMA = pa.schema(
    {
        "path": pa.string(),  # relative to the manifest's folder
        "video_id": pa.string(),
        "label": pa.int64(),  # where the list of videos has labels
        "duration_s": pa.float64(),  # all that follow are of what was decoded, and null where that failed
        "fps": pa.float64(),
        "num_frames": pa.int64(),
        "width": pa.int64(),
        "height": pa.int64(),
        "codec": pa.string(),
        "file_bytes": pa.int64(),
        "checksum": pa.string(),  # SHA-256 of the file, hexadecimal
        "error": pa.string(),  # null: every frame can be decoded
    }
)


def examine(path: str | PathLike[str], *, timeout_s: float) -> dict[str, Any]:
    """Decode a whole video and return what a manifest says of it.

    Args:
        path: of the file.
        timeout_s: seconds after which it is given up; 0: never.
    Returns:
        dict with the columns of `SCHEMA` from "duration_s" on; "error" is None or the reason of the VideoError.
    """
    row: dict[str, Any] = {"error": None}
    try:
        require_file(path)
        row |= {"file_bytes": os.path.getsize(path), "checksum": _checksum(path)}
        with PyAVReader(path, timeout_s) as video:
            info = video.measure()
    except VideoError as error:
        return row | {"error": error.reason}
    except OSError as error:
        return row | {"error": error.strerror}
    names = ("duration_s", "fps", "num_frames", "width", "height", "codec")
    return row | {name: getattr(info, name) for name in names}


def write_manifest(rows: Iterable[dict[str, Any]], path: str | PathLike[str]) -> None:
    """Write dicts with (some of) the columns of `SCHEMA` to a parquet file, all at once; "label" if all have one."""
    table = pa.Table.from_pylist(list(rows), SCHEMA)
    if table["label"].null_count:
        table = table.drop_columns("label")
    with atomic_write(path, "wb") as file:
        pq.write_table(table, file)


def _checksum(path: str | PathLike[str]) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
