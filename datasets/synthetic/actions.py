"""What people do: the actions, scripts of actions over time, and the body's pose at any time of a script.

A pose is a set of unit vectors, one for each bone, in the person's own frame (forward, left, up).  It holds no size and
no place: `figure.py` puts a body of bones of some length at these angles.
"""

from dataclasses import dataclass

import numpy as np

# Label id = place in the list + 1.  A body action says what the legs and torso do, a gesture what the arms do beside it.
BODY_ACTIONS = ("stand", "walk", "jump", "sit", "sit down", "stand up")
GESTURES = ("wave", "raise hand", "clap")
ACTIONS = BODY_ACTIONS + GESTURES
LABEL_IDS = {name: i + 1 for i, name in enumerate(ACTIONS)}
# The same poses of one frame belong to both: only motion tells which it is.
MOTION_ONLY_PAIRS = (("wave", "raise hand"), ("sit down", "stand up"))
GESTURES_OF = {  # the arms are free for a gesture only in some body actions
    "stand": GESTURES,
    "walk": GESTURES,
    "sit": GESTURES,
}

BONES = (
    "torso", "head", "upper_arm_l", "upper_arm_r", "forearm_l", "forearm_r",
    "thigh_l", "thigh_r", "shin_l", "shin_r", "foot_l", "foot_r",
)  # fmt: skip
BLEND_S = 0.3  # time over which one pose turns into the next


@dataclass(frozen=True)
class Segment:
    """One stretch of a person's script: `body` and, at the same time, `gesture` (or None), from start to end."""

    start_s: float
    end_s: float
    body: str
    gesture: str | None = None

    @property
    def labels(self):
        """Names of the actions seen in this stretch."""
        return (self.body,) if self.gesture is None else (self.body, self.gesture)


@dataclass(frozen=True)
class Manner:
    """How one person moves: the same action never looks the same twice.  Angles in radians, rates in Hz."""

    stance: float  # how far apart, forward and back, a standing person's feet are
    walk_rate: float
    walk_angle: float  # of the thighs
    jump_period_s: float
    jump_lift: float  # metres
    gesture_rate: float
    gesture_angle: float  # centre and half the width of a wave
    gesture_sweep: float
    gesture_height: float  # of the raised upper arm, over the horizontal
    gesture_is_left: bool
    clap_width: float  # how far the hands part
    phase: float  # of everything periodic, 0..1


def draw_manner(rng):
    """Draw a `Manner` from a numpy Generator."""
    return Manner(
        stance=rng.uniform(-0.25, 0.25),
        walk_rate=rng.uniform(0.8, 1.1),
        walk_angle=rng.uniform(0.38, 0.52),
        jump_period_s=rng.uniform(0.85, 1.1),
        jump_lift=rng.uniform(0.22, 0.34),
        gesture_rate=rng.uniform(1.4, 2.1),
        gesture_angle=rng.uniform(0.1, 0.4),
        gesture_sweep=rng.uniform(0.5, 0.65),
        gesture_height=rng.uniform(-0.3, 0.5),
        gesture_is_left=bool(rng.random() < 0.5),
        clap_width=rng.uniform(0.5, 0.8),
        phase=rng.random(),
    )


def segment_at(script, time_s):
    """The segment of a script (list of Segment) that covers a time; the last one at its very end."""
    return next((s for s in script if s.start_s <= time_s < s.end_s), script[-1])


def poses(script, manner, times_s):
    """Poses of a person at given times.

    Args:
        script: list[Segment], one after another.
        manner: Manner.
        times_s: (N,) seconds, on the script's clock.
    Returns:
        (bones, lift_m, walking): bone directions (N, len(BONES), 3) as unit vectors, float64; height of the feet above
        the ground (N,) in metres; share of walking (N,), 0..1, that says how much the body moves on.
    """
    times_s = np.asarray(times_s, dtype=np.float64)
    cycle = manner.phase + times_s
    walk = _weight(script, times_s, lambda s: s.body == "walk")
    jump = _weight(script, times_s, lambda s: s.body == "jump")
    jumping, lift_m = _jump(manner, cycle)
    bones = _seat(_sitting(script, times_s), manner, cycle)
    bones = _blend(bones, _walk(manner, cycle), walk)
    bones = _blend(bones, jumping, jump)
    bones = _with_gestures(bones, script, manner, times_s)
    return bones / np.linalg.norm(bones, axis=-1, keepdims=True), lift_m * jump, walk


def _with_gestures(bones, script, manner, times_s):
    cycle = times_s * manner.gesture_rate + manner.phase
    swing = manner.gesture_angle + manner.gesture_sweep * np.sin(2 * np.pi * cycle)
    still = manner.gesture_angle + manner.gesture_sweep * np.sin(2 * np.pi * manner.phase) + 0 * times_s
    arms = {
        "wave": lambda: _raised_arm(manner, swing),
        "raise hand": lambda: _raised_arm(manner, still),
        "clap": lambda: _clap(manner, 0.5 - 0.5 * np.cos(2 * np.pi * cycle)),
    }
    for name, pose in arms.items():
        weight = _weight(script, times_s, lambda s, name=name: s.gesture == name)
        if weight.any():
            bones = _blend(bones, _pose(times_s, **pose(), base=bones), weight)
    return bones


def _weight(script, times_s, chosen):
    """Share (N,) of the segments for which chosen(segment): 1 inside, ramps of BLEND_S around the inner borders."""
    weight = np.zeros_like(times_s)
    for i, segment in enumerate(script):
        if chosen(segment):
            starts = -np.inf if i == 0 else segment.start_s
            ends = np.inf if i == len(script) - 1 else segment.end_s
            ramp = np.minimum(times_s - starts, ends - times_s) / BLEND_S + 0.5
            weight += np.clip(ramp, 0, 1)
    return _smooth(np.clip(weight, 0, 1))


def _smooth(x):
    return x * x * (3 - 2 * x)


def _sitting(script, times_s):
    """How far down the body is (N,): 0 standing, 1 seated; one smooth course through the script."""
    at, down = [], []
    for segment in script:
        first, last = {"sit": (1, 1), "sit down": (0, 1), "stand up": (1, 0)}.get(segment.body, (0, 0))
        at += [segment.start_s, segment.end_s - 1e-6]
        down += [first, last]
    return _smooth(np.interp(times_s, at, down))


def _pose(times_s, base=None, **directions):
    """Array (N, bones, 3) of the directions named, each a triple of scalars or (N,); the others from base."""
    if base is None:
        base = np.zeros((len(times_s), len(BONES), 3))
    out = base.copy()
    for bone, (forward, left, up) in directions.items():
        vector = np.stack(np.broadcast_arrays(forward, left, up, times_s)[:3], axis=-1)
        out[:, BONES.index(bone)] = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
    return out


def _blend(a, b, weight):
    return a + (b - a) * weight[:, None, None]


def _leg(side, pitch, knee, spread=0.07):
    """Directions of a leg: thigh `pitch` radians forward of straight down, shin bent back by `knee`."""
    out = spread if side == "l" else -spread
    shin = pitch - knee
    return {
        f"thigh_{side}": (np.sin(pitch), out, -np.cos(pitch)),
        f"shin_{side}": (np.sin(shin), out * 0.5, -np.cos(shin)),
        f"foot_{side}": (1.0, out, -0.15 + 0.5 * np.clip(shin, -1, 0)),
    }


def _arm(side, pitch, elbow, spread=0.15):
    """Directions of an arm: upper arm `pitch` radians forward of straight down, forearm bent forward by `elbow`."""
    out = spread if side == "l" else -spread
    fore = pitch + elbow
    return {
        f"upper_arm_{side}": (np.sin(pitch), out, -np.cos(pitch)),
        f"forearm_{side}": (np.sin(fore), out * 0.6, -np.cos(fore)),
    }


def _trunk(lean, sway=0.0):
    return {"torso": (np.sin(lean), sway, np.cos(lean)), "head": (np.sin(0.4 * lean), 0.5 * sway, np.cos(0.4 * lean))}


def _seat(down, manner, cycle):
    """Standing (down = 0) to sitting (down = 1), leaning forward on the way, as the same path both ways."""
    breath = np.sin(2 * np.pi * 0.25 * cycle)
    pitch, knee = 1.45 * down, 1.5 * down
    apart = manner.stance * (1 - down)
    lean = 0.03 + 0.75 * np.sin(np.pi * down) + 0.01 * breath
    reach = 0.9 * np.sin(np.pi * down) + 0.55 * down
    return _pose(
        cycle,
        **_trunk(lean, 0.02 * breath),
        **_leg("l", pitch + apart, knee + 0.06),
        **_leg("r", pitch - apart, knee + 0.06),
        **_arm("l", reach + 0.05, 0.2 + 0.5 * down),
        **_arm("r", reach + 0.03 * breath, 0.2 + 0.5 * down),
    )


def _walk(manner, cycle):
    swing = 2 * np.pi * manner.walk_rate * cycle
    angle = manner.walk_angle

    def leg(side, phase):
        lifted = np.clip(np.cos(phase), 0, None)
        return _leg(side, angle * np.sin(phase) + 0.1 * lifted, 0.1 + 0.95 * lifted, spread=0.04)

    return _pose(
        cycle,
        **_trunk(0.08, 0.03 * np.sin(swing)),
        **leg("l", swing),
        **leg("r", swing + np.pi),
        **_arm("l", -1.1 * angle * np.sin(swing), 0.35),
        **_arm("r", 1.1 * angle * np.sin(swing), 0.35),
    )


def _jump(manner, cycle):
    """Pose and lift of a person who jumps again and again: crouch, leap with the arms up, land."""
    u = np.mod(cycle / manner.jump_period_s, 1.0)
    air = np.clip((u - 0.35) / 0.4, 0, 1)
    lift_m = manner.jump_lift * 4 * air * (1 - air)
    crouch = np.where(u < 0.35, np.sin(np.pi * u / 0.35), np.where(u > 0.75, np.sin(np.pi * (u - 0.75) / 0.25), 0.0))
    fly = np.sin(np.pi * air)
    pose = _pose(
        cycle,
        **_trunk(0.03 + 0.5 * crouch),
        **_leg("l", 0.75 * crouch + 0.1 * fly, 1.5 * crouch + 0.35 * fly, spread=0.1),
        **_leg("r", 0.75 * crouch + 0.1 * fly, 1.5 * crouch + 0.35 * fly, spread=0.1),
        **_arm("l", -0.8 * crouch + 2.0 * fly, 0.3 + 0.3 * fly, spread=0.35),
        **_arm("r", -0.8 * crouch + 2.0 * fly, 0.3 + 0.3 * fly, spread=0.35),
    )
    return pose, lift_m


def _raised_arm(manner, angle):
    """One arm up, its forearm tilted sideways by `angle` from the vertical: a wave when that swings."""
    side, out = ("l", 1.0) if manner.gesture_is_left else ("r", -1.0)
    height = manner.gesture_height
    return {
        f"upper_arm_{side}": (0.25, out * np.cos(height), np.sin(height)),
        f"forearm_{side}": (0.15, out * np.sin(angle), np.cos(angle)),
    }


def _clap(manner, apart):
    """Both forearms in front; `apart` (0..1) of the way from palms together to hands at their widest."""
    inward = -0.62 + (0.62 + manner.clap_width) * apart
    return {
        "upper_arm_l": (0.6, 0.12, -0.8),
        "upper_arm_r": (0.6, -0.12, -0.8),
        "forearm_l": (0.75, inward, 0.5),
        "forearm_r": (0.75, -inward, 0.5),
    }
