"""What happens in the videos of the world: labelled ones, where people change what they do, and unlabelled ones.

Unlabelled videos are like those of the web: several shots, cut together, of people who all do the same thing.  Place,
camera, light and often the people change from shot to shot; what they do persists.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .actions import ACTIONS, BLEND_S, BODY_ACTIONS, GESTURES_OF, Segment, draw_manner, segment_at
from .figure import draw_look
from .shot import Actor, Shot, draw_camera, draw_light, steady_light, still_camera

_SITTING_ACTIONS = ("sit", "sit down", "stand up")


@dataclass(frozen=True)
class VideoPlan:
    """A video before it is rendered: its shots one after another, and, unlabelled, the action that they all show."""

    shots: list
    action: str | None = None

    def frames(self):
        """Yield all frames, uint8 (H, W, 3) RGB."""
        for shot in self.shots:
            yield from shot.frames()


@dataclass(frozen=True)
class Setting:
    """How hard a world is to see.

    Attributes:
        place: see `scene.paint_scene`.
        crowd: probabilities of one, two and three people in a labelled video.
        pairs: probability that an unlabelled video shows two.
        scale: smallest and largest size of people, in picture heights a metre.
        draw_camera, draw_light: how each shot is taken.
    """

    place: str
    crowd: tuple
    pairs: float
    scale: tuple
    draw_camera: Callable
    draw_light: Callable


SETTINGS = {
    "studio": Setting("studio", (0.5, 0.5, 0.0), 0.0, (0.42, 0.5), still_camera, steady_light),
    "places": Setting("places", (0.35, 0.45, 0.2), 0.25, (0.34, 0.43), draw_camera, draw_light),
}


def plan_labelled(rng, setting, *, seconds, frame_rate, size):
    """A labelled video: one shot of one to three people, each with a script of changing actions."""
    count = rng.choice([1, 2, 3], p=setting.crowd)
    kinds = ["sitter" if rng.random() < 0.5 else "mover" for _ in range(count)]
    scripts = [_script(rng, kind, seconds) for kind in kinds]
    shot = _shot(rng, setting, scripts, [_person(rng) for _ in scripts], round(seconds * frame_rate), frame_rate, size)
    return VideoPlan([shot])


def plan_unlabelled(rng, setting, action, *, seconds, frame_rate, size):
    """An unlabelled video: shots of people who all do `action`, from the first frame to the last."""
    count = 1 + (rng.random() < setting.pairs)
    people, shots, left = [_person(rng) for _ in range(count)], [], round(seconds * frame_rate)
    gesture = None if action in BODY_ACTIONS else action
    while left > 0:
        short = action in ("sit down", "stand up")
        num_frames = round(rng.uniform(*((1.1, 1.6) if short else (1.6, 3.2))) * frame_rate)
        num_frames = left if left - num_frames < frame_rate else num_frames
        body = action if gesture is None else rng.choice([b for b, free in GESTURES_OF.items() if gesture in free])
        scripts = [_persistent_script(rng, str(body), gesture, num_frames / frame_rate) for _ in people]
        shots.append(_shot(rng, setting, scripts, people, num_frames, frame_rate, size))
        people = [_person(rng) if rng.random() < 0.6 else person for person in people]
        left -= num_frames
    return VideoPlan(shots, action)


def _person(rng):
    return draw_look(rng), draw_manner(rng)


def _shot(rng, setting, scripts, people, num_frames, frame_rate, size):
    places = (rng.permutation(len(scripts)) + rng.uniform(0.25, 0.75, len(scripts))) / len(scripts)
    actors = []
    for script, (look, manner), place in zip(scripts, people, places, strict=True):
        sits = any(segment.body in _SITTING_ACTIONS for segment in script)
        moves = any(segment.body == "walk" for segment in script)
        actors.append(
            Actor(
                look=look,
                manner=manner,
                script=script,
                place=place,
                heading=rng.uniform(0.4, 1.2) * rng.choice([-1, 1]) if sits or moves else rng.uniform(-0.8, 0.8),
                scale=rng.uniform(*setting.scale),
                # Others have a stool beside them too: its sight alone says nothing of what its owner does.
                stool=rng.uniform(50, 210, 3) if sits or (not moves and rng.random() < 0.5) else None,
            )
        )
    camera, light, seed = setting.draw_camera(rng), setting.draw_light(rng), int(rng.integers(2**31))
    form = {"num_frames": num_frames, "frame_rate": frame_rate, "size": size}
    return Shot(actors, camera, light, setting=setting.place, seed=seed, **form)


def _persistent_script(rng, body, gesture, seconds):
    if body == "sit down":
        start, length = rng.uniform(0, 0.2), rng.uniform(0.8, 1.2)
        return [
            Segment(0, start, "stand"),
            Segment(start, start + length, body),
            Segment(start + length, seconds, "sit"),
        ]
    if body == "stand up":
        start, length = rng.uniform(0, 0.2), rng.uniform(0.8, 1.2)
        return [
            Segment(0, start, "sit"),
            Segment(start, start + length, body),
            Segment(start + length, seconds, "stand"),
        ]
    return [Segment(0, seconds, body, gesture)]


def _script(rng, kind, seconds):
    """A script whose borders lie around the half seconds, so that most key frames (full seconds) lie within an act."""
    script, at, start = [], 0, 0.0
    while start < seconds:
        body = _next_body(rng, kind, script[-1].body if script else None)
        gestures = [None, *GESTURES_OF.get(body, ())]
        gesture = gestures[rng.integers(len(gestures))]
        if script and (body, gesture) == (script[-1].body, script[-1].gesture):
            continue
        at += 1 if body in ("sit down", "stand up") else rng.integers(1, 4)
        end = at + 0.5 + rng.uniform(-0.3, 0.3)
        if seconds - end < 1:
            end = seconds
        script.append(Segment(start, end, body, gesture))
        start = end
    return script


def _next_body(rng, kind, previous):
    if kind == "mover":
        return str(rng.choice(["stand", "walk", "jump"], p=[0.25, 0.45, 0.3]))
    after = {
        None: ["stand", "sit"],
        "stand": ["sit down"],
        "sit down": ["sit"],
        "sit": ["stand up"],
        "stand up": ["stand"],
    }
    choices = after[previous]
    return choices[rng.integers(len(choices))]


def key_frame_labels(shot, frame):
    """What an annotator writes down at a key frame.

    Returns:
        (rows, clear): rows = list of (box XYXY normalised to 0..1, person id, names of actions) of the people in the
        picture; clear = False where somebody is just changing from one act to the next: such key frames are excluded.
    """
    width, height = shot.size
    rows, clear, time_s = [], True, shot.times_s[frame]
    for person, actor in enumerate(shot.actors):
        segment = segment_at(actor.script, time_s)
        inner = [s.start_s for s in actor.script[1:]]
        clear &= all(abs(time_s - border) >= BLEND_S * 0.75 for border in inner)
        whole = shot.boxes[person, frame] / [width, height, width, height]
        # cut at the picture's border, and given to the csv's three digits, rounded outwards
        seen = np.clip(np.concatenate([np.floor(whole[:2] * 1000), np.ceil(whole[2:] * 1000)]) / 1000, 0, 1)
        if _area(seen) >= 0.5 * _area(whole):
            rows.append((seen, person, segment.labels))
    return rows, bool(clear)


def _area(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def dominant_actions(count):
    """Actions of `count` unlabelled videos: each as often as the others."""
    return [ACTIONS[i % len(ACTIONS)] for i in range(count)]
