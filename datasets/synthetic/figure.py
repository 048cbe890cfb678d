"""People as articulated figures: what one looks like, and the shapes that draw it.

Every part of a body (and of a stool) is the convex hull of one to four balls, seen from the camera: a limb is the hull
of two, the trunk of four.  Lengths are metres for a person 1.75 m tall and scale with the height.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic.actions import BONES

_SKIN = ((215, 175, 145), (195, 150, 115), (170, 120, 85), (130, 85, 55), (95, 62, 42), (70, 45, 32))
_HAIR = ((35, 28, 24), (74, 50, 32), (110, 70, 40), (160, 125, 70), (130, 50, 30), (90, 90, 95))
_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 12, endpoint=False)) for f in (np.cos, np.sin)], axis=-1)
_LIFTED_M = 0.15  # a foot that is on average this much higher than the other does not stand
_SHIFT = 4  # fractional bits of the coordinates given to OpenCV

Balls = list[tuple[str, float]]  # joint, radius in metres
Part = tuple[str, Balls]  # name of its colour


@dataclass(frozen=True)
class Look:
    """What a person looks like: height in metres, build (1 is average), style and RGB colours by name."""

    height_m: float
    build: float
    hair: str  # "short", "long", "bald" or "hat"
    long_sleeves: bool
    skirt: bool
    colors: dict[str, NDArray]


def draw_look(rng: np.random.Generator, cloth_hues: tuple[int, int]) -> Look:
    """Draw a `Look`; the hues of clothes are drawn from a range within 0..180, OpenCV's."""
    skin = np.array(_SKIN[rng.integers(len(_SKIN))], dtype=np.float64)
    top, bottom, hat, shoe = (_cloth_color(rng, cloth_hues) for _ in range(4))
    seat = rng.uniform(140, 230, 3)
    hair = str(rng.choice(["short", "long", "bald", "hat"], p=[0.45, 0.3, 0.08, 0.17]))
    hair_color = hat if hair == "hat" else np.array(_HAIR[rng.integers(len(_HAIR))], dtype=np.float64)
    colors = {"skin": skin, "nose": 0.85 * skin, "eye": np.full(3, 25.0), "hair": hair_color, "top": top}
    return Look(
        height_m=rng.uniform(1.5, 1.9),
        build=rng.uniform(0.85, 1.3),
        hair=hair,
        long_sleeves=bool(rng.random() < 0.6),
        skirt=bool(rng.random() < 0.2),
        colors=colors | {"bottom": bottom, "shoe": 0.6 * shoe, "seat": seat, "leg": 0.75 * seat},
    )


def _cloth_color(rng: np.random.Generator, hues: tuple[int, int]) -> NDArray:
    """Strong and rather dark: people are to be told from bright places."""
    hsv = np.uint8([[[rng.integers(*hues), rng.integers(60, 240), rng.integers(40, 150)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)


class Shape:
    """A body, or a stool, during a shot: N frames, P parts of K balls each.

    Attributes:
        centers: (N, P, K, 3) metres: right, up, toward the camera; the place where the person stands is the origin.
        radii: (P, K) metres.
        order: (N, P) indices of the parts, the farthest first.
        shades: (N, P, 3) RGB, darker where a part is far from the camera.
        edged: (P,) bool: drawn with a darker edge.
    """

    def __init__(self, joints: dict[str, NDArray], parts: list[Part], look: Look, yaw: float, elevation: float) -> None:
        count = max(len(balls) for _, balls in parts)
        padded = [(name, balls + [balls[-1]] * (count - len(balls))) for name, balls in parts]
        local = np.stack([np.stack([joints[j] for j, _ in balls], axis=1) for _, balls in padded], axis=1)
        self.centers = _to_camera(local, yaw, elevation)
        self.radii = look.height_m / 1.75 * np.array([[radius for _, radius in balls] for _, balls in padded])
        toward = self.centers[..., 2].mean(-1)
        self.order = np.argsort(toward, axis=1, kind="stable")
        shade = np.clip(1.0 + 0.6 * toward, 0.72, 1.1)[..., None]
        self.shades = np.clip(shade * np.stack([look.colors[name] for name, _ in padded]), 0, 255)
        self.edged = np.array([name not in ("eye", "nose") for name, _ in padded])

    def boxes(self) -> NDArray:
        """Smallest boxes around the balls of each frame: (N, 4), left, low, right, high, metres from the origin."""
        low = (self.centers[..., :2] - self.radii[..., None]).min(axis=(1, 2))
        high = (self.centers[..., :2] + self.radii[..., None]).max(axis=(1, 2))
        return np.concatenate([low, high], axis=1)

    def outlines(self, feet: NDArray, scale: float) -> NDArray:
        """Points (N, P, K * 12, 2) int32 around all balls, as `draw` takes them: fixed point, pixel centers at integers.

        Args:
            feet: (N, 2) where the origin is, x and y in pixels.
            scale: pixels a metre.
        """
        xy = self.centers[..., :2] * np.array([scale, -scale]) + feet[:, None, None]
        points = xy[..., None, :] - 0.5 + (scale * self.radii)[..., None, None] * _CIRCLE
        return np.rint(points.reshape(*points.shape[:2], -1, 2) * (1 << _SHIFT)).astype(np.int32)

    def draw(self, image: NDArray, outlines: NDArray, frame: int) -> None:
        """Draw one frame into an image, uint8 (H, W, 3) RGB, in place, farther parts first."""
        for part in self.order[frame]:
            hull, color = cv2.convexHull(outlines[frame, part]), self.shades[frame, part]
            cv2.fillConvexPoly(image, hull, color.tolist(), cv2.LINE_AA, _SHIFT)
            if self.edged[part]:
                cv2.polylines(image, [hull], True, (0.65 * color).tolist(), 1, cv2.LINE_AA, _SHIFT)

    def draw_mask(self, image: NDArray, outlines: NDArray, frame: int) -> None:
        """Paint one frame white into an image, uint8 (H, W), in place."""
        for part in self.order[frame]:
            cv2.fillConvexPoly(image, cv2.convexHull(outlines[frame, part]), 255, cv2.LINE_AA, _SHIFT)


def body_shape(look: Look, bones: NDArray, lift_m: NDArray, yaw: float, elevation: float) -> Shape:
    """The body of a person.

    Args:
        bones: (N, len(BONES), 3) unit vectors, forward, left, up.
        lift_m: (N,) height over the ground in metres.
        yaw: radians; 0 faces the camera, positive to the right of the frame.
        elevation: radians by which the camera looks down.
    """
    return Shape(_joints(look, bones, lift_m), _body_parts(look), look, yaw, elevation)


def stool_shape(look: Look, count: int, yaw: float, elevation: float) -> Shape:
    """A stool on which a person of that size can sit down, for `count` frames; arguments as of `body_shape`."""
    size = look.height_m / 1.75
    corners = {
        f"{name}{i}": size * np.array([-0.33 + x, y, up])
        for name, up in (("seat", 0.40), ("floor", 0.02))
        for i, (x, y) in enumerate(((0.17, 0.17), (0.17, -0.17), (-0.17, -0.17), (-0.17, 0.17)))
    }
    joints = {name: np.broadcast_to(xyz, (count, 3)) for name, xyz in corners.items()}
    parts: list[Part] = [("leg", [(f"seat{i}", 0.03), (f"floor{i}", 0.02)]) for i in range(4)]
    parts.append(("seat", [(f"seat{i}", 0.04) for i in range(4)]))
    return Shape(joints, parts, look, yaw, elevation)


def _joints(look: Look, bones: NDArray, lift_m: NDArray) -> dict[str, NDArray]:
    """Joint name -> (N, 3) metres: forward, left, up; on the ground around the origin, on its feet or on its hands."""
    size = look.height_m / 1.75
    bone = {name: bones[:, i] for i, name in enumerate(BONES)}
    joints = {"pelvis": np.zeros((len(bones), 3)), "neck": 0.50 * size * bone["torso"]}
    joints["head"] = joints["neck"] + 0.21 * size * bone["head"]
    for side, out in (("l", np.array([0.0, 1.0, 0.0])), ("r", np.array([0.0, -1.0, 0.0]))):
        joints[f"hip_{side}"] = 0.10 * size * look.build * out + joints["pelvis"]
        joints[f"shoulder_{side}"] = joints["neck"] + 0.095 * size * (1 + look.build) * out
        chain = (
            ("hip", "knee", "thigh", 0.44), ("knee", "ankle", "shin", 0.43), ("ankle", "toe", "foot", 0.17),
            ("shoulder", "elbow", "upper_arm", 0.29), ("elbow", "wrist", "forearm", 0.25),
            ("wrist", "hand", "forearm", 0.07),
        )  # fmt: skip
        for start, end, along, length in chain:
            joints[f"{end}_{side}"] = joints[f"{start}_{side}"] + length * size * bone[f"{along}_{side}"]
    origin = _support(joints) - np.stack([0 * lift_m, 0 * lift_m, 0.05 * size + lift_m], axis=1)
    head = joints["head"] - origin
    tilt = bone["head"][:, None, 2:] < 0  # upside down
    face = {"face": (0.02, 0, 0), "hair": (-0.03, 0, 0.035), "nape": (-0.06, 0, -0.17), "nose": (0.135, 0, -0.01)}
    face |= {"eye_l": (0.115, 0.045, 0.02), "eye_r": (0.115, -0.045, 0.02), "brim": (0.17, 0, 0.05)}
    turned = np.where(tilt[:, 0], np.array([1.0, 1.0, -1.0]), 1.0)
    return {name: xyz - origin for name, xyz in joints.items()} | {
        name: head + size * turned * np.array(offset) for name, offset in face.items()
    }


def _support(joints: dict[str, NDArray]) -> NDArray:
    """Where a body touches the ground, (N, 3): between its feet or its hands, or at the foot that is not lifted."""
    feet, hands = (np.stack([joints[f"{name}_{side}"] for side in "lr"]) for name in ("ankle", "hand"))
    heights = feet[..., 2].mean(1)
    if hands[..., 2].mean() < heights.mean():
        between = hands.mean(0)
    elif abs(heights[0] - heights[1]) > _LIFTED_M:
        between = feet[heights.argmin()]
    else:
        between = feet.mean(0)
    ends = np.stack([joints[f"{name}_{side}"][:, 2] for name in ("ankle", "toe", "hand") for side in "lr"])
    return np.column_stack([between[:, 0], 0 * between[:, 1], ends.min(0)])


def _body_parts(look: Look) -> list[Part]:
    b = look.build
    sleeve, leg = "top" if look.long_sleeves else "skin", "skin" if look.skirt else "bottom"
    parts: list[Part] = [
        ("top", [("shoulder_l", 0.07 * b), ("shoulder_r", 0.07 * b), ("hip_l", 0.10 * b), ("hip_r", 0.10 * b)]),
        ("skin", [("neck", 0.055), ("head", 0.05)]),
        ("skin", [("face", 0.118)]),
        ("nose", [("nose", 0.022)]),
        ("eye", [("eye_l", 0.017)]),
        ("eye", [("eye_r", 0.017)]),
    ]
    for s in "lr":
        parts += [
            ("bottom", [(f"hip_{s}", 0.095 * b), (f"knee_{s}", 0.068 * b)]),
            (leg, [(f"knee_{s}", 0.066 * b), (f"ankle_{s}", 0.048 * b)]),
            ("shoe", [(f"ankle_{s}", 0.05), (f"toe_{s}", 0.042)]),
            ("top", [(f"shoulder_{s}", 0.062 * b), (f"elbow_{s}", 0.05 * b)]),
            (sleeve, [(f"elbow_{s}", 0.05 * b), (f"wrist_{s}", 0.04 * b)]),
            ("skin", [(f"wrist_{s}", 0.04), (f"hand_{s}", 0.05)]),
        ]
    if look.skirt:
        parts.append(("bottom", [(f"{joint}_{s}", r * b) for joint, r in (("hip", 0.11), ("knee", 0.1)) for s in "lr"]))
    if look.hair != "bald":
        parts.append(("hair", [("hair", 0.128)]))
    if look.hair == "long":
        parts.append(("hair", [("hair", 0.125), ("nape", 0.1)]))
    if look.hair == "hat":
        parts.append(("hair", [("brim", 0.03), ("hair", 0.07)]))
    return parts


def _to_camera(xyz: NDArray, yaw: float, elevation: float) -> NDArray:
    """(N, P, K, 3) forward, left, up -> right, up, toward the camera."""
    forward, left, up = np.moveaxis(xyz, -1, 0)
    right = forward * np.sin(yaw) + left * np.cos(yaw)
    toward = forward * np.cos(yaw) - left * np.sin(yaw)
    s, c = np.sin(elevation), np.cos(elevation)
    return np.stack([right, up * c - toward * s, toward * c + up * s], axis=-1)
