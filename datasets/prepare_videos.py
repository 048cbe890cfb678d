#!/usr/bin/env python3
"""Check every video of a collection once, before training; write a manifest and, if wanted, encode them to decode faster.

    datasets/prepare_videos.py videos train.parquet                       # a folder, or a list (.csv, .txt)
    datasets/prepare_videos.py train.csv fast/train.parquet --transcode bframes --short-side 320

DATASETS.TRAIN then takes the manifest; videos that cannot be decoded completely are in it with the reason, and are not
trained on.  New files go beside the manifest, under the paths of the old ones.

It can be stopped and started again at any time: what is done is noted in `<manifest>.parts`, and done again only where
the file has changed since, or --retry-broken asks for it.  On several machines that share this folder, give each its
part of the videos, --shard 0/4 to 3/4; the last one to end writes the manifest.
"""

import argparse
import contextlib
import functools
import json
import logging
import os
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vdet_ssl.errors import ConfigError, DataError, VideoError, one_line_errors

# Heavy imports stand where they are used: --help takes no time.

Row = dict[str, Any]  # of a manifest, and what the table at the end shows
_PATHS_SHOWN = 5  # of broken videos, for each reason; all are in the manifest


def prepare(record: Row, options: argparse.Namespace) -> Row:
    """Check one video and, if so wanted, transcode it; return its row of the manifest and what the table at the end shows.

    Args:
        record: of a VideoList, with "target": where the transcoded video goes, or None.
        options: the command line.
    """
    from vdet_ssl.data.datasets.manifest import examine
    from vdet_ssl.data.video.transcode import DISK_IS_FULL, transcode

    source, target = record["file_name"], record["target"]
    row = examine(source, timeout_s=options.timeout)
    if row["error"] or target is None:
        return row
    try:
        before = {"source_bytes": row["file_bytes"], "source_decode_s": decode_s(source, row)}
        settings = {"profile": options.transcode, "short_side": options.short_side, "crf": options.crf}
        transcode(source, target, **settings, timeout_s=options.timeout)
        after = examine(target, timeout_s=options.timeout) | before
        if not after["error"] and after["num_frames"] != row["num_frames"]:
            after["error"] = f"transcoding gave {after['num_frames']} of {row['num_frames']} frames"
        return after if after["error"] else after | {"decode_s": decode_s(target, after)}
    except VideoError as error:
        return row | {"error": error.reason}
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            return {"stop": f"{target}: {error.strerror}"}
        return row | {"error": f"{target}: {error.strerror}"}
    except MemoryError:
        return row | {"error": "takes too much memory (--memory-gb)"}


def decode_s(path: str | Path, row: Row) -> float:
    """Return the CPU time, in seconds, that it takes to decode four clips of 8 x 8 spread over the video, none outside of one that is long enough."""
    import numpy as np

    from vdet_ssl.data.video import decode_clips

    starts_s = np.linspace(0, max(row["duration_s"] - 64 / row["fps"], 0), 4)
    clips_s = [start_s + np.arange(0, 64, 8) / row["fps"] for start_s in starts_s]
    begin = time.process_time()
    decode_clips(path, clips_s, pixel_format="yuv")
    return time.process_time() - begin


def list_videos(options: argparse.Namespace) -> list[Row]:
    """Return the records of all videos, each with "path" (in the manifest) and "target" (None: not transcoded)."""
    from vdet_ssl.data.datasets.videos import load_videos
    from vdet_ssl.data.storage import is_remote

    records: list[Row] = [dict(record) for record in load_videos(str(options.videos))]
    if "shard" in records[0] or is_remote(records[0]["file_name"]):
        raise DataError(
            f"{options.videos}: only files on this machine can be prepared, not those in tar files or at a URL"
        )
    folder = options.manifest.parent.absolute()
    if options.transcode and folder.resolve().is_relative_to(options.videos.resolve()):
        raise ConfigError(
            f"{folder} is in {options.videos}: the new files would be videos of it; write the manifest elsewhere"
        )
    files = [os.path.abspath(record["file_name"]) for record in records]
    root = os.path.commonpath([os.path.dirname(file) for file in files])
    for record, file in zip(records, files, strict=True):
        target = folder / Path(os.path.relpath(file, root)).with_suffix(".mp4") if options.transcode else None
        record |= {"target": target, "path": os.path.relpath(target or file, folder)}
    for what in ("path", "target"):
        value, count = Counter(str(record[what]) for record in records).most_common(1)[0]
        if value != "None" and count > 1:
            raise DataError(f"{options.videos}: {count} of the videos would be {value}")
    if options.transcode:
        overwritten = {os.path.realpath(record["target"]) for record in records} & set(map(os.path.realpath, files))
        if overwritten:
            raise ConfigError(f"{min(overwritten)} would be overwritten; write the manifest to another folder")
    return records


def read_parts(folder: Path) -> list[Row]:
    """Return all rows that were noted, in the order of time: of videos that are done, or "begun" to be transcoded."""
    rows: list[Row] = []
    for part in folder.glob("*.jsonl"):
        for line in part.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # empty, or half a line: stopped while writing
                rows.append(json.loads(line))
    return sorted(rows, key=lambda row: row["time"])


def done_with(rows: Iterable[Row], settings: Row) -> dict[str, Row]:
    """Return path -> row of the videos that are done with these settings; of several rows the last one counts."""
    return {row["path"]: row for row in rows if row["settings"] == settings and "begun" not in row}


def is_final(record: Row, row: Row | None, retry_broken: bool) -> bool:
    """Whether a video need not be looked at again: its file is as it was."""
    if row is None or (retry_broken and row["error"]):
        return False
    try:
        stat = os.stat(record["file_name"])
    except OSError:
        return bool(row["error"])
    size = row.get("source_bytes", row.get("file_bytes", stat.st_size))
    return stat.st_size == size and stat.st_mtime <= row["time"]


def settings_of(options: argparse.Namespace) -> Row:
    """Return what has to be the same for the work of an earlier start to count."""
    return {name: getattr(options, name) for name in ("transcode", "short_side", "crf")} if options.transcode else {}


def work(records: Sequence[Row], options: argparse.Namespace, part: Path) -> None:
    """Prepare videos in several processes and note each in the file `part`."""
    from tqdm import tqdm

    from vdet_ssl.data.loading.workers import Lost, WorkerPool

    pool = WorkerPool(
        functools.partial(prepare, options=options),
        num_workers=options.jobs,
        num_ahead=2 * options.jobs,
        timeout_s=4 * options.timeout,  # three passes over a video, and a decoder that does not look at its limit
        memory_bytes=int(options.memory_gb * 2**30),
    )
    bar = tqdm(total=len(records), unit="video", mininterval=1.0, smoothing=0.02)
    broken = 0
    with contextlib.closing(pool), part.open("a") as file, bar:

        def note(row: Row) -> None:
            row |= {"settings": settings_of(options), "time": time.time()}
            file.write("\n" + json.dumps(row))  # a line that a stop left unfinished stays alone
            file.flush()

        def begun() -> Iterator[Row]:
            for record in records:
                if record["target"]:
                    note({"path": record["path"], "begun": True})
                yield record

        for record, row in pool.imap(begun()):
            if isinstance(row, Lost):
                row = {"error": row.reason}
            if "stop" in row:
                raise DataError(f"stopped: {row['stop']}; the same command goes on from here")
            names = [name for name in ("path", "video_id", "label") if name in record]
            note({**{name: record[name] for name in names}, **row})
            broken += bool(row["error"])
            bar.set_postfix(broken=broken, refresh=False)
            bar.update()


def summarize(rows: Sequence[Row]) -> str:
    """Return the final table: broken videos by reason, durations as in Table 1, size and time before and after."""
    import numpy as np

    good = [row for row in rows if not row["error"]]
    lines = [f"videos  {len(rows)}", f"  ok      {len(good)}", f"  broken  {len(rows) - len(good)}"]
    by_reason: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["error"]:
            by_reason[re.sub(r"\d+(\.\d+)?", "#", row["error"])].append(row["path"])
    for reason, paths in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = ", ..." if len(paths) > _PATHS_SHOWN else ""
        lines.append(f"    {len(paths):6}  {reason}: {', '.join(paths[:_PATHS_SHOWN])}{more}")
    if not good:
        return "\n".join(lines)
    durations_s = np.array([row["duration_s"] for row in good])
    names: dict[str, Callable[[Any], Any]] = {
        "t_mean": np.mean,
        "t_std": np.std,
        "t_min": np.min,
        "t_median": np.median,
        "t_max": np.max,
    }
    values = [f"{name} {function(durations_s):.1f} s" for name, function in names.items()]
    lines.append(f"duration  {'  '.join(values)}  total {durations_s.sum() / 3600:.2f} h")
    size = sum(row["file_bytes"] for row in good)
    lines.append(f"size  {size / 1e6:,.2f} MB")
    both = [row for row in good if "decode_s" in row]
    if both:
        lines[-1] += f", x {size / sum(row['source_bytes'] for row in both):.2f} of before"
        new, old = (1e3 * np.mean([row[name] for row in both]) for name in ("decode_s", "source_decode_s"))
        lines.append(
            f"decoding four clips of 8 frames, every 8th  {new:.0f} ms, x {new / old:.2f} of before ({old:.0f} ms)"
        )
    return "\n".join(lines)


def parse_args(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, int, int]:
    """Return the options, which part of the videos is this one's, and of how many parts."""
    from vdet_ssl.data.video.transcode import PROFILES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "videos", type=Path, help="folder, or list: .csv or .txt with a path and perhaps a label a line"
    )
    parser.add_argument("manifest", type=Path, help=".parquet file to write")
    parser.add_argument("--transcode", choices=PROFILES, help="bframes: half the time; intra: less still, but large")
    parser.add_argument("--short-side", type=int, default=0, help="pixels that the shorter side is reduced to; 0: none")
    parser.add_argument("--crf", type=int, default=20, help="x264's rate factor: lower is better and larger")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--shard", default="0/1", help="i/n: the i-th of n parts, from 0")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for decoding, or encoding, one video")
    parser.add_argument("--memory-gb", type=float, default=4.0, help="that a process may take")
    parser.add_argument("--retry-broken", action="store_true", help="try those that were broken before again")
    options = parser.parse_args(argv)
    if options.manifest.suffix != ".parquet":
        parser.error(f"{options.manifest} has to end in .parquet")
    shard = re.fullmatch(r"(\d+)/(\d+)", options.shard)
    if not shard or int(shard[1]) >= int(shard[2]):
        parser.error(f'--shard is "{options.shard}"; it has to be i/n with i from 0 to n - 1')
    for name, least in (("jobs", 1), ("short_side", 0), ("crf", 0), ("timeout", 0), ("memory_gb", 0)):
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name)}; it has to be at least {least}")
    for name in ("short_side", "crf"):
        if getattr(options, name) != parser.get_default(name) and not options.transcode:
            parser.error(f"--{name.replace('_', '-')} needs --transcode bframes or --transcode intra")
    if options.crf > 51:
        parser.error(f"--crf is {options.crf}; x264 has 0 (lossless) to 51")
    return options, int(shard[1]), int(shard[2])


def main(argv: Sequence[str] | None = None) -> None:
    options, index, count = parse_args(argv)

    from vdet_ssl.data.datasets.manifest import write_manifest
    from vdet_ssl.data.loading.workers import require_linux

    require_linux("prepare the videos on such a machine")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    records = list_videos(options)
    mine = records[index::count]
    parts = Path(f"{options.manifest}.parts")
    rows = read_parts(parts)
    ours = {row["path"] for row in rows if row["settings"]}
    for record in mine:
        if record["target"] and record["path"] not in ours and os.path.lexists(record["target"]):
            raise ConfigError(f"{record['target']} is there already, of something else; write the manifest elsewhere")
    parts.mkdir(parents=True, exist_ok=True)
    done = done_with(rows, settings_of(options))
    todo = [record for record in mine if not is_final(record, done.get(record["path"]), options.retry_broken)]
    if todo:
        work(todo, options, parts / f"{index}_of_{count}.jsonl")
    done = done_with(read_parts(parts), settings_of(options))
    missing = sum(record["path"] not in done for record in records)
    if missing:
        print(
            f"{len(records) - missing} of {len(records)} videos are done with these options; the manifest waits for the "
            "other shards, with the same options"
        )
        return
    rows = [done[record["path"]] for record in records]
    write_manifest(rows, options.manifest)
    print(f"{summarize(rows)}\nmanifest  {options.manifest}")


if __name__ == "__main__":
    try:
        with one_line_errors():
            main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")
