#!/usr/bin/env python3
"""Write down where the videos in tar shards are, once, so that training need not read the shards' headers at its start.

    datasets/prepare_shards.py 'shards/{000..127}.tar' shards/train.parquet

DATASETS.TRAIN then takes the parquet file.  Shards are as webdataset's: `<key>.mp4` (or another video extension) and,
where there are labels, `<key>.cls` in uncompressed tar files, here or at any URL that fsspec knows.
"""

import argparse
import os

from vdet_ssl.errors import DataError, one_line_errors
from vdet_ssl.files import atomic_write

# Heavy imports stand where they are used: --help takes no time.


def write_index(pattern: str, output: str) -> int:
    """Write the index of shards to a parquet file, with the shards' paths relative to its folder; return its length."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from vdet_ssl.data.datasets.shards import index_shards
    from vdet_ssl.data.storage import is_remote
    from vdet_ssl.data.video import VIDEO_EXTENSIONS

    table = index_shards(pattern, VIDEO_EXTENSIONS)
    if len(table) == 0:
        raise DataError(f"{pattern}: there is no video in it")
    folder = os.path.dirname(os.path.abspath(output))
    shards = [path if is_remote(path) else os.path.relpath(path, folder) for path in table["shard"].to_pylist()]
    table = table.set_column(table.column_names.index("shard"), "shard", pa.array(shards, pa.string()))
    with atomic_write(output, "wb") as file:
        pq.write_table(table, file)
    return len(table)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="pattern of tar files: {000..127} counts, * ? [...] are looked up")
    parser.add_argument("output", help="parquet file to write")
    return parser


if __name__ == "__main__":
    args = parser().parse_args()
    with one_line_errors():
        print(f"{write_index(args.shards, args.output)} videos in {args.output}")
