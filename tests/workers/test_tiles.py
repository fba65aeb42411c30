"""Pages that the model's square is too small for are shown in tiles, as many as its processor makes."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deploy.demo.pages import COLOURS, KINDS, SHAPES, draw_page, draw_shape, make_page, make_shape, worn
from schemas.limits import Limits
from schemas.rows import Tiling
from tests.fixtures.runs import GEMMA3
from workers.expand import ExpandOptions, Part
from workers.expand.image import ImageExpander
from workers.expand.pdf import PdfExpander
from workers.tiles import MOST, processor_arguments, prompt_tokens, tiles_of

A4, RECEIPT = (595, 842), (226, 1134)
SEEN = 896
AUTO = ExpandOptions(tiling=Tiling.AUTO)
PROSE = "The tenant pays the rent on the first day of each month, in advance and without deduction; any sum "


def sheet(points: float, size: tuple[int, int] = A4) -> pymupdf.Document:
    """A page full of lines of this font size."""
    document = pymupdf.open()
    page = document.new_page(width=size[0], height=size[1])
    line = (PROSE * 4)[: int((size[0] - 80) / points / 0.5)]
    for row in range(int((size[1] - 80) / points / 1.25)):
        shift = row * 7 % 40
        page.insert_text((40, 50 + row * points * 1.25), line[shift:] + line[:shift], fontsize=points)
    return document


def scan(points: float, seed: int = 0, size: tuple[int, int] = A4) -> Image.Image:
    """That page as a scanner gives it, at twice what the model sees."""
    with sheet(points, size) as document:
        scale = 2 * SEEN / max(size)
        picture = document[0].get_pixmap(matrix=pymupdf.Matrix(scale, scale), alpha=False)
    rng = random.Random(seed)
    image = Image.frombytes("RGB", (picture.width, picture.height), picture.samples)
    image = image.rotate(rng.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, fillcolor="white")
    return worn(image, rng)


def part_of(expander: Any, path: Path, options: ExpandOptions = AUTO, limits: Limits | None = None) -> Part:
    limits = limits or Limits()
    opened = expander.open(path, path.parent, options, limits)
    (part,) = expander.parts(path, path.parent, opened, 0, 1, options, limits)
    assert isinstance(part, Part) and part.error is None
    return part


def page(tmp_path: Path, document: pymupdf.Document, **given: Any) -> Part:
    with document:
        document.save(tmp_path / "page.pdf")
    return part_of(PdfExpander(), tmp_path / "page.pdf", **given)


def picture(tmp_path: Path, image: Image.Image, orientation: int = 1, **given: Any) -> Part:
    exif = Image.Exif()
    exif[274] = orientation
    image.save(tmp_path / "picture.png", exif=exif)
    return part_of(ImageExpander(), tmp_path / "picture.png", **given)


def drawn(part: Part) -> tuple[int, int]:
    return Image.open(io.BytesIO(part.content)).size


@pytest.mark.parametrize(
    ("points", "size", "tiles", "longest"),
    [
        (11, A4, None, SEEN),
        (7, A4, 2, 2 * SEEN),
        (7, (842, 595), 2, 2 * SEEN),
        (11, RECEIPT, 4, 4 * SEEN),
        (11, (300, 800), 3, 3 * SEEN),
        (30, (500, 889), None, SEEN),  # a screen of 16:9
    ],
)
def test_a_page_gets_the_tiles_that_it_needs(
    tmp_path: Path, points: float, size: tuple[int, int], tiles: int | None, longest: int
) -> None:
    part = page(tmp_path, sheet(points, size))
    assert part.tiles == tiles
    assert abs(max(drawn(part)) - longest) <= 1, "tiles have pixels of their own, and the rest has no more"
    assert (part.width, part.height) == size


def test_without_tiling_nothing_is_drawn_otherwise(tmp_path: Path) -> None:
    for name, (points, size) in {"dense": (7.0, A4), "long": (11.0, RECEIPT)}.items():
        part = page(tmp_path, sheet(points, size), options=ExpandOptions())
        assert part.tiles is None and max(drawn(part)) == SEEN, name
    plain = page(tmp_path, sheet(11), options=ExpandOptions())
    assert page(tmp_path, sheet(11)).content == plain.content, "nor is what needs no tiles"


def test_a_scan_of_small_print_is_known_by_its_looks(tmp_path: Path) -> None:
    """As a picture and as a PDF without a text layer; most, for it is a look and no measure."""
    small = [picture(tmp_path, scan(7, seed)).tiles for seed in range(6)]
    assert small.count(2) >= 5 and set(small) <= {2, None}
    assert [picture(tmp_path, scan(points, 1)).tiles for points in (11, 12, 14)] == [None] * 3
    document = pymupdf.open()
    body = io.BytesIO()
    scan(7).save(body, "JPEG")
    sheet_ = document.new_page(width=A4[0], height=A4[1])
    sheet_.insert_image(sheet_.rect, stream=body.getvalue())
    part = page(tmp_path, document)
    assert part.tiles == 2 and max(drawn(part)) == 2 * SEEN


@pytest.mark.parametrize(
    ("orientation", "turn"), [(6, Image.Transpose.ROTATE_90), (3, Image.Transpose.ROTATE_180)]
)
def test_a_scan_that_lies_is_judged_as_it_stands(
    tmp_path: Path, orientation: int, turn: Image.Transpose
) -> None:
    upright = picture(tmp_path, scan(7))
    lying = picture(tmp_path, scan(7).transpose(turn), orientation)
    assert lying.tiles == upright.tiles == 2
    assert drawn(lying) == drawn(upright)


def test_what_has_no_more_to_show_gets_no_tiles(tmp_path: Path) -> None:
    assert picture(tmp_path, scan(7).resize((633, SEEN))).tiles is None
    long = Image.new("RGB", (300, 900), "white")
    assert picture(tmp_path, long).tiles is None
    assert picture(tmp_path, long.resize((600, 1800))).tiles == 3


def test_tiles_that_the_limits_do_not_allow_are_not_made(tmp_path: Path) -> None:
    part = page(tmp_path, sheet(11, RECEIPT), limits=Limits(pixels=300_000))
    assert part.tiles is None and max(drawn(part)) == SEEN


def test_the_demos_own_pages_and_shapes_need_none(tmp_path: Path) -> None:
    rng = random.Random("tiles")
    options = ExpandOptions(tiling=Tiling.AUTO, image_size=192)
    images = [worn(draw_page(make_page(rng, kind)), rng) for kind in KINDS]
    images += [draw_shape(make_shape(rng, name, colour)) for name in SHAPES for colour in COLOURS]
    assert {picture(tmp_path, image, options=options).tiles for image in images} == {None}


@pytest.fixture(scope="module")
def processor() -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(GEMMA3)


@given(st.integers(1, 6_000), st.integers(1, 6_000))
def test_there_are_as_many_tiles_as_the_real_processor_makes(processor: Any, width: int, height: int) -> None:
    import torch

    arguments = processor_arguments()
    assert arguments.pop("do_pan_and_scan")
    # The crops are views, so that no pixel is touched.
    crops = processor.image_processor.pan_and_scan_batched(
        torch.empty(1).expand(1, 1, height, width), **arguments
    )
    assert len(crops) == tiles_of(width, height)
    assert all(min(crop.shape[-2:]) > 0 for crop in crops)


@pytest.mark.parametrize(
    ("size", "tiles"), [((500, 889), 2), ((200, 1_000), 4), ((900, 300), 3), ((15, 900), 0)]
)
def test_the_prompt_grows_by_no_more_than_is_left_for_it(
    processor: Any, size: tuple[int, int], tiles: int
) -> None:
    image = Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8))
    mark = processor.boi_token

    def tokens(**arguments: Any) -> tuple[int, int]:
        ids = processor(images=[image], text=f"{mark} Read it", return_tensors="np", **arguments)[
            "input_ids"
        ][0]
        return len(ids), list(ids).count(soft)

    soft = processor.tokenizer.image_token_id
    whole, once = tokens()
    shown, times = tokens(images_kwargs=processor_arguments())
    assert (once, times) == (144, 144 * (1 + tiles))
    assert 144 * tiles <= shown - whole <= prompt_tokens(144, tiles) <= prompt_tokens(144, MOST)
