"""The world's annotations, in the formats that people have: AVA's csv and pbtxt, proposals, lists of videos."""

import json

import numpy as np

from .actions import ACTIONS, LABEL_IDS
from .world import key_frame_labels


def annotate(video_id, shot, frame_rate, proposal_rng):
    """Annotate a labelled video at each full second but its first and last.

    Returns:
        dict of lists of rows: "boxes" (one for each box and action), "excluded" and "proposals".
    """
    rows = {"boxes": [], "excluded": [], "proposals": []}
    for second in range(1, int(shot.times_s[-1]) + 1):
        frame, timestamp = round(second * frame_rate), f"{second:04d}"
        people, clear = key_frame_labels(shot, frame)
        if not clear:
            rows["excluded"].append((video_id, timestamp))
        for box, person, names in people:
            rows["boxes"] += [(video_id, timestamp, *_digits(box), LABEL_IDS[name], person) for name in names]
        for box, score in noisy_proposals(proposal_rng, [box for box, _, _ in people]):
            rows["proposals"].append((video_id, timestamp, *_digits(box), "", f"{score:.6f}"))
    return rows


def noisy_proposals(rng, boxes, *, miss=0.04, unsure=0.06, jitter=0.04, false_rate=0.4):
    """What a person detector would find.

    Args:
        rng: numpy Generator.
        boxes: ground truth, each (4,) XYXY in 0..1.
        miss: share of people not found.
        unsure: share of people found with a low score.
        jitter: standard deviation of each side, as a share of the box's width or height.
        false_rate: mean number of boxes around nobody in a frame, most of them with low scores.
    Returns:
        list of (box XYXY in 0..1, score in 0..1).
    """
    found = []
    for box in boxes:
        if rng.random() < miss:
            continue
        width, height = box[2] - box[0], box[3] - box[1]
        moved = box + rng.normal(0, jitter, 4) * [width, height, width, height]
        score = rng.uniform(0.3, 0.8) if rng.random() < unsure else rng.uniform(0.91, 1.0)
        found.append((np.clip(moved, 0, 1), score))
    for _ in range(rng.poisson(false_rate)):
        height, aspect = rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.6)
        x, y = rng.uniform(0, 1 - height * aspect), rng.uniform(0, 1 - height)
        found.append((np.array([x, y, x + height * aspect, y + height]), rng.beta(1.2, 6)))
    return found


def _digits(box):
    return tuple(f"{value:.3f}" for value in box)


def write_split(folder, split, rows):
    """Write a labelled split: `rows` as of `annotate`, of all its videos together."""
    _write_rows(folder / f"{split}.csv", rows["boxes"])
    _write_rows(folder / f"{split}_excluded.csv", rows["excluded"])
    _write_rows(folder / f"{split}_proposals.csv", rows["proposals"])
    (folder / f"{split}.yaml").write_text(
        f"annotations: {split}.csv\n"
        "label_map: actions.pbtxt\n"
        f"excluded_timestamps: {split}_excluded.csv\n"
        "videos: videos\n"
    )


def _write_rows(path, rows):
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))


def write_label_map(folder):
    """Write the list of actions, actions.pbtxt."""
    items = (f'item {{\n  name: "{name}"\n  id: {LABEL_IDS[name]}\n}}\n' for name in ACTIONS)
    (folder / "actions.pbtxt").write_text("".join(items))


def write_video_list(path, video_ids, actions):
    """Write a list of unlabelled videos: path, and the label that only the kNN monitor reads."""
    rows = [(f"videos/{video_id}.mp4", LABEL_IDS[action]) for video_id, action in zip(video_ids, actions, strict=True)]
    _write_rows(path, [("path", "label"), *rows])


def write_summary(folder, options, rows):
    """Write world.json: what the world was made from, and how often each action is seen in each split."""
    counts = {
        split: {name: sum(row[6] == LABEL_IDS[name] for row in split_rows["boxes"]) for name in ACTIONS}
        for split, split_rows in rows.items()
    }
    summary = {"options": options, "actions": LABEL_IDS, "labels": counts}
    (folder / "world.json").write_text(json.dumps(summary, indent=2) + "\n")
