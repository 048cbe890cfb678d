"""What people do: for each action the pose of a body at any time.

A pose is a set of unit vectors, one for each bone, in the person's own frame (forward, left, up).  It has neither size
nor place: `figure.py` gives a body of some size these directions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

BONES = (
    "torso", "head", "upper_arm_l", "upper_arm_r", "forearm_l", "forearm_r",
    "thigh_l", "thigh_r", "shin_l", "shin_r", "foot_l", "foot_r",
)  # fmt: skip

Directions = dict[str, tuple[ArrayLike, ArrayLike, ArrayLike]]


@dataclass(frozen=True)
class Manner:
    """How one person moves: an action never looks the same twice."""

    rate_hz: float
    phase: float  # of the cycle, 0..1
    amplitude: float  # 1 is usual
    leads_left: bool  # which leg kicks, which arm goes first


def draw_manner(rng: np.random.Generator) -> Manner:
    return Manner(rng.uniform(0.5, 1.2), rng.random(), rng.uniform(0.8, 1.15), bool(rng.random() < 0.5))


@dataclass(frozen=True)
class Action:
    """One thing that people do.

    Attributes:
        pose: (course (N,), Manner) -> directions of the bones that do not hang down.  The course counts cycles, or
            goes from 0 to 1 once.
        sideways: seen from the side rather than from the front.
        seat: there is a stool to sit on.
        cyclic: repeats itself; otherwise it is done once in a shot.
        backwards: done from the end to the beginning.
        lift_m: height of the jump in metres at the middle of a cycle.
    """

    name: str
    pose: Callable[[NDArray, Manner], Directions]
    sideways: bool = False
    seat: bool = False
    cyclic: bool = True
    backwards: bool = False
    lift_m: float = 0.0

    def poses(self, manner: Manner, times_s: NDArray, seconds: float) -> tuple[NDArray, NDArray]:
        """Poses during a shot.

        Args:
            times_s: (N,) seconds from the beginning of the shot.
            seconds: length of the shot.
        Returns:
            (bones, lift_m): unit vectors (N, len(BONES), 3) and height over the ground (N,) in metres.
        """
        if self.cyclic:
            course = manner.phase + manner.rate_hz * times_s
        else:
            course = _smooth((times_s / seconds - 0.5) * (1 + 0.5 * manner.rate_hz) + 0.5)
            course = 1 - course if self.backwards else course
        return _unit_vectors(HANGING | self.pose(course, manner), len(course)), self.lift_m * _rise(course)


def _smooth(x: NDArray) -> NDArray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _rise(course: NDArray) -> NDArray:
    """0 at the ends of a cycle, 1 in its middle."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * course)


def _swing(course: NDArray) -> NDArray:
    return np.sin(2 * np.pi * course)


def _unit_vectors(directions: Directions, count: int) -> NDArray:
    rows = [np.stack(np.broadcast_arrays(*directions[bone], np.zeros(count))[:3], axis=-1) for bone in BONES]
    bones = np.stack(rows, axis=1).astype(np.float64)
    return bones / np.linalg.norm(bones, axis=-1, keepdims=True)


def _limb(upper: str, lower: str, side: str, angle: ArrayLike, bend: ArrayLike, apart: float = 0.1) -> Directions:
    """A limb in the plane of walking: `angle` forward of straight down, its lower half `bend` further forward."""
    out, low = apart if side == "l" else -apart, np.add(angle, bend)
    return {
        f"{upper}_{side}": (np.sin(angle), out, -np.cos(angle)),
        f"{lower}_{side}": (np.sin(low), 0.5 * out, -np.cos(low)),
    }


def _arm(side: str, angle: ArrayLike, elbow: ArrayLike = 0.2) -> Directions:
    return _limb("upper_arm", "forearm", side, angle, elbow)


def _leg(side: str, angle: ArrayLike, knee: ArrayLike = 0.05) -> Directions:
    toes = np.subtract(angle, knee)
    foot = (np.cos(toes), 0.1 if side == "l" else -0.1, np.sin(toes) - 0.1)
    return {**_limb("thigh", "shin", side, angle, np.negative(knee)), f"foot_{side}": foot}


def _sideways(upper: str, lower: str, angle: ArrayLike) -> Directions:
    """Both limbs straight, `angle` from straight down to the sides."""
    return {
        f"{part}_{side}": (0.05, sign * np.sin(angle), -np.cos(angle))
        for side, sign in (("l", 1.0), ("r", -1.0))
        for part in (upper, lower)
    }


def _trunk(lean: ArrayLike, head: float = 0.5) -> Directions:
    """Trunk leant forward by an angle, the head by `head` times as much."""
    nod = np.multiply(lean, head)
    return {"torso": (np.sin(lean), 0.0, np.cos(lean)), "head": (np.sin(nod), 0.0, np.cos(nod))}


HANGING = _trunk(0.03) | _arm("l", 0.05) | _arm("r", 0.05) | _leg("l", 0.03) | _leg("r", 0.0)


def _walk(course: NDArray, manner: Manner) -> Directions:
    stride = 0.5 * manner.amplitude * _swing(course)
    lifted = np.clip(np.cos(2 * np.pi * course), 0, None), np.clip(-np.cos(2 * np.pi * course), 0, None)
    legs = _leg("l", stride + 0.1 * lifted[0], 0.1 + lifted[0]) | _leg("r", 0.1 * lifted[1] - stride, 0.1 + lifted[1])
    return _trunk(0.08) | legs | _arm("l", -1.1 * stride, 0.4) | _arm("r", 1.1 * stride, 0.4)


def _sit(course: NDArray, manner: Manner) -> Directions:
    return _seated(1.0 + 0.0 * course, 0.1 * manner.amplitude * _swing(course))


def _seated(down: NDArray, nod: ArrayLike = 0.0) -> Directions:
    """Standing (0) to sitting (1), leaning forward on the way."""
    reach = 0.9 * np.sin(np.pi * down) + 0.6 * down
    legs = _leg("l", 1.45 * down, 1.5 * down) | _leg("r", 1.4 * down, 1.5 * down)
    lean = np.add(0.05 + 0.7 * np.sin(np.pi * down), nod)
    return _trunk(lean) | legs | _arm("l", reach, 0.3 + 0.4 * down) | _arm("r", reach + 0.1, 0.3 + 0.4 * down)


def _star_jump(course: NDArray, manner: Manner) -> Directions:
    high = manner.amplitude * _rise(course)
    arms, legs = _sideways("upper_arm", "forearm", 1.3 + 1.0 * high), _sideways("thigh", "shin", 0.3 + 0.3 * high)
    return arms | legs


def _cheer(course: NDArray, manner: Manner) -> Directions:
    sway = 0.3 * manner.amplitude * _swing(course)
    arms = {
        f"{part}_{side}": (0.05, sign * 0.35 + sway, 1.0)
        for side, sign in (("l", 1.0), ("r", -1.0))
        for part in ("upper_arm", "forearm")
    }
    return arms | {"torso": (0.0, 0.2 * sway, 1.0), "head": (0.0, 0.4 * sway, 1.0)}


def _bend(course: NDArray, manner: Manner) -> Directions:
    lean = 1.3 + 0.5 * manner.amplitude * _rise(course)
    return _trunk(lean, 1.1) | _arm("l", 0.35, 0.05) | _arm("r", 0.2, 0.05)


def _kick(course: NDArray, manner: Manner) -> Directions:
    return _leg_lifted(0.55 + 0.45 * _rise(course), manner)


def _leg_lifted(high: NDArray, manner: Manner) -> Directions:
    """One straight leg forward and up, 0 to 1; the trunk leans back and the fists go up."""
    kicks, stands = ("l", "r") if manner.leads_left else ("r", "l")
    legs = _leg(kicks, 1.45 * manner.amplitude * high, 0.15) | _leg(stands, -0.12 * high, 0.1)
    return (
        _trunk(-0.25 * high) | legs | _arm("l", 0.8 * high, 0.2 + 1.4 * high) | _arm("r", 0.6 * high, 0.2 + 1.5 * high)
    )


def _push_up(course: NDArray, manner: Manner) -> Directions:
    high = 0.12 + 0.26 * manner.amplitude * _rise(course)  # slope of the body
    along, up, bend = np.cos(high), np.sin(high), 1.1 * (1 - _rise(course))
    body: Directions = {"torso": (along, 0.0, up), "head": (along, 0.0, up + 0.3)}
    for side, out in (("l", 0.1), ("r", -0.1)):
        body |= {f"thigh_{side}": (-along, 0.3 * out, -up), f"shin_{side}": (-along, 0.0, -up)}
        body |= {f"foot_{side}": (0.15, 0.0, -1.0), f"upper_arm_{side}": (0.15 - np.sin(bend), out, -np.cos(bend))}
        body |= {f"forearm_{side}": (0.15 + 0.5 * np.sin(bend), 0.0, -1.0)}
    return body


def _handstand(course: NDArray, manner: Manner) -> Directions:
    scissors = 0.25 + 0.35 * manner.amplitude * _swing(course)
    body: Directions = {"torso": (0.05, 0.0, -1.0), "head": (0.5, 0.0, -1.0)}
    for side, sign in (("l", 1.0), ("r", -1.0)):
        body |= {f"{part}_{side}": (0.0, 0.12 * sign, -1.0) for part in ("upper_arm", "forearm")}
        body |= {f"{part}_{side}": (sign * np.sin(scissors), 0.1, np.cos(scissors)) for part in ("thigh", "shin")}
        body |= {f"foot_{side}": (0.3, 0.0, 1.0)}
    return body


def _arms_raised(course: NDArray, manner: Manner) -> Directions:
    return _sideways("upper_arm", "forearm", 0.15 + 2.8 * course)


def _bent(course: NDArray, manner: Manner) -> Directions:
    reach = 0.35 * course
    return _trunk(1.75 * manner.amplitude * course, 1.1) | _arm("l", reach, 0.05) | _arm("r", reach, 0.05)


# The pose of any single frame says which of these it is.
POSES = (
    Action("walk", _walk, sideways=True),
    Action("sit", _sit, sideways=True, seat=True),
    Action("star jump", _star_jump, lift_m=0.2),
    Action("cheer", _cheer),
    Action("bend", _bend, sideways=True),
    Action("kick", _kick, sideways=True),
    Action("push up", _push_up, sideways=True),
    Action("handstand", _handstand, sideways=True),
)


def _pair(forwards: str, backwards: str, pose: Callable[[NDArray, Manner], Directions], **kwargs: bool) -> list[Action]:
    return [
        Action(forwards, pose, cyclic=False, **kwargs),
        Action(backwards, pose, cyclic=False, backwards=True, **kwargs),
    ]


# Only the order of the frames says which of a pair it is.
PAIRS = (
    *_pair("sit down", "stand up", lambda course, _: _seated(course), sideways=True, seat=True),
    *_pair("raise arms", "lower arms", _arms_raised),
    *_pair("bend down", "straighten up", _bent, sideways=True),
    *_pair("lift leg", "lower leg", _leg_lifted, sideways=True),
)
