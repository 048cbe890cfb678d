"""One shot of a video: a place, a camera, a light and people who do something; its frames and where the people are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic.actions import Action, draw_manner
from synthetic.figure import Shape, body_shape, draw_look, stool_shape

_OVERSAMPLING = 2  # shots are drawn this much larger, or thin limbs would flicker
_PAN = 0.15  # margin around the frame for the camera to move in, in frame heights
_SCALE = (0.48, 0.6)  # smallest and largest size of people, in frame heights a metre
_USUAL_AREA = 0.52  # square metres of a person in the frame
_CUT_OFF = 0.1  # largest fraction of a person's width or height outside of the frame
_PATTERN = (6, 18)  # grey levels of a pattern
_POSTERS = 2  # at most
_FREEDOM = 0.45  # fraction of the places where a person could be that are used, around the middle
_NOISE = 2.0  # grey levels
_STOOLS = 0.3  # fraction of people who stand beside a stool that they do not use


def _stripes(a: NDArray, b: NDArray) -> NDArray:
    return np.sin(a)


def _checks(a: NDArray, b: NDArray) -> NDArray:
    return np.sign(np.sin(a) * np.sin(b))


def _dots(a: NDArray, b: NDArray) -> NDArray:
    return 2.0 * ((np.sin(a) > 0.2) & (np.sin(b) > 0.2)) - 0.5


def _waves(a: NDArray, b: NDArray) -> NDArray:
    return np.sin(a + 1.5 * np.sin(b))


def _rings(a: NDArray, b: NDArray) -> NDArray:
    return np.sin(np.hypot(a, b))


def _bricks(a: NDArray, b: NDArray) -> NDArray:
    row = np.floor(a / np.pi)
    return 1.0 - 3.0 * ((np.mod(a, np.pi) < 0.6) | (np.mod(b / 2 + row * np.pi / 2, np.pi) < 0.3))


@dataclass(frozen=True)
class Domain:
    """The looks and places of a split: hues of clothes (0..180, OpenCV's) and patterns of walls and floors."""

    cloth_hues: tuple[int, int]
    patterns: tuple[Callable[[NDArray, NDArray], NDArray], ...]


TRAIN = Domain((0, 110), (_stripes, _checks, _dots, _waves))
TEST = Domain((110, 180), (_rings, _bricks))


@dataclass(frozen=True)
class Film:
    """Frames a second, and width and height in pixels."""

    frame_rate: int
    size: tuple[int, int]


@dataclass
class _Person:
    action: Action
    body: Shape
    feet: NDArray  # (N, 2) in oversampled pixels
    scale: float  # oversampled pixels a metre
    stool: Shape | None = None
    stool_feet: NDArray = field(default_factory=lambda: np.zeros((0, 2)))


class Shot:
    """A few seconds of people in one place; everything is drawn from `rng` in the constructor.

    Args:
        rng: numpy Generator.
        domain: of looks and places.
        actions: what each person does.
        num_frames: N.
    """

    def __init__(
        self, rng: np.random.Generator, domain: Domain, actions: list[Action], num_frames: int, film: Film
    ) -> None:
        self.actions, self.film, self.num_frames = actions, film, num_frames
        self.times_s = (np.arange(num_frames) + 0.5) / film.frame_rate
        self._height, self._width = (side * _OVERSAMPLING for side in film.size[::-1])
        self._drift = rng.uniform(-0.06, 0.06) * (self.times_s - num_frames / film.frame_rate / 2)  # frame heights
        self._elevation = rng.uniform(0.05, 0.3)
        places = rng.permutation(len(actions))
        self._people = [self._person(rng, domain, a, place) for a, place in zip(actions, places, strict=True)]
        self._place = self._paint_place(rng, domain)
        self._light = rng.uniform(0.65, 1.1) * rng.uniform(0.85, 1.15, 3)
        self._noise_seed = int(rng.integers(2**31))

    @property
    def boxes(self) -> NDArray:
        """Boxes of whole bodies, not cut at the border of the frame: (P, N, 4), XYXY in pixels."""
        boxes = []
        for person in self._people:
            left, low, right, high = person.scale * person.body.boxes().T
            x, y = person.feet.T
            boxes.append(np.stack([x + left - 1, y - high - 1, x + right + 1, y - low + 1], axis=1) / _OVERSAMPLING)
        return np.stack(boxes)

    def frames(self) -> Iterator[NDArray]:
        """Yield the N frames, uint8 (H, W, 3) RGB."""
        rng = np.random.default_rng(self._noise_seed)
        width, height = self.film.size
        noise = np.repeat(rng.normal(0, _NOISE, (height + 16, width + 16, 1)), 3, axis=-1).astype(np.int16)
        light = (*self._light.tolist(), 1.0)
        layers = [layer for person in sorted(self._people, key=lambda p: p.scale) for layer in _layers(person)]
        for frame in range(self.num_frames):
            image = self._background(frame)
            for person in self._people:
                _shadow(image, person.feet[frame], person.scale)
            for shape, outlines in layers:
                shape.draw(image, outlines, frame)
            image = cv2.multiply(cv2.resize(image, self.film.size, interpolation=cv2.INTER_AREA), light)
            y, x = rng.integers(0, 16, 2)
            yield cv2.add(image, noise[y : y + height, x : x + width], dtype=cv2.CV_8U)

    def mask(self, person: int, frame: int) -> NDArray:
        """uint8 (H, W): 255 where a person would be seen with nobody before them."""
        image = np.zeros((self._height, self._width), np.uint8)
        who = self._people[person]
        who.body.draw_mask(image, who.body.outlines(who.feet, who.scale), frame)
        return cv2.resize(image, self.film.size, interpolation=cv2.INTER_AREA)

    def _person(self, rng: np.random.Generator, domain: Domain, action: Action, place: int) -> _Person:
        look, manner, side = draw_look(rng, domain.cloth_hues), draw_manner(rng), rng.choice([-1, 1])
        yaw = side * rng.uniform(0.8, 1.5) if action.sideways else rng.uniform(-0.7, 0.7)
        bones, lift_m = action.poses(manner, self.times_s, self.num_frames / self.film.frame_rate)
        body = body_shape(look, bones, lift_m, yaw, self._elevation)
        # Bodies cover the same area whatever they do, or the amount of dark pixels would say what.
        scale = self._height * rng.uniform(*_SCALE) * np.sqrt(_USUAL_AREA / _area(body))
        box = body.boxes().mean(0) * scale
        left, low, right, high = box
        slot = self._width / len(self.actions)
        x = slot * place + _somewhere(rng, slot, right - left) - left
        y = _somewhere(rng, self._height, high - low) + high
        feet = np.stack([x + self._height * self._drift, np.full(self.num_frames, y)], axis=1)
        if action.name == "walk":
            feet[:, 0] += side * 0.9 * manner.rate_hz * scale * (self.times_s - self.times_s.mean())
        person = _Person(action, body, feet, scale)
        if action.seat or rng.random() < _STOOLS:
            beside = 0.0 if action.seat else rng.choice([-1, 1]) * rng.uniform(0.5, 0.9) * scale
            person.stool = stool_shape(look, self.num_frames, yaw, self._elevation)
            person.stool_feet = np.stack([x + beside + self._height * self._drift, feet[:, 1]], axis=1)
        return person

    def _paint_place(self, rng: np.random.Generator, domain: Domain) -> NDArray:
        """uint8 (H, W, 3), larger than the frame by _PAN on each side: a wall and a floor, each with its pattern."""
        lowest = min(person.feet[0, 1] for person in self._people) / self._height
        shape = [round(side + 2 * _PAN * self._height) for side in (self._height, self._width)]
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / self._height - _PAN
        horizon = lowest - rng.uniform(0.03, 0.3)
        wall, floor = (_surface(rng, domain, x, y) for _ in range(2))
        image = np.where((y > horizon)[..., None], floor, wall)
        for _ in range(rng.integers(_POSTERS + 1)):  # posters, windows, boxes
            corner = rng.uniform(-_PAN, 1.2, 2) * self._height
            end = corner + rng.uniform(0.08, 0.4, 2) * self._height
            cv2.rectangle(image, corner.astype(int), end.astype(int), _bright(rng).tolist(), -1)
        return np.clip(image, 0, 255).astype(np.uint8)

    def _background(self, frame: int) -> NDArray:
        shift = np.float32([[1, 0, (self._drift[frame] - _PAN) * self._height], [0, 1, -_PAN * self._height]])
        return cv2.warpAffine(self._place, shift, (self._width, self._height), flags=cv2.INTER_LINEAR)


def _layers(person: _Person) -> Iterator[tuple[Shape, NDArray]]:
    if person.stool is not None:
        yield person.stool, person.stool.outlines(person.stool_feet, person.scale)
    yield person.body, person.body.outlines(person.feet, person.scale)


def _area(body: Shape) -> float:
    """Square metres that a body covers, on average over a few frames."""
    pixels_a_metre, count = 24, len(body.centers)
    outlines = body.outlines(np.full((count, 2), [2.0, 3.0]) * pixels_a_metre, pixels_a_metre)
    covered = []
    for frame in range(0, count, max(count // 3, 1)):
        image = np.zeros((4 * pixels_a_metre, 4 * pixels_a_metre), np.uint8)
        body.draw_mask(image, outlines, frame)
        covered.append(np.count_nonzero(image > 127))
    return float(np.mean(covered)) / pixels_a_metre**2


def _somewhere(rng: np.random.Generator, room: float, length: float) -> float:
    """Beginning of an interval of some length, anywhere in [0, room] but for _CUT_OFF of it."""
    ends = -_CUT_OFF * length, room - (1 - _CUT_OFF) * length
    return sum(ends) / 2 + _FREEDOM * rng.uniform(-0.5, 0.5) * abs(ends[1] - ends[0])


def _surface(rng: np.random.Generator, domain: Domain, x: NDArray, y: NDArray) -> NDArray:
    """A bright colour with a pattern of any direction and width, float (H, W, 3)."""
    pattern = domain.patterns[rng.integers(len(domain.patterns))]
    angle, (wave, ratio) = rng.uniform(0, np.pi), (rng.uniform(0.05, 0.16), rng.uniform(0.7, 1.4))
    a = 2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wave + rng.uniform(0, 2 * np.pi)
    b = 2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / (wave * ratio)
    tint = rng.uniform(0.4, 1.0, 3) * rng.choice([-1, 1]) * rng.uniform(*_PATTERN)
    return _bright(rng) + pattern(a, b)[..., None] * tint


def _bright(rng: np.random.Generator) -> NDArray:
    return rng.uniform(160, 245) + rng.uniform(-35, 35, 3)


def _shadow(image: NDArray, feet: NDArray, scale: float) -> None:
    """Darken a soft disc on the ground, in place."""
    (x, y), (rx, ry) = np.rint(feet).astype(int).tolist(), (round(0.4 * scale), round(0.1 * scale))
    left, top = max(x - rx, 0), max(y - ry, 0)
    part = image[top : max(y + ry, 0), left : max(x + rx, 0)]
    if part.size:
        shade = np.full(part.shape, 255, np.uint8)
        cv2.ellipse(shade, (x - left, y - top), (rx, ry), 0, 0, 360, (190, 190, 190), -1, cv2.LINE_AA)
        cv2.multiply(part, shade, part, 1 / 255)
