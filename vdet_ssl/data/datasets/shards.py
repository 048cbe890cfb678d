"""Tar shards as webdataset writes them: the files of one sample follow each other and share a name up to the first dot."""

import logging
import os
import tarfile
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from vdet_ssl.data.datasets.left_out import count_endings, describe_left_out
from vdet_ssl.data.storage import expand, open_binary
from vdet_ssl.errors import DataError

logger = logging.getLogger(__name__)

_THREADS = 16  # that read shards' headers at once; most of the time they wait for storage
_SCHEMA = pa.schema(
    {
        "shard": pa.string(),
        "path": pa.string(),
        "video_id": pa.string(),
        "offset": pa.int64(),
        "num_bytes": pa.int64(),
        "label": pa.int64(),
    }
)


def index_shards(pattern: str, video_extensions: Collection[str]) -> pa.Table:
    """Find the videos in tar shards; reads their headers, not the videos.

    Args:
        pattern: of paths, see `vdet_ssl.data.storage.expand`.
        video_extensions: of the members that are videos; a member `<key>.cls` beside one holds its label (an integer).
    Returns:
        pyarrow.Table with columns "shard", "path" (of the member), "video_id" (the key), "offset", "num_bytes" and,
        if there are labels, "label", in the order of the shards.
    Raises:
        DataError: a shard that is not an uncompressed tar file, two videos of one key, a label that is not an integer, or
            videos of which only some have one.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        by_shard = list(pool.map(lambda shard: _index(shard, video_extensions), expand(pattern)))
    rows = [row for videos, _ in by_shard for row in videos]
    left_out = describe_left_out(sum((endings for _, endings in by_shard), Counter()))
    if left_out:
        logger.info(f"{pattern}: {left_out}")
    table = pa.Table.from_pylist(rows, _SCHEMA)
    num_labels = len(table) - table["label"].null_count
    if 0 < num_labels < len(table):
        unlabelled = next(row for row in rows if "label" not in row)
        raise DataError(f"{unlabelled['shard']}: {unlabelled['path']} has no label (.cls), other videos have one")
    return table if num_labels else table.drop_columns("label")


def _index(shard: str, video_extensions: Collection[str]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return the rows of a shard's videos, and the endings of the files that are neither videos nor labels."""
    videos: dict[str, dict[str, Any]] = {}
    labels: dict[str, dict[str, int]] = {}
    others: list[str] = []
    try:
        with open_binary(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, name = os.path.split(member.name)
                key = os.path.join(folder, name.partition(".")[0])
                extension = os.path.splitext(name)[1].lower()
                if extension in video_extensions and not name.startswith("."):  # hidden, as macOS' "._a.mp4"
                    if key in videos:
                        other = videos[key]["path"]
                        raise DataError(
                            f"{shard}: {other} and {member.name} share a name up to the first dot: rename one"
                        )
                    where = {"offset": member.offset_data, "num_bytes": member.size}
                    videos[key] = {"shard": shard, "path": member.name, "video_id": key, **where}
                elif extension == ".cls" and (content := tar.extractfile(member)):
                    labels[key] = {"label": _label(shard, member.name, content.read())}
                elif member.isfile():
                    others.append(member.name)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{shard} is not an uncompressed tar file, or is cut off: {error}") from error
    return [{**video, **labels.get(key, {})} for key, video in videos.items()], count_endings(others)


def _label(shard: str, path: str, content: bytes) -> int:
    try:
        return int(content)
    except ValueError:
        raise DataError(f"{shard}: {path} is {content[:20]!r}, not a whole number") from None
