"""Where people are: rooms and outdoor places with objects, drawn once for a shot.

A place is painted in units of the picture's height: (0, 0) is the upper left corner of the camera's picture at rest,
(aspect, 1) the lower right.  The painting reaches MARGIN beyond it on every side, for the camera to move.
"""

import cv2
import numpy as np

MARGIN = 0.3
_SHIFT = 4


def paint_scene(rng, setting, aspect, pixels):
    """Paint a random place.

    Args:
        rng: numpy Generator.
        setting: "studio" (an empty room) or "places" (rooms, parks, streets and shores full of things).
        aspect: width / height of the picture.
        pixels: pixels for a picture's height.
    Returns:
        (image, horizon): uint8 (H, W, 3) RGB of (1 + 2 MARGIN) * pixels rows; height of the horizon in the picture,
        0 (top) to 1.
    """
    canvas = _Canvas(rng, aspect, pixels)
    horizon = rng.uniform(0.34, 0.44)
    paint = _studio if setting == "studio" else (_room, _room, _park, _street, _shore)[rng.integers(5)]
    paint(canvas, horizon)
    canvas.grain(3.0)
    return canvas.image, horizon


class _Canvas:
    """An image with OpenCV's drawing calls in picture units."""

    def __init__(self, rng, aspect, pixels):
        self.rng, self.aspect, self.pixels = rng, aspect, pixels
        height, width = round((1 + 2 * MARGIN) * pixels), round((aspect + 2 * MARGIN) * pixels)
        self.image = np.zeros((height, width, 3), np.uint8)
        self.left, self.right, self.top, self.bottom = -MARGIN, aspect + MARGIN, -MARGIN, 1 + MARGIN

    def to_pixels(self, points):
        return (np.asarray(points, dtype=np.float64) + MARGIN) * self.pixels

    def polygon(self, points, color):
        fixed = np.rint(self.to_pixels(points) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(self.image, [fixed], _rgb(color), cv2.LINE_AA, _SHIFT)

    def box(self, x1, y1, x2, y2, color):
        self.polygon([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], color)

    def disc(self, x, y, rx, ry, color):
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        self.polygon(np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1), color)

    def line(self, a, b, color, width=0.006):
        (x1, y1), (x2, y2) = np.rint(self.to_pixels([a, b])).astype(int).tolist()
        cv2.line(self.image, (x1, y1), (x2, y2), _rgb(color), max(1, round(width * self.pixels)), cv2.LINE_AA)

    def gradient(self, y1, y2, top, bottom):
        """Fill a band across the whole width with a vertical gradient."""
        first, last = np.clip(np.rint(self.to_pixels([y1, y2])).astype(int), 0, len(self.image))
        share = np.linspace(0, 1, max(last - first, 1))[:, None, None]
        rows = np.asarray(top) * (1 - share) + np.asarray(bottom) * share
        self.image[first:last] = np.clip(rows, 0, 255)[: last - first].astype(np.uint8)

    def texture(self, y1, y2, strength, cells):
        """Add smooth random blotches of `strength` grey levels, about `cells` of them across, to a band."""
        first, last = np.clip(np.rint(self.to_pixels([y1, y2])).astype(int), 0, len(self.image))
        band = self.image[first:last]
        coarse = self.rng.normal(0, strength, (max(2, cells // 2), cells)).astype(np.float32)
        noise = cv2.resize(coarse, band.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        self.image[first:last] = np.clip(band + noise[..., None], 0, 255).astype(np.uint8)

    def grain(self, strength):
        noise = self.rng.normal(0, strength, self.image.shape[:2]).astype(np.float32)
        self.image = np.clip(self.image + noise[..., None], 0, 255).astype(np.uint8)


def _rgb(color):
    return tuple(float(c) for c in np.clip(color, 0, 255))


def _color(rng, saturation, value):
    hsv = np.uint8([[[rng.integers(180), rng.uniform(*saturation), rng.uniform(*value)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)


def _studio(c, horizon):
    wall = _color(c.rng, (5, 60), (150, 245))
    base = horizon + c.rng.uniform(0.26, 0.32)
    c.gradient(c.top, base, wall, wall * 0.93)
    c.gradient(base, c.bottom, wall * 0.8, wall * 0.7)


def _room(c, horizon):
    rng, wall = c.rng, _color(c.rng, (10, 110), (120, 235))
    base = horizon + rng.uniform(0.26, 0.32)  # where wall and floor meet
    c.gradient(c.top, base, wall * 1.05, wall * 0.85)
    _wallpaper(c, wall, base)
    _floor(c, horizon, base)
    c.box(c.left, base - 0.025, c.right, base, np.minimum(wall * 1.25, 250))
    objects = (_window, _pictures, _door, _bookshelf, _sofa, _plant, _lamp, _curtain)
    x = c.left + rng.uniform(0.0, 0.15)
    while x < c.right - 0.1:
        x += objects[rng.integers(len(objects))](c, x, base) + rng.uniform(0.04, 0.3)


def _wallpaper(c, wall, base):
    rng, kind = c.rng, c.rng.integers(4)
    tone = wall * rng.choice([0.86, 0.92, 1.1])
    if kind == 0:
        width = rng.uniform(0.03, 0.1)
        for x in np.arange(c.left, c.right, 2 * width):
            c.box(x, c.top, x + width, base, tone)
    elif kind == 1:
        height, width = 0.045, 0.11
        for row, y in enumerate(np.arange(c.top, base, height)):
            c.line((c.left, y), (c.right, y), tone)
            for x in np.arange(c.left + (row % 2) * width / 2, c.right, width):
                c.line((x, y), (x, min(y + height, base)), tone)
    elif kind == 2:
        step = rng.uniform(0.07, 0.12)
        for row, y in enumerate(np.arange(c.top, base, step)):
            for x in np.arange(c.left + (row % 2) * step / 2, c.right, step):
                c.disc(x, y, 0.15 * step, 0.15 * step, tone)
    c.texture(c.top, base, 5, 24)


def _floor(c, horizon, base):
    rng, floor = c.rng, _color(c.rng, (20, 130), (80, 190))
    c.gradient(base, c.bottom, floor * 0.9, floor * 1.1)
    center = c.aspect * rng.uniform(0.3, 0.7)
    if rng.random() < 0.7:  # boards, or tiles with rows too
        for x in np.arange(-4, 4.01, rng.uniform(0.15, 0.4)):
            away = (base - horizon) / (c.bottom - horizon)
            c.line((center + x * away, base), (center + x, c.bottom), floor * 0.8)
        if rng.random() < 0.5:
            for depth in 1.0 / np.arange(0.2, 1.0, 0.12):
                y = horizon + (base - horizon) * depth
                c.line((c.left, y), (c.right, y), floor * 0.8)
    if rng.random() < 0.4:
        rug, x, y = _color(rng, (60, 200), (80, 220)), rng.uniform(0.2, 0.8) * c.aspect, base + 0.2
        c.disc(x, y, 0.5, 0.11, rug * 0.8)
        c.disc(x, y, 0.45, 0.095, rug)
    c.texture(base, c.bottom, 6, 30)


def _window(c, x, base):
    width, height, top = c.rng.uniform(0.25, 0.4), c.rng.uniform(0.3, 0.4), base - c.rng.uniform(0.55, 0.62)
    frame, sky = (235, 232, 225), np.array([150.0, 195.0, 235.0]) * c.rng.uniform(0.5, 1.0)
    c.box(x - 0.02, top - 0.02, x + width + 0.02, top + height + 0.02, frame)
    c.box(x, top, x + width, top + height, sky)
    c.polygon([(x, top + height), (x, top + 0.7 * height), (x + 0.4 * width, top + 0.55 * height),
               (x + width, top + 0.75 * height), (x + width, top + height)], sky * (0.5, 0.7, 0.4))  # fmt: skip
    c.line((x + width / 2, top), (x + width / 2, top + height), frame, 0.012)
    c.line((x, top + height / 2), (x + width, top + height / 2), frame, 0.012)
    return width


def _pictures(c, x, base):
    width = 0.0
    for _ in range(c.rng.integers(1, 4)):
        w, h, top = c.rng.uniform(0.08, 0.2), c.rng.uniform(0.08, 0.18), base - c.rng.uniform(0.42, 0.55)
        c.box(x + width, top, x + width + w, top + h, _color(c.rng, (20, 160), (40, 120)))
        c.box(
            x + width + 0.012, top + 0.012, x + width + w - 0.012, top + h - 0.012, _color(c.rng, (40, 220), (120, 250))
        )
        c.disc(x + width + w / 2, top + h / 2, w / 5, h / 5, _color(c.rng, (40, 220), (60, 250)))
        width += w + 0.04
    return width


def _door(c, x, base):
    color = _color(c.rng, (30, 150), (70, 220))
    c.box(x - 0.015, base - 0.6, x + 0.265, base, color * 0.7)
    c.box(x, base - 0.585, x + 0.25, base, color)
    for y in (0.54, 0.26):
        c.box(x + 0.04, base - y, x + 0.21, base - y + 0.2, color * 0.88)
    c.disc(x + 0.225, base - 0.29, 0.012, 0.012, (230, 200, 90))
    return 0.27


def _bookshelf(c, x, base):
    wood, width, rows = _color(c.rng, (60, 140), (60, 160)), c.rng.uniform(0.2, 0.4), c.rng.integers(3, 5)
    top = base - 0.13 * rows
    c.box(x, top, x + width, base, wood * 0.6)
    for row in range(rows):
        shelf, at = top + 0.13 * (row + 1), x + 0.015
        while at < x + width - 0.04:
            thick, tall = c.rng.uniform(0.015, 0.035), c.rng.uniform(0.06, 0.105)
            c.box(at, shelf - tall, at + thick, shelf, _color(c.rng, (60, 220), (60, 230)))
            at += thick + (c.rng.random() < 0.15) * 0.03
        c.box(x, shelf - 0.008, x + width, shelf + 0.008, wood)
    return width


def _sofa(c, x, base):
    color, width = _color(c.rng, (40, 200), (70, 210)), c.rng.uniform(0.4, 0.55)
    c.box(x, base - 0.22, x + width, base + 0.01, color * 0.85)
    c.box(x + 0.03, base - 0.12, x + width - 0.03, base, color)
    for side in (x - 0.03, x + width - 0.03):
        c.box(side, base - 0.16, side + 0.06, base + 0.015, color * 0.7)
    c.disc(x + 0.1, base - 0.14, 0.045, 0.045, _color(c.rng, (80, 220), (100, 240)))
    return width


def _plant(c, x, base):
    green = np.array([60.0, 130.0, 60.0]) * c.rng.uniform(0.7, 1.2)
    for angle in np.linspace(-1.1, 1.1, 9):
        tip = (x + 0.08 + 0.17 * np.sin(angle), base - 0.1 - 0.2 * np.cos(angle) * c.rng.uniform(0.8, 1.3))
        c.polygon([(x + 0.06, base - 0.08), tip, (x + 0.1, base - 0.08)], green * c.rng.uniform(0.75, 1.15))
    c.polygon([(x + 0.03, base - 0.1), (x + 0.13, base - 0.1), (x + 0.115, base + 0.01), (x + 0.045, base + 0.01)],
              _color(c.rng, (60, 180), (90, 200)))  # fmt: skip
    return 0.16


def _lamp(c, x, base):
    c.line((x + 0.08, base - 0.45), (x + 0.08, base), (60, 55, 50), 0.012)
    c.disc(x + 0.08, base + 0.003, 0.05, 0.012, (60, 55, 50))
    c.polygon([(x + 0.05, base - 0.57), (x + 0.11, base - 0.57), (x + 0.16, base - 0.43), (x, base - 0.43)],
              _color(c.rng, (20, 120), (200, 250)))  # fmt: skip
    return 0.16


def _curtain(c, x, base):
    color, width = _color(c.rng, (40, 200), (90, 220)), c.rng.uniform(0.15, 0.3)
    for i, left in enumerate(np.arange(x, x + width, 0.03)):
        c.box(left, c.top, left + 0.03, base - 0.02, color * (0.8 if i % 2 else 1.0))
    return width


def _sky(c, low):
    rng = c.rng
    top, bottom = (
        ((70, 130, 215), (180, 215, 245)),
        ((150, 165, 185), (205, 210, 215)),
        ((85, 90, 150), (245, 175, 130)),
        ((40, 50, 95), (130, 120, 150)),
    )[rng.choice(4, p=[0.5, 0.2, 0.2, 0.1])]
    c.gradient(c.top, low, top, bottom)
    if rng.random() < 0.4:
        x, y = rng.uniform(c.left, c.right), rng.uniform(-0.1, 0.15)
        c.disc(x, y, 0.05, 0.05, (255, 240, 190))
    for _ in range(rng.integers(0, 5)):
        x, y, tone = rng.uniform(c.left, c.right), rng.uniform(-0.1, 0.2), rng.uniform(0.6, 1.0)
        for _ in range(4):
            c.disc(x + rng.uniform(-0.1, 0.1), y + rng.uniform(-0.02, 0.02), rng.uniform(0.05, 0.1), 0.03,
                   tone * np.array(bottom) * 0.3 + tone * 178.0)  # fmt: skip


def _hills(c, base, color, height):
    x = np.linspace(c.left, c.right, 60)
    y = base - height * (0.5 + sum(np.sin(x * f + c.rng.uniform(0, 6)) / f for f in (2.0, 4.5, 9.0)) * 0.8)
    c.polygon([(c.left, base + 0.05), *zip(x, y, strict=True), (c.right, base + 0.05)], color)


def _ground(c, base, color):
    c.gradient(base, c.bottom, np.asarray(color) * 0.85, np.asarray(color) * 1.1)
    c.texture(base, c.bottom, 9, 20)
    c.texture(base, c.bottom, 8, 110)


def _park(c, horizon):
    rng, base = c.rng, horizon + c.rng.uniform(0.1, 0.2)
    green = np.array([85.0, 145.0, 65.0]) * rng.uniform(0.6, 1.25) + rng.uniform(-15, 15, 3)
    _sky(c, base)
    _hills(c, base, green * (0.75, 0.85, 1.1), rng.uniform(0.05, 0.25))
    _ground(c, base, green)
    if rng.random() < 0.5:
        x = rng.uniform(0.1, 0.9) * c.aspect
        c.polygon([(x - 0.03, base), (x + 0.03, base), (x + 0.9, c.bottom), (x - 0.6, c.bottom)], (190, 170, 135))
    for _ in range(rng.integers(3, 9)):
        _tree(c, rng.uniform(c.left, c.right), base + rng.uniform(-0.01, 0.1), rng.uniform(0.2, 0.45), green)
    if rng.random() < 0.5:
        _fence(c, base + 0.08)


def _tree(c, x, base, height, green):
    leaf = green * c.rng.uniform(0.55, 0.95) * (c.rng.uniform(0.8, 1.5), 1, c.rng.uniform(0.6, 1))
    c.box(x - 0.05 * height, base - 0.5 * height, x + 0.05 * height, base, (95, 70, 48))
    if c.rng.random() < 0.35:
        for share in (0.2, 0.45, 0.7):
            y, half = base - share * height, 0.32 * height * (1.1 - share)
            c.polygon([(x - half, y), (x + half, y), (x, y - 0.42 * height)], leaf * (0.8 + 0.3 * share))
        return
    for _ in range(7):
        dx, dy = c.rng.normal(0, 0.13, 2) * height
        c.disc(x + dx, base - 0.75 * height + dy, 0.2 * height, 0.18 * height, leaf * c.rng.uniform(0.8, 1.15))


def _fence(c, base):
    color = _color(c.rng, (10, 90), (120, 235))
    for y in (0.12, 0.06):
        c.box(c.left, base - y, c.right, base - y + 0.02, color * 0.85)
    for x in np.arange(c.left, c.right, 0.075):
        c.box(x, base - 0.15, x + 0.025, base, color)


def _street(c, horizon):
    rng, base = c.rng, horizon + c.rng.uniform(0.2, 0.27)
    _sky(c, base)
    x = c.left - 0.1
    while x < c.right:
        width, height, wall = rng.uniform(0.25, 0.6), rng.uniform(0.35, 0.9), _color(rng, (20, 140), (90, 220))
        c.box(x, base - height, x + width, base, wall)
        lit = np.array([245.0, 225.0, 150.0]) if rng.random() < 0.3 else np.array([120.0, 150.0, 175.0])
        for y in np.arange(base - height + 0.04, base - 0.2, 0.12):
            for left in np.arange(x + 0.03, x + width - 0.07, 0.1):
                c.box(left, y, left + 0.055, y + 0.075, lit * rng.uniform(0.6, 1.05))
        c.box(x + 0.02, base - 0.15, x + width - 0.02, base - 0.03, _color(rng, (40, 200), (50, 160)))
        c.box(x + 0.02, base - 0.19, x + width - 0.02, base - 0.145, _color(rng, (80, 230), (90, 240)))
        x += width
    gray = rng.uniform(85, 150)
    _ground(c, base, (gray, gray, gray + 4))
    c.box(c.left, base, c.right, base + 0.035, (190, 188, 182))
    for x in np.arange(c.left, c.right, 0.35):
        c.box(x, base + 0.12, x + 0.18, base + 0.135, (225, 222, 205))
    for _ in range(rng.integers(0, 3)):
        _car(c, rng.uniform(c.left, c.right - 0.3), base + 0.05)


def _car(c, x, base):
    color = _color(c.rng, (40, 230), (70, 240))
    c.box(x, base - 0.09, x + 0.36, base - 0.02, color)
    c.polygon([(x + 0.06, base - 0.09), (x + 0.11, base - 0.15), (x + 0.25, base - 0.15), (x + 0.31, base - 0.09)],
              (150, 180, 200))  # fmt: skip
    for wheel in (x + 0.08, x + 0.28):
        c.disc(wheel, base - 0.02, 0.033, 0.033, (30, 30, 32))
        c.disc(wheel, base - 0.02, 0.015, 0.015, (150, 150, 155))


def _shore(c, horizon):
    rng, water = c.rng, horizon + c.rng.uniform(0.02, 0.08)
    base = water + rng.uniform(0.1, 0.18)
    ground = ((222, 200, 150), (205, 180, 140), (235, 240, 246))[rng.integers(3)]
    _sky(c, water)
    if rng.random() < 0.7:
        _hills(c, water, np.array([95.0, 115.0, 140.0]) * rng.uniform(0.7, 1.2), rng.uniform(0.05, 0.3))
    sea = np.array([50.0, 120.0, 165.0]) * rng.uniform(0.6, 1.2)
    c.gradient(water, base, sea, sea * 1.2)
    for _ in range(40):
        x, y = rng.uniform(c.left, c.right), rng.uniform(water, base)
        c.line((x, y), (x + rng.uniform(0.03, 0.12), y), sea * 1.45, 0.004)
    _ground(c, base, ground)
    for _ in range(rng.integers(0, 4)):
        x, color = rng.uniform(c.left, c.right), _color(rng, (120, 240), (140, 250))
        c.line((x, base + 0.1), (x + 0.02, base - 0.25), (120, 90, 60), 0.012)
        c.polygon([(x - 0.17, base - 0.2), (x + 0.02, base - 0.33), (x + 0.21, base - 0.2)], color)
