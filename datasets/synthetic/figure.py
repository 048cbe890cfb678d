"""People as articulated figures: what one looks like, where its joints are, and the shapes that draw it.

Every part of a body (and of a stool) is the convex hull of one to four balls, seen from the camera: a limb is the hull
of two, the trunk of four.  Lengths are metres for a person 1.75 m tall and scale with the height.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .actions import BONES

_SKIN = ((255, 219, 190), (241, 194, 155), (224, 172, 125), (176, 120, 80), (125, 82, 54), (92, 60, 42))
_HAIR = ((35, 28, 24), (74, 50, 32), (120, 80, 45), (205, 170, 105), (150, 60, 35), (170, 170, 172), (235, 235, 235))
_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 12, endpoint=False)) for f in (np.cos, np.sin)], axis=-1)
_SHIFT = 4  # fractional bits of the coordinates given to OpenCV
_SEAT_FORWARD_M, _SEAT_HEIGHT_M = -0.33, 0.40  # of a stool, from the feet of who stands before it


@dataclass(frozen=True)
class Look:
    """What a person looks like: height in metres, build (1 is average), style and RGB colours by name."""

    height_m: float
    build: float
    hair: str  # "short", "long", "bald" or "hat"
    long_sleeves: bool
    skirt: bool
    colors: dict


def draw_look(rng):
    """Draw a `Look` from a numpy Generator."""
    skin = _SKIN[rng.integers(len(_SKIN))]
    top, bottom, hat = (_cloth_color(rng) for _ in range(3))
    hair = str(rng.choice(["short", "long", "bald", "hat"], p=[0.45, 0.3, 0.08, 0.17]))
    colors = {
        "skin": np.array(skin, dtype=np.float64),
        "nose": np.array(skin) * 0.85,
        "eye": np.array([30.0, 25.0, 25.0]),
        "hair": hat if hair == "hat" else np.array(_HAIR[rng.integers(len(_HAIR))], dtype=np.float64),
        "top": top,
        "bottom": bottom,
        "shoe": _cloth_color(rng) * 0.6,
    }
    return Look(
        height_m=rng.uniform(1.45, 1.9),
        build=rng.uniform(0.85, 1.3),
        hair=hair,
        long_sleeves=bool(rng.random() < 0.6),
        skirt=bool(rng.random() < 0.2),
        colors=colors,
    )


def _cloth_color(rng):
    hue, saturation, value = rng.integers(180), rng.integers(30, 230), rng.integers(70, 245)
    return cv2.cvtColor(np.uint8([[[hue, saturation, value]]]), cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)


@dataclass(frozen=True)
class Shape:
    """Parts ready to be drawn, over N frames and P parts of K balls each.

    Attributes:
        centers: (N, P, K, 3) metres: right, up, toward the camera; the place where the person stands is the origin.
        radii: (P, K) metres.
        order: (N, P) indices of the parts, the farthest first.
        shades: (N, P, 3) RGB, darker where a part is far from the camera.
        edged: (P,) bool: drawn with a darker edge.
    """

    centers: np.ndarray
    radii: np.ndarray
    order: np.ndarray
    shades: np.ndarray
    edged: np.ndarray


def body_shape(look, bones, lift_m, yaw, elevation):
    """The body of a person at every frame.

    Args:
        look: Look.
        bones: (N, len(BONES), 3) unit vectors from `actions.poses`.
        lift_m: (N,) height of the feet over the ground in metres.
        yaw: (N,) radians; 0 faces the camera, positive to the right of the picture.
        elevation: radians by which the camera looks down.
    Returns:
        Shape
    """
    joints = _joints(look, bones, lift_m)
    parts = _body_parts(look)
    return _shape(joints, parts, look.colors, look.height_m / 1.75, yaw, elevation)


def stool_shape(color, height_m, yaw, elevation):
    """A stool behind the feet of a person of some height who can sit down on it; yaw (N,) as of `body_shape`."""
    corners = {
        f"{high}{i}": np.array([_SEAT_FORWARD_M + x, y, z])
        for high, z in (("seat", _SEAT_HEIGHT_M), ("floor", 0.02))
        for i, (x, y) in enumerate(((0.17, 0.17), (0.17, -0.17), (-0.17, -0.17), (-0.17, 0.17)))
    }
    joints = {name: np.broadcast_to(xyz, (len(yaw), 3)) for name, xyz in corners.items()}
    parts = [("leg", [(f"seat{i}", 0.03), (f"floor{i}", 0.02)]) for i in range(4)]
    parts.append(("seat", [(f"seat{i}", 0.04) for i in range(4)]))
    return _shape(joints, parts, {"leg": color * 0.6, "seat": color}, height_m / 1.75, yaw, elevation)


def _joints(look, bones, lift_m):
    """Joint name -> (N, 3) metres: forward, left, up; the feet on the ground around the origin."""
    size = look.height_m / 1.75
    bone = {name: bones[:, i] for i, name in enumerate(BONES)}
    left = np.array([0.0, 1.0, 0.0])
    joints = {"pelvis": np.zeros((len(bones), 3)), "neck": 0.50 * size * bone["torso"]}
    joints["head"] = joints["neck"] + 0.21 * size * bone["head"]
    for side, out in (("l", left), ("r", -left)):
        joints[f"hip_{side}"] = 0.10 * size * look.build * out + joints["pelvis"]
        joints[f"shoulder_{side}"] = joints["neck"] + size * (0.19 * (0.5 + 0.5 * look.build) * out)
        chain = (
            ("hip", "knee", "thigh", 0.44), ("knee", "ankle", "shin", 0.43), ("ankle", "toe", "foot", 0.17),
            ("shoulder", "elbow", "upper_arm", 0.29), ("elbow", "wrist", "forearm", 0.25),
            ("wrist", "hand", "forearm", 0.07),
        )  # fmt: skip
        for start, end, along, length in chain:
            joints[f"{end}_{side}"] = joints[f"{start}_{side}"] + length * size * bone[f"{along}_{side}"]
    feet = np.stack([joints[f"{j}_{s}"] for j in ("ankle", "toe") for s in "lr"])
    origin = np.zeros((len(bones), 3))
    origin[:, 0] = feet[:2, :, 0].mean(0)
    origin[:, 2] = feet[:, :, 2].min(0) - 0.05 * size - lift_m
    head = joints["head"] - origin
    face = {"face": (0.02, 0, 0), "hair": (-0.03, 0, 0.035), "nape": (-0.06, 0, -0.17), "nose": (0.135, 0, -0.01)}
    face |= {"eye_l": (0.115, 0.045, 0.02), "eye_r": (0.115, -0.045, 0.02), "brim": (0.17, 0, 0.05)}
    return {name: xyz - origin for name, xyz in joints.items()} | {
        name: head + size * np.array(offset) for name, offset in face.items()
    }


def _body_parts(look):
    """Parts of a body: (colour name, [(joint, radius), ...])."""
    b = look.build
    sleeve = "top" if look.long_sleeves else "skin"
    leg = "skin" if look.skirt else "bottom"
    parts = [
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


def _shape(joints, parts, colors, size, yaw, elevation):
    count = max(len(balls) for _, balls in parts)
    padded = [(name, balls + [balls[-1]] * (count - len(balls))) for name, balls in parts]
    local = np.stack([np.stack([joints[j] for j, _ in balls], axis=1) for _, balls in padded], axis=1)
    centers = _to_camera(local, yaw, elevation)
    toward = centers[..., 2].mean(-1)
    shade = np.clip(1.0 + 0.6 * toward, 0.72, 1.1)
    return Shape(
        centers=centers,
        radii=size * np.array([[radius for _, radius in balls] for _, balls in padded]),
        order=np.argsort(toward, axis=1, kind="stable"),
        shades=np.clip(shade[..., None] * np.stack([colors[name] for name, _ in padded]), 0, 255),
        edged=np.array([name not in ("eye", "nose") for name, _ in padded]),
    )


def _to_camera(xyz, yaw, elevation):
    """(N, P, K, 3) forward, left, up -> right, up, toward the camera."""
    forward, left, up = np.moveaxis(xyz, -1, 0)
    sin, cos = np.sin(yaw)[:, None, None], np.cos(yaw)[:, None, None]
    right, toward = forward * sin + left * cos, forward * cos - left * sin
    s, c = np.sin(elevation), np.cos(elevation)
    return np.stack([right, up * c - toward * s, toward * c + up * s], axis=-1)


def project(shape, feet, scale):
    """Balls of a Shape in the picture.

    Args:
        feet: (N, 2) where the person stands, x and y in pixels.
        scale: (N,) pixels a metre.
    Returns:
        (xy, radii): (N, P, K, 2) and (N, P, K), in pixels.
    """
    scale = np.asarray(scale)[:, None, None]
    xy = shape.centers[..., :2] * np.array([1.0, -1.0]) * scale[..., None] + feet[:, None, None]
    return xy, shape.radii * scale


def extent(xy, radii):
    """Smallest boxes (N, 4), XYXY absolute, around the balls of `project`."""
    low = (xy - radii[..., None]).min(axis=(1, 2))
    high = (xy + radii[..., None]).max(axis=(1, 2))
    return np.concatenate([low, high], axis=1)


def outlines(xy, radii):
    """Points (N, P, K * 12, 2) int32 around all balls, as `draw` takes them: fixed point, pixel centers at integers."""
    points = xy[..., None, :] - 0.5 + radii[..., None, None] * _CIRCLE
    return np.rint(points.reshape(*points.shape[:2], -1, 2) * (1 << _SHIFT)).astype(np.int32)


def draw(image, points, shape, frame):
    """Draw one frame of a Shape into an image, in place, farther parts first.

    Args:
        image: uint8 (H, W, 3) RGB.
        points: `outlines` of the shape.
    """
    for part in shape.order[frame]:
        hull = cv2.convexHull(points[frame, part])
        color = shape.shades[frame, part]
        cv2.fillConvexPoly(image, hull, color.tolist(), cv2.LINE_AA, _SHIFT)
        if shape.edged[part]:
            cv2.polylines(image, [hull], True, (0.65 * color).tolist(), 1, cv2.LINE_AA, _SHIFT)


def draw_mask(image, points, shape, frame):
    """Paint one frame of a Shape white into an image, uint8 (H, W), in place."""
    for part in shape.order[frame]:
        cv2.fillConvexPoly(image, cv2.convexHull(points[frame, part]), 255, cv2.LINE_AA, _SHIFT)
