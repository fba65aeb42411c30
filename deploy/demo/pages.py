"""What the demo's pages say and how they look: the narrow kind that the demo checkpoint can read.

A page is a square slip of four lines in DejaVu Sans Mono: what it is, its number, its date, and the
sum or, on a letter, whom it greets. Lengths are given in the model's pixels, 192 to a side, and drawn
at any multiple of them. A glyph is about as wide as one of the model's patches: with two of them in
a patch, single digits are misread.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

    from PIL import Image

SIDE = 192
"""Pixels to a side of what the demo checkpoint's vision tower sees."""
FONT_FILE = Path(__file__).parent / "fonts" / "DejaVuSansMono.ttf"
ADVANCE = 0.602
"""Width of every glyph of the font, in ems."""
ASCENT = 0.928
"""Height of the font's ascender above the baseline, in ems."""
SIZES = (27, 28)
"""Of the font, in model pixels: a glyph is 16.3 or 16.9 wide, never two to a patch, and ten fit on a line."""

KINDS = ("invoice", "receipt", "letter")
LABELS = (*KINDS, "drawing")
NAMES = tuple(
    "Anna Ben Carl Dora Emil Fay Gus Hana Ivan Jo Kim Lea Max Nora Olga Paul Rosa Sam Tom Uma".split()
)
SHAPES = ("circle", "square", "triangle")
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 70, 220),
    "black": (20, 20, 20),
    "yellow": (240, 210, 30),
    "purple": (140, 40, 160),
}

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Line:
    """One line of text and where its top left corner is, in model pixels."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class Page:
    """One page: what it says, and how it is set.

    Attributes:
        kind: `invoice`, `receipt` or `letter`.
        number: The document's number, 4 to 6 digits.
        date: As ISO 8601 has it.
        total: An amount with two decimals; None on a letter.
        lines: What is printed, from top to bottom.
        size: Font size in model pixels.
        paper: Background colour.
        ink: Text colour.
    """

    kind: str
    number: str
    date: str
    total: str | None
    lines: tuple[Line, ...]
    size: int
    paper: Colour
    ink: Colour

    @property
    def text(self) -> str:
        """What a transcription of the page is."""
        return "\n".join(line.text for line in self.lines)

    @property
    def caption(self) -> str:
        """What the checkpoint calls the page."""
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"

    @property
    def fields(self) -> dict[str, str | None]:
        """What an extraction of the page is."""
        return {"kind": self.kind, "number": self.number, "date": self.date, "total": self.total}

    def truth(self) -> dict[str, Any]:
        """The right answer to each of the demo's tasks."""
        return {"ocr": self.text, "extract": self.fields, "caption": self.caption, "classify": self.kind}


@dataclass(frozen=True)
class Shape:
    """A coloured shape on light paper; `x`, `y` is its centre and `half` half its side, in model pixels."""

    name: str
    colour: str
    x: float
    y: float
    half: float
    paper: Colour

    @property
    def caption(self) -> str:
        """What the checkpoint calls the picture."""
        return f"a {self.colour} {self.name}"

    def truth(self) -> dict[str, Any]:
        """The right answer to each of the demo's tasks: there is nothing to read."""
        fields = dict.fromkeys(("kind", "number", "date", "total"))
        return {"ocr": "", "extract": fields, "caption": self.caption, "classify": "drawing"}


def make_page(rng: random.Random, kind: str, *, white: bool = False) -> Page:
    """Invents a page.

    Args:
        rng: Where its values come from.
        kind: One of `KINDS`.
        white: White paper and near-black ink, as in a born-digital PDF.
    """
    number = "".join(rng.choices("0123456789", k=rng.randint(4, 6)))
    date = f"20{rng.randint(10, 29)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    whole = rng.choice((rng.randint(1, 9), rng.randint(10, 99), rng.randint(100, 999)))
    total = None if kind == "letter" else f"{whole}.{rng.randint(0, 99):02d}"
    rows = [f"No {number}", date, f"Sum {total}" if total else f"Dear {rng.choice(NAMES)}"]
    rng.shuffle(rows)
    rows.insert(0, kind.upper())
    size = rng.choice(SIZES)
    widths = [len(row) * ADVANCE * size for row in rows]
    left = rng.uniform(3, SIDE - max(widths) - 3)
    gap = size * rng.uniform(1.25, 1.55)
    top = rng.uniform(3, SIDE - 3 - gap * (len(rows) - 1) - size * 1.2)
    centred = rng.random() < 0.3
    lines = tuple(
        Line(row, (SIDE - width) / 2 if centred and index == 0 else left, top + index * gap)
        for index, (row, width) in enumerate(zip(rows, widths, strict=True))
    )
    paper = (255, 255, 255) if white else _near(rng, (240, 240, 240), 15)
    ink = (20, 20, 30) if white else _near(rng, (30, 30, 40), 30)
    return Page(kind, number, date, total, lines, size, paper, ink)


def make_shape(rng: random.Random, name: str, colour: str) -> Shape:
    """Invents where a shape lies and how large it is."""
    half = rng.uniform(16, 42)
    x, y = (rng.uniform(half + 2, SIDE - half - 2) for _ in range(2))
    return Shape(name, colour, x, y, half, _near(rng, (246, 246, 246), 9))


def draw_page(page: Page, scale: int = 2) -> Image.Image:
    """Draws a page as a picture of `scale` times the model's pixels."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (SIDE * scale, SIDE * scale), page.paper)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.truetype(str(FONT_FILE), page.size * scale)
    for line in page.lines:
        pen.text((line.x * scale, line.y * scale), line.text, font=font, fill=page.ink)
    return picture


def draw_shape(shape: Shape, scale: int = 2) -> Image.Image:
    """Draws a shape as a picture of `scale` times the model's pixels."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (SIDE * scale, SIDE * scale), shape.paper)
    pen = ImageDraw.Draw(picture)
    left, top = (shape.x - shape.half) * scale, (shape.y - shape.half) * scale
    right, bottom = (shape.x + shape.half) * scale, (shape.y + shape.half) * scale
    fill = COLOURS[shape.colour]
    if shape.name == "circle":
        pen.ellipse((left, top, right, bottom), fill=fill)
    elif shape.name == "square":
        pen.rectangle((left, top, right, bottom), fill=fill)
    else:
        pen.polygon([(shape.x * scale, top), (left, bottom), (right, bottom)], fill=fill)
    return picture


def worn(picture: Image.Image, rng: random.Random) -> Image.Image:
    """The picture as a scanner or a phone would give it: uneven light, a little blur, some noise."""
    import numpy as np
    from PIL import Image, ImageFilter

    noise = np.random.default_rng(rng.getrandbits(32))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.4) * picture.width / SIDE))
    width, height = picture.size
    light = (
        np.linspace(1, rng.uniform(0.88, 1), width)[None, :]
        * np.linspace(rng.uniform(0.92, 1), 1, height)[:, None]
    )
    grain = noise.normal(0, rng.uniform(0, 6), (height, width))
    pixels = np.asarray(picture, np.float64) * light[..., None] + grain[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _near(rng: random.Random, colour: Colour, spread: int) -> Colour:
    red, green, blue = (max(0, min(255, value + rng.randint(-spread, spread))) for value in colour)
    return red, green, blue
