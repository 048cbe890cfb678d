"""Videos with boxes and their actions drawn in: detections, and ground truth beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike

import cv2
import numpy as np
from numpy.typing import NDArray

from vdet_ssl.data.video.info import VideoInfo
from vdet_ssl.data.video.reader import VideoReader, open_video
from vdet_ssl.data.video.writer import VideoWriter, nearest_rate
from vdet_ssl.structures.ava_csv import BoxTable

Color = tuple[int, int, int]  # RGB
Action = tuple[str, float | None]  # name; score, None where it has none (ground truth)

_MIN_HEIGHT = 480  # pixels; smaller videos are enlarged, or nobody could read what is written in them
_FRAMES_AT_ONCE = 60
_MIN_IOU = 0.5  # of a detection with ground truth, as AVA's metric has it
_BOX_COLORS: tuple[Color, ...] = (
    (255, 176, 32), (60, 190, 255), (230, 110, 230), (120, 220, 90), (255, 120, 100), (170, 150, 255)
)  # fmt: skip
_TRUE_POSITIVE, _FALSE_POSITIVE, _GROUND_TRUTH = (40, 160, 70), (205, 60, 50), (255, 255, 255)
_CLOCK = (40, 40, 40)


@dataclass(frozen=True)
class KeyFrame:
    """Boxes with actions at one time of a video.

    Attributes:
        timestamp_s: seconds.
        boxes: float (N, 4), XYXY, normalised to 0..1.
        actions: for each of the N boxes its actions.
    """

    timestamp_s: float
    boxes: NDArray[np.floating] = field(default_factory=lambda: np.zeros((0, 4)))
    actions: Sequence[Sequence[Action]] = ()


def key_frames_of_table(
    table: BoxTable, class_names: Mapping[int, str], video_id: str, *, top_k: int, min_score: float
) -> list[KeyFrame]:
    """Collect the key frames of one video from a table of boxes.

    Args:
        table: one row for each box and action.
        class_names: action id -> name; other actions are left out, boxes that have none of them are not.
        video_id: whose key frames.
        top_k, min_score: actions kept of a box: that many, those of the highest scores, none below min_score.
    Returns:
        the key frames in order of time.
    """
    key_frames = []
    for key, (name, timestamp) in enumerate(table.key_frames):
        if name == video_id:
            rows = np.flatnonzero(table.key == key)
            boxes, box_of_row = np.unique(table.boxes[rows], axis=0, return_inverse=True)
            actions: list[list[Action]] = [[] for _ in boxes]
            for row, i in sorted(zip(rows, box_of_row.ravel(), strict=True), key=lambda pair: -table.score[pair[0]]):
                keep = table.score[row] >= min_score and len(actions[i]) < top_k
                if keep and table.action_id[row] in class_names:
                    actions[i].append((class_names[table.action_id[row]], float(table.score[row])))
            key_frames.append(KeyFrame(float(timestamp), boxes, actions))
    return sorted(key_frames, key=lambda frame: frame.timestamp_s)


def without_scores(key_frames: Sequence[KeyFrame]) -> list[KeyFrame]:
    """Return the same key frames as ground truth: their actions have no scores."""
    return [KeyFrame(k.timestamp_s, k.boxes, [[(n, None) for n, _ in a] for a in k.actions]) for k in key_frames]


def write_annotated_video(
    video: str | PathLike[str],
    output: str | PathLike[str],
    detections: Sequence[KeyFrame],
    ground_truth: Sequence[KeyFrame] = (),
) -> None:
    """Write a copy of a video with boxes and actions in it, as H.264 in mp4.

    Between two key frames a box moves on to where the same person is in the other; the actions are those of the
    nearer one.  With ground truth, actions that it holds are green and others are red.

    Args:
        video: path of the video.
        output: path of the mp4 to write.
        detections, ground_truth: in order of time.
    Raises:
        vdet_ssl.errors.VideoError: the video cannot be read.
    """
    options = {"crf": "20", "preset": "veryfast"}
    with open_video(video) as reader:
        fps = nearest_rate(reader.info.fps)
        width, height = _output_size(reader.info)
        with VideoWriter(output, fps=fps, width=width, height=height, options=options) as writer:
            for time_s, frame in _all_frames(reader, float(fps)):
                image = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
                annotate(image, boxes_at(detections, time_s), boxes_at(ground_truth, time_s))
                _write(image, width, height, [(f"{time_s:.1f} s", _CLOCK)], upward=True)
                writer.write(image)


def _all_frames(reader: VideoReader, rate: float) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield (time in seconds, uint8 (H, W, 3) RGB) `rate` times a second, decoded a few at once; none is outside the video."""
    count = max(round(reader.info.duration_s * rate), 1)
    for first in range(0, count, _FRAMES_AT_ONCE):
        times_s = np.arange(first, min(first + _FRAMES_AT_ONCE, count)) / rate
        (clip,) = reader.decode_clips([times_s], "rgb")
        yield from zip(times_s, np.asarray(clip), strict=True)


def _output_size(info: VideoInfo) -> tuple[int, int]:
    """Return width and height of at least _MIN_HEIGHT, and even, which H.264 needs."""
    factor = max(1.0, _MIN_HEIGHT / info.height)
    width, height = (2 * round(side * factor / 2) for side in (info.width, info.height))
    return width, height


def boxes_at(key_frames: Sequence[KeyFrame], time_s: float) -> KeyFrame:
    """Return the boxes at any time: those of the nearest key frame, on the way to the next one on the other side.

    Returns:
        KeyFrame, without boxes when the nearest key frame is more than half a second or half the usual distance away.
    """
    if not key_frames:
        return KeyFrame(time_s)
    times = np.array([k.timestamp_s for k in key_frames])
    near = int(np.abs(times - time_s).argmin())
    reach_s = max(0.5, float(np.median(np.diff(times))) / 2) if len(times) > 1 else 0.5
    if abs(times[near] - time_s) > reach_s + 1e-6:
        return KeyFrame(time_s)
    boxes = np.array(key_frames[near].boxes, dtype=np.float64)
    other = near + (1 if time_s > times[near] else -1)
    if 0 <= other < len(times):
        fraction = (time_s - times[near]) / (times[other] - times[near])
        for i, j in _same_person(boxes, key_frames[other].boxes):
            boxes[i] += fraction * (key_frames[other].boxes[j] - boxes[i])
    return KeyFrame(time_s, boxes, key_frames[near].actions)


def _same_person(boxes: NDArray[np.floating], others: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Return the pairs (i, j) of boxes that are each other's nearest, by their corners."""
    if len(boxes) == 0 or len(others) == 0:
        return []
    distance = np.abs(boxes[:, None] - others[None]).sum(-1)
    nearest, back = distance.argmin(1), distance.argmin(0)
    return [(i, int(j)) for i, j in enumerate(nearest) if back[j] == i and distance[i, j] < 1.0]


def annotate(image: NDArray[np.uint8], detections: KeyFrame, ground_truth: KeyFrame) -> None:
    """Draw boxes and their actions into an image, in place.

    Args:
        image: uint8 (H, W, 3) RGB.
        detections, ground_truth: either may be without boxes.
    """
    size = np.array([image.shape[1], image.shape[0]] * 2)
    for box, actions in zip(ground_truth.boxes * size, ground_truth.actions, strict=True):
        _rectangle(image, box, _GROUND_TRUTH, 1)
        _write(image, box[0], box[3], [(_text(a), _GROUND_TRUTH) for a in actions], upward=False)
    for i, (box, actions) in enumerate(zip(detections.boxes * size, detections.actions, strict=True)):
        color = _BOX_COLORS[i % len(_BOX_COLORS)]
        true_names = _true_actions(box, ground_truth, size)
        fills = [_fill(name, true_names, color) for name, _ in actions]
        _rectangle(image, box, color, max(2, image.shape[0] // 240))
        _write(image, box[0], box[1], [(_text(a), f) for a, f in zip(actions, fills, strict=True)], upward=True)


def _text(action: Action) -> str:
    name, score = action
    return name if score is None else f"{name} {score:.2f}"


def _fill(name: str, true_names: set[str] | None, color: Color) -> Color:
    """Return the background of a detected action; `color` where its box matches no ground truth."""
    if true_names is None:
        return color
    return _TRUE_POSITIVE if name in true_names else _FALSE_POSITIVE


def _true_actions(box: NDArray[np.floating], ground_truth: KeyFrame, size: NDArray[np.integer]) -> set[str] | None:
    """Return the actions of the box of the ground truth that a box overlaps most; None when there is none."""
    boxes = ground_truth.boxes * size
    inter = np.clip(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0, None).prod(1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    iou = inter / np.maximum(area - inter, 1e-9)
    return {name for name, _ in ground_truth.actions[iou.argmax()]} if len(iou) and iou.max() >= _MIN_IOU else None


def _rectangle(image: NDArray[np.uint8], box: NDArray[np.floating], color: Color, thickness: int) -> None:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    cv2.rectangle(image, (x1, y1), (x2, y2), color, thickness, cv2.LINE_AA)


def _write(image: NDArray[np.uint8], x: float, y: float, lines: Sequence[tuple[str, Color]], upward: bool) -> None:
    """Write lines of (text, background), the first one next to y, going up or down, kept inside the image."""
    scale = image.shape[0] / 1000
    sizes = [cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0] for text, _ in lines]
    row = round(36 * scale)
    top = round(float(y)) - row * len(lines) if upward else round(float(y)) + 2
    top = min(max(top, 0), image.shape[0] - row * len(lines))
    for (text, fill), (width, height) in zip(lines, sizes, strict=True):
        left = min(max(round(float(x)), 0), max(image.shape[1] - width - 8, 0))
        cv2.rectangle(image, (left, top), (left + width + 8, top + row - 2), fill, -1)
        ink = (0, 0, 0) if np.dot(fill, (0.3, 0.59, 0.11)) > 130 else (255, 255, 255)
        at = (left + 4, top + (row - 2 + height) // 2)
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)
        top += row
