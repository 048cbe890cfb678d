"""Data sets that are lists of videos: csv and txt lists, parquet manifests, folders and tar shards."""

import glob
import logging
import math
import os
import re
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager
from numpy.typing import NDArray

from vdet_ssl.data.datasets.left_out import count_endings, describe_left_out
from vdet_ssl.data.datasets.shards import index_shards
from vdet_ssl.data.records import Record
from vdet_ssl.data.storage import join, open_binary, read_bytes
from vdet_ssl.data.video.info import VIDEO_EXTENSIONS, is_video
from vdet_ssl.errors import DataError

LIST_EXTENSIONS = (".csv", ".txt", ".parquet")
_STRINGS = ("path", "video_id", "shard")
_NUMBERS = {"label": torch.int64, "duration_s": torch.float64, "offset": torch.int64, "num_bytes": torch.int64}
_TYPES = {name: pa.string() for name in _STRINGS} | {
    name: pa.float64() if name == "duration_s" else pa.int64() for name in _NUMBERS
}
_HEADERS = ("path", "path,label", "pathlabel")  # without quotes and spaces

logger = logging.getLogger(__name__)


class _Strings:
    """Strings in two tensors: worker processes share these, where Python objects would be copied into each."""

    def __init__(self, strings: pa.ChunkedArray) -> None:
        flat = strings.cast(pa.large_string()).combine_chunks()
        _, offsets, content = flat.buffers()
        self._offsets = torch.tensor(np.frombuffer(offsets, np.int64, len(flat) + 1, 8 * flat.offset))
        self._bytes = torch.tensor(np.frombuffer(content, np.uint8))

    def __getitem__(self, index: int) -> str:
        start, end = self._offsets[index : index + 2].tolist()
        return self._bytes[start:end].numpy().tobytes().decode()


class VideoList:
    """Records of videos, made when they are asked for; a million of them take some 100 MB, whatever the workers.

    A record is {"file_name": str, "video_id": str} and, where the list says so, "label": int, "duration_s": float, and
    for a video inside a tar file "shard": its path, "offset" and "num_bytes".

    Args:
        table: pyarrow.Table with the column "path" and any of those named above; "video_id" is the path without
            extension where there is no such column.
        folder: what paths (of videos, or of shards where there are any) are relative to.
    """

    def __init__(self, table: pa.Table, folder: str = "") -> None:
        self._folder = folder
        self._length = len(table)
        columns = [name for name in table.column_names if name in (*_STRINGS, *_NUMBERS)]
        self._strings = {name: _Strings(table[name]) for name in columns if name in _STRINGS}
        self._numbers = {
            name: torch.tensor(table[name].to_numpy(), dtype=_NUMBERS[name]) for name in columns if name in _NUMBERS
        }

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < self._length:
            raise IndexError(f"record {index} of {self._length}")
        record: Record = {name: strings[index] for name, strings in self._strings.items()}
        record |= {name: numbers[index].item() for name, numbers in self._numbers.items()}
        if math.isnan(record.get("duration_s", 0.0)):
            del record["duration_s"]
        path = record.pop("path")
        record.setdefault("video_id", os.path.splitext(path)[0])
        if "shard" in record:
            record["shard"] = join(self._folder, record["shard"])
            return {"file_name": f"{record['shard']}/{path}", **record}
        return {"file_name": join(self._folder, path), **record}


def load_videos(path: str) -> VideoList:
    """Return the VideoList of a list (.csv, .txt), a manifest (.parquet), a folder, or tar shards (folder or pattern).

    A list has one video a line, `path`, `path,label` or `path label` (label: an integer), below an optional header
    `path` or `path,label`; paths are relative to the list's folder.  A manifest (datasets/prepare_videos.py,
    datasets/prepare_shards.py) has the columns that `VideoList` names; its rows with an "error" are left out.  A folder
    stands for the *.tar in it or, if there are none, for all the videos below it.

    Raises:
        DataError: a row that is not such a row (with file and line), or no video at all.
    """
    if path.endswith(".parquet"):
        videos = VideoList(_read_manifest(path), os.path.dirname(path))
    elif path.endswith((".csv", ".txt")):
        videos = VideoList(_read_list(path), os.path.dirname(path))
    else:
        videos = _load_folder_or_shards(path)
    if len(videos) == 0:
        raise DataError(f"{path}: there is no video in it")
    pa.default_memory_pool().release_unused()  # several times what is kept, and every worker would inherit it
    return videos


def _read_manifest(path: str) -> pa.Table:
    with open_binary(path) as file:
        try:
            table = pq.ParquetFile(file).read()
        except pa.ArrowException as error:
            raise DataError(f"{path} is not a parquet file, or is cut off: {error}") from error
    columns = set(table.column_names)
    missing = ({"path", "offset", "num_bytes"} if "shard" in columns else {"path"}) - columns
    if missing:
        raise DataError(f"{path} has no column {sorted(missing)}; its columns are {table.column_names}")
    if "error" in columns:
        num_rows = len(table)
        table = table.filter(pc.equal(pc.fill_null(table["error"].cast(pa.string()), ""), ""))
        logger.info(f"{path}: {num_rows - len(table)} of {num_rows} videos are left out as broken")
        if num_rows and not len(table):
            raise DataError(f'{path}: all {num_rows} videos are broken (column "error")')
    for name in columns & {*_STRINGS, *_NUMBERS}:
        table = table.set_column(table.column_names.index(name), name, _checked_column(path, name, table[name]))
    return table


def _checked_column(path: str, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column in its type; DataError where it has other values."""
    try:
        column = column.cast(_TYPES[name])
    except pa.ArrowException as error:
        raise DataError(f'{path}: the column "{name}" has to be {_TYPES[name]}: {error}') from error
    if name != "duration_s" and column.null_count:
        raise DataError(f'{path}: the column "{name}" is empty in {column.null_count} rows')
    if name != "label" and name in _NUMBERS:
        wrong = pc.less(column, 0)
        if name == "duration_s":
            wrong = pc.or_(wrong, pc.is_inf(column))
        where = pc.index(wrong, True).as_py()
        if where >= 0:
            raise DataError(f'{path}: the column "{name}" is {column[where].as_py()} in row {where}')
    return column


def _read_list(path: str) -> pa.Table:
    lines = pc.utf8_trim_whitespace(pc.split_pattern(pa.array([_read_text(path)], pa.large_string()), "\n").values)
    numbers = np.flatnonzero(pc.not_equal(lines, ""))
    if len(numbers) > 0 and re.sub(r"[\s\"]*(,?)[\s\"]*", r"\1", lines[numbers[0]].as_py().lower()) in _HEADERS:
        numbers = numbers[1:]
    rows = lines.take(pa.array(numbers))
    if len(rows) == 0:
        return pa.table({"path": rows})
    with_comma = "," in rows[0].as_py()
    labelled = pc.match_substring_regex(rows, r".,\s*-?\d{1,18}$" if with_comma else r"\s-?\d{1,18}$")
    if not labelled[0].as_py():
        quoted = pc.match_substring_regex(rows, r'^"([^"]|"")*"$')
        ends_in_label = pc.match_substring_regex(rows, r"[\s,]-?\d+$")
        wrong = pc.and_not(pc.or_(ends_in_label, pc.match_substring(rows, ",")), quoted)
        _refuse(path, numbers, rows, wrong, "a path alone")
        return pa.table({"path": _unquoted(rows)})
    _refuse(path, numbers, rows, pc.invert(labelled), "a path and its label, a whole number")
    if with_comma:
        parts = pc.split_pattern(rows, ",", max_splits=1, reverse=True)
    else:
        parts = pc.utf8_split_whitespace(rows, max_splits=1, reverse=True)
    paths = _unquoted(pc.utf8_trim_whitespace(pc.list_element(parts, 0)))
    return pa.table({"path": paths, "label": pc.utf8_trim_whitespace(pc.list_element(parts, 1)).cast(pa.int64())})


def _read_text(path: str) -> str:
    content = read_bytes(path)
    wrong = content.find(b"\0")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong >= 0:
        line = content.count(b"\n", 0, wrong) + 1
        raise DataError(f"{path}:{line}: byte {content[wrong]:#04x} is not UTF-8 text; write the list as UTF-8")
    return text


def _unquoted(paths: pa.Array) -> pa.Array:
    """Take the quotes of csv off paths that have them."""
    quoted = pc.and_(pc.starts_with(paths, '"'), pc.ends_with(paths, '"'))
    if not pc.any(quoted).as_py():
        return paths
    inner = pc.replace_substring(pc.utf8_slice_codeunits(paths, 1, -1), '""', '"')
    return pc.if_else(quoted, inner, paths)


def _refuse(path: str, numbers: NDArray[np.int64], rows: pa.Array, wrong: pa.Array, expected: str) -> None:
    """Raise a DataError that names the first wrong row, if there is one."""
    where = pc.index(wrong, True).as_py()
    if where == 0:
        expected = "a path, or a path and its label, a whole number"
    if where >= 0:
        raise DataError(
            f"{path}:{numbers[where] + 1}: {rows[where].as_py()!r} has to be {expected}, as in all rows; a path with a "
            "comma goes in quotes"
        )


def _load_folder_or_shards(path: str) -> VideoList:
    if path.endswith(".tar"):
        return VideoList(index_shards(path, VIDEO_EXTENSIONS))
    if not os.path.isdir(path):
        raise DataError(
            f"{path} is not a registered data set, a list ({', '.join(LIST_EXTENSIONS)}), a folder or *.tar shards"
        )
    if glob.glob(os.path.join(glob.escape(path), "*.tar")):
        return VideoList(index_shards(os.path.join(glob.escape(path), "*.tar"), VIDEO_EXTENSIONS))
    files = list(_files_below(path))
    videos = sorted(os.path.relpath(file, path) for file in files if is_video(file))
    left_out = describe_left_out(count_endings(file for file in files if not is_video(file)))
    if left_out and not videos:
        raise DataError(f"{path}: there is no video in it; {left_out}")
    if left_out:
        logger.info(f"{path}: {left_out}")
    for video in videos:
        if not _is_utf8(video):
            raise DataError(f"{path}: the file name {os.fsencode(video)!r} is not UTF-8; rename it")
    return VideoList(pa.table({"path": pa.array(videos, pa.string())}), path)


def _files_below(path: str) -> Iterator[str]:
    """Yield all files, also those in folders that are links; each folder once."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(path, followlinks=True, onerror=_raise):
        if os.path.realpath(folder) in seen:
            subfolders.clear()
            continue
        seen.add(os.path.realpath(folder))
        yield from (os.path.join(folder, name) for name in names)


def _is_utf8(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def _raise(error: OSError) -> NoReturn:
    raise error


def register_videos(name: str, path: str) -> None:
    """Register the videos of `path` (see `load_videos`) as data set `name`, with kind "videos"."""
    DatasetCatalog.register(name, lambda: load_videos(path))
    MetadataCatalog.get(name).set(kind="videos")


def register_builtin_videos(name: str, path: str) -> None:
    """As `register_videos`; if there is a manifest train.parquet beside the list train.csv, it is read instead."""
    manifest = os.path.splitext(path)[0] + ".parquet"
    DatasetCatalog.register(name, lambda: load_videos(manifest if PathManager.exists(manifest) else path))
    MetadataCatalog.get(name).set(kind="videos")
