"""Whether key frames are in their movies, by what the containers say of their length: known before anything is decoded."""

from concurrent.futures import ThreadPoolExecutor

from detectron2.data import MetadataCatalog

from vdet_ssl.data.records import Record, Records
from vdet_ssl.data.video.info import TIME_TOLERANCE_S
from vdet_ssl.data.video.reader import open_video
from vdet_ssl.errors import AvaFormatError, DataError, VideoError
from vdet_ssl.structures.ava_csv import key_frame_id, line_of_row, read_boxes

_THREADS = 8  # that open movies; most of the time they wait for storage


def check_key_frame_times(name: str, records: Records) -> None:
    """Raise DataError at the first key frame of a data set that is outside its movie.

    Folders of frames, and movies that cannot be opened, are left to whoever reads them.

    Args:
        name: of the data set.
        records: its key frames.
    """
    by_movie: dict[str, list[Record]] = {}
    for i in range(len(records)):
        record = records[i]
        if "frame_rate" not in record:
            by_movie.setdefault(record["file_name"], []).append(record)
    with ThreadPoolExecutor(_THREADS) as pool:
        durations_s = pool.map(_duration_s, by_movie)
        for (movie, own), duration_s in zip(by_movie.items(), durations_s, strict=True):
            for record in own if duration_s is not None else ():
                start_s, end_s = record["start_s"], record["start_s"] + duration_s
                if not start_s <= record["timestamp_s"] <= end_s + TIME_TOLERANCE_S:
                    where = f"{record['video_id']},{record['timestamp']}"
                    reason = (
                        f"the key frame {where} is outside of {movie}, which reaches from {start_s:g} to {end_s:g} s"
                    )
                    raise _located(
                        name, record, f"{reason} (videos_start_s, key_frames and excluded_timestamps say more)"
                    )


def _duration_s(movie: str) -> float | None:
    try:
        with open_video(movie) as video:
            return video.duration_s
    except VideoError:
        return None


def _located(name: str, record: Record, reason: str) -> DataError:
    """Return the error, with file and line where the data set comes from a csv."""
    description = MetadataCatalog.get(name).get("description")
    if description is None:
        return DataError(f"{name}: {reason}")
    table = read_boxes(description.annotations)
    wanted = key_frame_id(record["video_id"], record["timestamp"])
    key = next(i for i, frame in enumerate(table.key_frames) if key_frame_id(*frame) == wanted)
    row = int((table.key == key).argmax())
    return AvaFormatError(description.annotations, line_of_row(description.annotations, row), reason)
