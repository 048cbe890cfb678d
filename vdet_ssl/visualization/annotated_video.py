"""Videos with the boxes and actions of people drawn in."""

from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np

from vdet_ssl.data.video.reader import open_video

_MIN_HEIGHT = 480  # pixels; smaller videos are enlarged, or nobody could read what is written in them
_FRAMES_AT_ONCE = 60
_PERSON_COLORS = ((255, 176, 32), (60, 190, 255), (230, 110, 230), (120, 220, 90), (255, 120, 100), (170, 150, 255))
_RIGHT, _WRONG, _TRUTH = (40, 160, 70), (205, 60, 50), (255, 255, 255)


@dataclass(frozen=True)
class KeyFrame:
    """People at one time of a video.

    Attributes:
        timestamp_s: seconds.
        boxes: float (N, 4), XYXY, normalised to 0..1.
        actions: for each of the N boxes a list of (name, score), the score None where it has none (ground truth).
    """

    timestamp_s: float
    boxes: np.ndarray
    actions: list


def key_frames_of_table(table, class_names, video_id, *, top_k, min_score):
    """Collect the key frames of one video from a table of boxes.

    Args:
        table: `vdet_ssl.structures.ava_csv.BoxTable`, one row for each box and action.
        class_names: dict, action id -> name; other actions are left out, boxes that have none of them are not.
        video_id: whose key frames.
        top_k, min_score: actions kept of a box: that many, those of the highest scores, none below min_score.
    Returns:
        list[KeyFrame] in order of time.
    """
    found = []
    for key, (name, timestamp) in enumerate(table.key_frames):
        if name == video_id:
            rows = np.flatnonzero(table.key == key)
            boxes, person = np.unique(table.boxes[rows], axis=0, return_inverse=True)
            actions = [[] for _ in boxes]
            for row, i in sorted(zip(rows, person.ravel(), strict=True), key=lambda pair: -table.score[pair[0]]):
                keep = table.score[row] >= min_score and len(actions[i]) < top_k
                if keep and table.action_id[row] in class_names:
                    actions[i].append((class_names[table.action_id[row]], float(table.score[row])))
            found.append(KeyFrame(float(timestamp), boxes, actions))
    return sorted(found, key=lambda frame: frame.timestamp_s)


def without_scores(key_frames):
    """The same key frames as ground truth: their actions have no scores."""
    return [KeyFrame(k.timestamp_s, k.boxes, [[(n, None) for n, _ in a] for a in k.actions]) for k in key_frames]


def write_annotated_video(video, output, predictions, ground_truth=()):
    """Write a copy of a video with people's boxes and actions in it, as h264 in mp4.

    Between two key frames a box moves on to where the same person is in the other; the actions are those of the
    nearer one.  With ground truth, actions that it holds are green and others are red.

    Args:
        video: path of the video.
        output: path of the mp4 to write.
        predictions, ground_truth: list[KeyFrame] in order of time.
    Raises:
        vdet_ssl.data.video.reader.VideoError: when the video cannot be read.
    """
    with open_video(video, backend="pyav", timeout_s=0) as reader, av.open(str(output), "w") as target:
        rate = Fraction(reader.info.fps or 25).limit_denominator(1001)
        stream = target.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        stream.pix_fmt, (stream.width, stream.height) = "yuv420p", _output_size(reader.info)
        for time_s, frame in _all_frames(reader, float(rate)):
            image = cv2.resize(frame, (stream.width, stream.height), interpolation=cv2.INTER_CUBIC)
            annotate(image, people_at(predictions, time_s), people_at(ground_truth, time_s))
            _write(image, 0, 0, [(f"{time_s:.1f} s", (40, 40, 40))], upward=False)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        target.mux(stream.encode())


def _all_frames(reader, rate):
    """Yield (time in seconds, uint8 (H, W, 3) RGB) `rate` times a second, decoded a few at once."""
    count = max(round(reader.info.duration_s * rate), 1)
    for first in range(0, count, _FRAMES_AT_ONCE):
        times_s = np.arange(first, min(first + _FRAMES_AT_ONCE, count)) / rate
        yield from zip(times_s, reader.decode_clips([times_s], "rgb")[0], strict=True)


def _output_size(info):
    """Width and height of at least _MIN_HEIGHT, and even, which h264 needs."""
    factor = max(1.0, _MIN_HEIGHT / info.height)
    return tuple(2 * round(side * factor / 2) for side in (info.width, info.height))


def people_at(key_frames, time_s):
    """People at any time: those of the nearest key frame, their boxes on the way to the next one on the other side.

    Returns:
        KeyFrame, without people when the nearest key frame is more than half a second or half the usual distance away.
    """
    if not key_frames:
        return KeyFrame(time_s, np.zeros((0, 4)), [])
    times = np.array([k.timestamp_s for k in key_frames])
    near = int(np.abs(times - time_s).argmin())
    reach_s = max(0.5, float(np.median(np.diff(times))) / 2) if len(times) > 1 else 0.5
    if abs(times[near] - time_s) > reach_s + 1e-6:
        return KeyFrame(time_s, np.zeros((0, 4)), [])
    boxes = np.array(key_frames[near].boxes, dtype=np.float64)
    other = near + (1 if time_s > times[near] else -1)
    if 0 <= other < len(times):
        share = (time_s - times[near]) / (times[other] - times[near])
        for i, j in _same_people(boxes, key_frames[other].boxes):
            boxes[i] += share * (key_frames[other].boxes[j] - boxes[i])
    return KeyFrame(time_s, boxes, key_frames[near].actions)


def _same_people(boxes, others):
    """Pairs (i, j) of boxes that are each other's nearest, by their centers and sizes."""
    if len(boxes) == 0 or len(others) == 0:
        return []
    distance = np.abs(boxes[:, None] - others[None]).sum(-1)
    nearest, back = distance.argmin(1), distance.argmin(0)
    return [(i, j) for i, j in enumerate(nearest) if back[j] == i and distance[i, j] < 1.0]


def annotate(image, predicted, truth):
    """Draw people into an image, in place.

    Args:
        image: uint8 (H, W, 3) RGB.
        predicted, truth: KeyFrame; either may be without people.
    """
    size = np.array([image.shape[1], image.shape[0]] * 2)
    for box, actions in zip(truth.boxes * size, truth.actions, strict=True):
        _rectangle(image, box, _TRUTH, 1)
        _write(image, box[0], box[3], [(_text(a), _TRUTH) for a in actions], upward=False)
    for i, (box, actions) in enumerate(zip(predicted.boxes * size, predicted.actions, strict=True)):
        color = _PERSON_COLORS[i % len(_PERSON_COLORS)]
        right = _true_actions(box, truth, size)
        fills = [color if right is None else _RIGHT if name in right else _WRONG for name, _ in actions]
        _rectangle(image, box, color, max(2, image.shape[0] // 240))
        _write(image, box[0], box[1], [(_text(a), f) for a, f in zip(actions, fills, strict=True)], upward=True)


def _text(action):
    name, score = action
    return name if score is None else f"{name} {score:.2f}"


def _true_actions(box, truth, size):
    """Names of the actions of the person whom a box overlaps most; None when it is nobody's, or truth is not known."""
    boxes = truth.boxes * size
    inter = np.clip(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0, None).prod(1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    iou = inter / np.maximum(area - inter, 1e-9)
    return {name for name, _ in truth.actions[iou.argmax()]} if len(iou) and iou.max() >= 0.5 else None


def _rectangle(image, box, color, thickness):
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    cv2.rectangle(image, (x1, y1), (x2, y2), color, thickness, cv2.LINE_AA)


def _write(image, x, y, lines, upward):
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
