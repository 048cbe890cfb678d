"""One shot: people with scripts before one camera, as frames, boxes and masks."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from . import figure
from .actions import poses
from .scene import MARGIN, paint_scene

_OVERSAMPLING = 2  # a frame is drawn this much larger, then averaged down
_NOISE = 1.5  # of the camera, grey levels
_CAMERA_HEIGHT_M = 1.25
_WALK_M_PER_STEP = 1.7  # times sin(angle of the thighs): two legs of 0.87 m


@dataclass(frozen=True)
class Actor:
    """A person in a shot.

    Attributes:
        look, manner: figure.Look and actions.Manner.
        script: list[actions.Segment] on the shot's clock.
        place: where the person stands, 0 (left end of what the camera always sees) to 1 (right end).
        heading: radians, where the person faces at rest; walks to that side first.
        scale: picture heights a metre; larger is nearer.
        stool: RGB, or None without one.
    """

    look: figure.Look
    manner: object
    script: list
    place: float
    heading: float
    scale: float
    stool: np.ndarray | None


@dataclass(frozen=True)
class Camera:
    """Slow movement of a camera, as sums of sines: amplitude, rate in Hz and phase of (x, y, zoom, roll)."""

    zoom: float
    amplitudes: np.ndarray  # (4, 2)
    rates: np.ndarray  # (4, 2)
    phases: np.ndarray  # (4, 2)

    def offsets(self, times_s):
        """(N, 4): shift right and down in picture heights, factor of the zoom, roll in radians."""
        angle = 2 * np.pi * self.rates * times_s[:, None, None] + self.phases
        return (self.amplitudes * np.sin(angle)).sum(-1)


def still_camera(rng):
    """Draw a `Camera` that does not move."""
    return Camera(
        zoom=rng.uniform(0.95, 1.05), amplitudes=np.zeros((4, 2)), rates=np.zeros((4, 2)), phases=np.zeros((4, 2))
    )


def draw_camera(rng):
    """Draw a `Camera`: a slow drift and, on top, some shake of the hand."""
    steady = rng.random() < 0.3
    slow = np.array([0.05, 0.025, 0.06, 0.015]) * rng.uniform(0.2, 1.0, 4)
    shake = np.array([0.004, 0.004, 0.0, 0.003]) * (0.0 if steady else rng.uniform(0, 1.5))
    return Camera(
        zoom=rng.uniform(0.95, 1.12),
        amplitudes=np.stack([slow, shake], axis=1),
        rates=np.stack([rng.uniform(0.05, 0.3, 4), rng.uniform(2, 5, 4)], axis=1),
        phases=rng.uniform(0, 2 * np.pi, (4, 2)),
    )


@dataclass(frozen=True)
class Light:
    """Light over a shot: a tint, slow changes, flicker, and perhaps a lamp that goes on or off."""

    tint: np.ndarray  # (3,) factors of R, G, B
    swell: float
    rate: float
    flicker: float
    switch_s: float
    switched: float

    def gains(self, times_s, rng):
        """(N, 3) factors of R, G, B."""
        gain = 1 + self.swell * np.sin(2 * np.pi * self.rate * times_s) + rng.normal(0, self.flicker, len(times_s))
        return (gain * np.where(times_s > self.switch_s, self.switched, 1.0))[:, None] * self.tint


def steady_light(rng):
    """Draw a `Light` that does not change."""
    return Light(
        tint=np.full(3, rng.uniform(0.85, 1.1)), swell=0.0, rate=0.0, flicker=0.0, switch_s=np.inf, switched=1.0
    )


def draw_light(rng):
    """Draw a `Light` from a numpy Generator."""
    return Light(
        tint=rng.uniform(0.75, 1.15) * rng.uniform(0.92, 1.08, 3),
        swell=rng.uniform(0.0, 0.1),
        rate=rng.uniform(0.1, 0.5),
        flicker=rng.choice([0.0, 0.005, 0.02]),
        switch_s=rng.uniform(0.3, 3.0) if rng.random() < 0.25 else np.inf,
        switched=rng.choice([0.75, 1.25]),
    )


class Shot:
    """Frames, boxes and masks of one shot.

    Args:
        actors: list[Actor].
        camera, light: Camera and Light.
        setting: kind of place, see `scene.paint_scene`.
        seed: of the place and the noise.
        num_frames: frames.
        frame_rate: frames a second.
        size: (width, height) of the picture in pixels.
    """

    def __init__(self, actors, camera, light, *, setting, seed, num_frames, frame_rate, size):
        self.actors, self.camera, self.light = actors, camera, light
        self.setting, self.seed, self.size = setting, seed, size
        self.times_s = np.arange(num_frames) / frame_rate
        self.pixels = size[1] * _OVERSAMPLING

    def __len__(self):
        return len(self.times_s)

    @cached_property
    def boxes(self):
        """(num_actors, N, 4) float64: whole bodies, XYXY absolute in pixels, not cut at the picture's border."""
        edge = np.array([-1.0, -1.0, 1.0, 1.0])  # what smooth edges add
        return np.stack([figure.extent(xy, radii) + edge for xy, radii in self._projected]) / _OVERSAMPLING

    def frames(self):
        """Yield the N frames, uint8 (H, W, 3) RGB."""
        rng = np.random.default_rng([self.seed, 1])
        gains = self.light.gains(self.times_s, rng)
        width, height = self.size
        noise = np.repeat(rng.normal(0, _NOISE, (height + 32, width + 32, 1)), 3, axis=-1).astype(np.int16)
        for frame, gain in enumerate(gains.tolist()):
            image = cv2.resize(self._draw(frame), self.size, interpolation=cv2.INTER_AREA)
            y, x = rng.integers(0, 32, 2)
            lit = cv2.multiply(image, (*gain, 1.0))
            yield cv2.add(lit, noise[y : y + height, x : x + width], dtype=cv2.CV_8U)

    def mask(self, actor, frame):
        """uint8 (H, W): 255 where an actor's body would be seen with nobody and nothing before it."""
        image = np.zeros((self.pixels, self.size[0] * _OVERSAMPLING), np.uint8)
        figure.draw_mask(image, self._outlines[actor], self._bodies[actor], frame)
        return cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)

    def _draw(self, frame):
        width = self.size[0] * _OVERSAMPLING
        matrix = self._matrices[frame].copy()
        matrix[:, 2] -= matrix[:, :2] @ np.full(2, MARGIN * self.pixels)
        image = cv2.warpAffine(self._background, matrix, (width, self.pixels), flags=cv2.INTER_NEAREST)
        for i in np.argsort([actor.scale for actor in self.actors], kind="stable"):
            _draw_shadow(image, self._feet[i, frame], self._scales[i, frame])
            if self._stools[i] is not None:
                shape, points = self._stools[i]
                figure.draw(image, points, shape, frame)
            figure.draw(image, self._outlines[i], self._bodies[i], frame)
        return image

    @cached_property
    def _scene(self):
        rng = np.random.default_rng([self.seed, 0])
        return paint_scene(rng, self.setting, self.size[0] / self.size[1], self.pixels)

    @property
    def _background(self):
        return self._scene[0]

    @cached_property
    def _matrices(self):
        """(N, 2, 3): from the picture at rest to the picture, both in (oversampled) pixels."""
        right, down, zoom, roll = self.camera.offsets(self.times_s).T
        center = np.array([self.size[0], self.size[1]]) * _OVERSAMPLING / 2
        scale = self.camera.zoom * (1 + zoom)
        turn = np.stack([np.cos(roll), -np.sin(roll), np.sin(roll), np.cos(roll)], axis=1).reshape(-1, 2, 2)
        turn *= scale[:, None, None]
        shift = center - np.stack([right, down], axis=1) * self.pixels * scale[:, None] - turn @ center
        return np.concatenate([turn, shift[:, :, None]], axis=2)

    @cached_property
    def _reach(self):
        """Left and right end, in picture heights at rest, of where a person is in the picture all through the shot."""
        inverse = np.linalg.inv(self._matrices[:, :, :2])
        corners = np.array([[0.0, 0.8 * self.pixels], [self.size[0] * _OVERSAMPLING, 0.8 * self.pixels]])
        ends = np.einsum("nij,nkj->nki", inverse, corners[None] - self._matrices[:, None, :, 2])[..., 0] / self.pixels
        return ends[:, 0].max() + 0.16, ends[:, 1].min() - 0.16

    @cached_property
    def _bodies(self):
        return [
            figure.body_shape(actor.look, bones, lift_m, yaw, self._elevation)
            for actor, (bones, lift_m, _), (_, yaw) in zip(self.actors, self._poses, self._paths, strict=True)
        ]

    @property
    def _elevation(self):
        return np.arctan2(self._scene[1] - 0.25, 1.0)

    @cached_property
    def _poses(self):
        return [poses(actor.script, actor.manner, self.times_s) for actor in self.actors]

    @cached_property
    def _paths(self):
        return [self._path(actor, walking) for actor, (_, _, walking) in zip(self.actors, self._poses, strict=True)]

    def _path(self, actor, walking):
        """Place (N,) in picture heights and yaw (N,) of a person who turns back at the ends of the camera's reach."""
        low, high = self._reach
        x, yaw, side = low + actor.place * (high - low), actor.heading, np.sign(actor.heading) or 1.0
        step_s = self.times_s[1] - self.times_s[0] if len(self) > 1 else 0.0
        speed = _WALK_M_PER_STEP * 2 * np.sin(actor.manner.walk_angle) * actor.manner.walk_rate * actor.scale
        places, yaws = [], []
        for share in walking:
            if (side > 0 and x > high) or (side < 0 and x < low):
                side = -side
            aim = side * 1.35 if share > 0.2 else actor.heading
            yaw += np.clip(aim - yaw, -6.0 * step_s, 6.0 * step_s)
            x += speed * share * np.sin(yaw) * step_s
            places.append(x)
            yaws.append(yaw)
        return np.array(places), np.array(yaws)

    @cached_property
    def _feet(self):
        """(num_actors, N, 2) pixels."""
        feet = []
        for actor, (x, _) in zip(self.actors, self._paths, strict=True):
            y = self._scene[1] + _CAMERA_HEIGHT_M * actor.scale
            rest = np.stack([x, np.full_like(x, y)], axis=1) * self.pixels
            feet.append(np.einsum("nij,nj->ni", self._matrices[:, :, :2], rest) + self._matrices[:, :, 2])
        return np.stack(feet)

    @cached_property
    def _scales(self):
        """(num_actors, N) pixels a metre."""
        zoom = np.linalg.norm(self._matrices[:, 0, :2], axis=1)
        return np.stack([actor.scale * self.pixels * zoom for actor in self.actors])

    @cached_property
    def _projected(self):
        return [figure.project(*each) for each in zip(self._bodies, self._feet, self._scales, strict=True)]

    @cached_property
    def _outlines(self):
        return [figure.outlines(xy, radii) for xy, radii in self._projected]

    @cached_property
    def _stools(self):
        stools = []
        for actor, (_, yaw), feet, scale in zip(self.actors, self._paths, self._feet, self._scales, strict=True):
            if actor.stool is None:
                stools.append(None)
                continue
            still = np.full_like(yaw, actor.heading)
            shape = figure.stool_shape(actor.stool, actor.look.height_m, still, self._elevation)
            stools.append((shape, figure.outlines(*figure.project(shape, feet, scale))))
        return stools


def _draw_shadow(image, feet, scale):
    """Darken a soft disc on the ground, in place."""
    rx, ry = round(0.34 * scale), round(0.09 * scale)
    x, y = (round(float(v)) for v in feet)
    x1, y1 = max(x - rx, 0), max(y - ry, 0)
    part = image[y1 : max(y + ry, 0), x1 : max(x + rx, 0)]
    if part.size:
        shade = np.full(part.shape[:2], 255, np.uint8)
        cv2.ellipse(shade, (x - x1, y - y1), (rx, ry), 0, 0, 360, 165, -1, cv2.LINE_AA)
        cv2.multiply(part, cv2.cvtColor(shade, cv2.COLOR_GRAY2RGB), part, 1 / 255)
