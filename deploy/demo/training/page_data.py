"""What Gemma 3 learns from: pages and shapes, what lies in each patch of them, questions and answers."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deploy.demo.pages import (
    ADVANCE,
    COLOURS,
    KINDS,
    LABELS,
    NAMES,
    SHAPES,
    SIDE,
    Page,
    Shape,
    draw_page,
    draw_shape,
    make_page,
    make_shape,
    worn,
)
from deploy.demo.training.loop import Batches
from deploy.demo.training.tokenizer import clauses, make_tokenizer
from schemas.job import load_job
from schemas.rows import Shown

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedTokenizerFast

JOB = Path(__file__).parents[1] / "job.yaml"
PATCH = 16
GRID = SIDE // PATCH
PATCHES = GRID * GRID
CHARACTERS = "\0" + "".join(sorted({*"".join(NAMES), *"DearNoSumINVOICERECEIPTLETTER0123456789.-"}))
"""What a patch can hold; the first is nothing, and behind them come the shapes."""
CONTENTS = len(CHARACTERS) + len(SHAPES)
LONGEST = 48
"""Characters of a page, line ends included."""
COLUMNS = 11
FIELDS = 5
"""Title, number, date, total, greeting."""
COLUMN_FILLS = {"ids": 0, "targets": -100, "positions": 0, "segments": -1, "place": 0, "field": 0}
"""What a packed question says of each token, and what padding says: the token, the one wanted next, its
position, the number of the question, and where on the page or in its field the one wanted next stands."""
SHAPE_SHARE = 0.2


def frame(words: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """What stands before and behind the image's tokens, as the processor writes it."""
    before = words.encode("<bos><start_of_turn>user\n\n\n<start_of_image>", add_special_tokens=False)
    behind = words.encode("<end_of_image>\n\n", add_special_tokens=False)
    return before, behind


def questions() -> dict[str, str]:
    """Task -> its question, as the demo's job asks it."""
    tasks = load_job(JOB, {"input": "-", "output": "-"}).tasks
    return {task.name: task.question(Shown.IMAGE) for task in tasks if task.name != "transcribe"}


def answer(task: str, truth: dict[str, Any]) -> str:
    """The right answer as the model writes it: JSON with the separators that the decoder is held to."""
    value = truth[task]
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def tokenizer() -> PreTrainedTokenizerFast:
    """Characters, and as one token each: the clauses of the questions, JSON's frame, fixed words."""
    frame = ['{"kind":', ',"number":', ',"date":', ',"total":', "null", "}"]
    fixed = [*LABELS, *map(str.upper, KINDS), "an ", "a ", *COLOURS, *SHAPES, "No ", "Sum ", "Dear ", *NAMES]
    asked = [clause for question in questions().values() for clause in clauses(question)]
    return make_tokenizer([*asked, *frame, *fixed])


def picture(subject: Page | Shape, rng: random.Random) -> Image.Image:
    """A drawn page or shape in one of the ways that a pipeline may hand it over, at the model's size."""
    from PIL import Image

    large = draw_page(subject) if isinstance(subject, Page) else draw_shape(subject)
    filters = (Image.Resampling.BILINEAR, Image.Resampling.LANCZOS, Image.Resampling.BOX)
    small = large.resize((SIDE, SIDE), rng.choice(filters))
    if rng.random() < 0.5:
        small = worn(small, rng)
    if rng.random() < 0.6:
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=rng.randint(80, 95))
        small = Image.open(buffer).convert("RGB")
    return small


def make_subject(rng: random.Random) -> Page | Shape:
    """A page, or now and then a shape."""
    if rng.random() < SHAPE_SHARE:
        return make_shape(rng, rng.choice(SHAPES), rng.choice(list(COLOURS)))
    return make_page(rng, rng.choice(KINDS), white=rng.random() < 0.3)


def labels(subject: Page | Shape) -> np.ndarray[Any, Any]:
    """What lies in each patch: character or shape, place on the page, place in its field. (3, PATCHES), 0
    is nothing. Without the shapes' labels their names stayed at a guess: they are one token in 800."""
    found = np.zeros((3, PATCHES), np.int64)
    if isinstance(subject, Shape):
        rows, columns = np.divmod(np.arange(PATCHES), GRID)
        across, down = ((columns + 0.5) * PATCH - subject.x, (rows + 0.5) * PATCH - subject.y)
        inside = np.maximum(abs(across), abs(down)) <= subject.half
        found[0, inside] = len(CHARACTERS) + SHAPES.index(subject.name)
        return found
    place = 0
    for line in subject.lines:
        field = _field(line.text)
        start = line.text.find(" ") + 1
        for column, character in enumerate(line.text):
            x = int((line.x + (column + 0.5) * ADVANCE * subject.size) // PATCH)
            # The middle of a capital: 0.93 em of ascent less half its 0.73 em.
            y = int((line.y + 0.565 * subject.size) // PATCH)
            patch = min(y, GRID - 1) * GRID + min(x, GRID - 1)
            if character != " " and not found[0, patch]:
                where = max(0, column - start + 1)
                found[:, patch] = CHARACTERS.index(character), place + 1, field * COLUMNS + where
            place += 1
        place += 1
    return found


def _field(line: str) -> int:
    first = line.split(" ", maxsplit=1)[0]
    return {"No": 1, "Sum": 3, "Dear": 4}.get(first, 2 if first[0].isdigit() else 0)


class PageBatches(Batches):
    """Pages, their labels and their packed questions. Every question sees the image and itself."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._seed = seed
        self._tokenizer = tokenizer()
        self._questions = questions()
        self.prefix_length = sum(map(len, frame(self._tokenizer))) + PATCHES

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"{self._seed}/{step}")
        subjects = [make_subject(rng) for _ in range(self._size)]
        pixels = np.stack([np.asarray(picture(subject, rng)) for subject in subjects])
        packed = [self._pack(subject, rng) for subject in subjects]
        longest = max(len(row[0]) for row in packed)
        columns = {
            name: np.stack(
                [np.pad(row[at], (0, longest - len(row[0])), constant_values=fill) for row in packed]
            )
            for at, (name, fill) in enumerate(COLUMN_FILLS.items())
        }
        arrays = {
            "pixels": pixels.transpose(0, 3, 1, 2),
            "labels": np.stack([labels(subject) for subject in subjects]),
            **columns,
        }
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

    def _pack(self, subject: Page | Shape, rng: random.Random) -> tuple[list[int], ...]:
        """The columns of `COLUMN_FILLS`, all questions one behind the other."""
        columns: tuple[list[int], ...] = tuple([] for _ in COLUMN_FILLS)
        truth = subject.truth()
        one, other = rng.sample(("ocr", "extract"), 2), rng.sample(("caption", "classify"), 2)
        asks = (*one, other[0]) if isinstance(subject, Page) else (one[0], *other)
        for number, task in enumerate(asks):
            asked, _ = self._encode(self._questions[task] + "<end_of_turn>\n<start_of_turn>model\n")
            text = answer(task, truth)
            answered, starts = self._encode(text + "<end_of_turn>")
            length = len(asked) + len(answered) - 1
            unasked = len(asked) - 1
            rows = (
                asked + answered[:-1],
                [-100] * unasked + answered,
                list(range(self.prefix_length, self.prefix_length + length)),
                [number] * length,
                [0] * unasked + [start + 1 if task == "ocr" else 0 for start in starts[:-1]] + [0],
                [0] * unasked + _places(text, starts, truth["extract"] if task == "extract" else {}),
            )
            for column, row in zip(columns, rows, strict=True):
                column += row
        return columns

    def _encode(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids, and where in the text each token starts."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoded["input_ids"], [start for start, _ in encoded["offset_mapping"]]


def _places(text: str, starts: list[int], fields: dict[str, Any]) -> list[int]:
    """For each token, the place of the field it is written from, as `labels` counts places."""
    places = dict.fromkeys(starts, 0)
    for number, name in ((1, "number"), (2, "date"), (3, "total")):
        if value := fields.get(name):
            first = text.index(f'"{name}":"') + len(f'"{name}":"')
            places |= {first + at: number * COLUMNS + at + 1 for at in range(len(value))}
    return [places[start] for start in starts]
