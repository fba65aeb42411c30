"""What tiles cost is known before anything is asked: in the room for answers and in the plan."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from rich.console import Console

from pipelines.plan import Plan, make_plan
from pipelines.preview import preview
from schemas.errors import JobError
from schemas.job import JobSpec, load_job, make_job
from schemas.rows import Tiling
from tests.fixtures.runs import GEMMA3
from workers.tiles import MOST, prompt_tokens

VISION = "google/gemma-3-4b-it"


def job(tmp_path: Path, tiling: Any = "auto", **settings: Any) -> JobSpec:
    values = {"input": str(tmp_path), "output": str(tmp_path / "out"), "tasks": ["ocr", "transcribe"]}
    return make_job({**values, "expand": {"tiling": tiling}, **settings})


def planned(job: JobSpec) -> Plan:
    return make_plan(job, None, 0.0)


def test_tiles_are_gemma_3s(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"expand\.tiling: google/gemma-4-E4B-it is shown pictures whole"):
        make_plan(job(tmp_path, models={"vision": "google/gemma-4-E4B-it"}), None, 0.0)


def test_without_tiling_answers_are_what_they_were(tmp_path: Path) -> None:
    """A job that does not ask for tiles has the fingerprints of one from before there were any."""
    off = planned(job(tmp_path, "off"))
    for lane in off.lanes:
        shown = lane.expand.model_dump(mode="json", exclude={"passwords"}, exclude_none=True)
        assert "tiling" not in shown
    default = make_job({**job(tmp_path).public(), "expand": {}})
    assert planned(default).fingerprints == off.fingerprints
    (page, clip), (page_off, clip_off) = (
        [lane.asks[0].fingerprint for lane in plan.lanes] for plan in (planned(job(tmp_path)), off)
    )
    assert page != page_off
    assert clip == clip_off, "recordings have no tiles"


def test_room_is_left_for_tiles_where_there_may_be_any(tmp_path: Path) -> None:
    settings = {"engine": {"max_model_len": 4096}}
    with_tiles, without = (planned(job(tmp_path, how, **settings)) for how in ("auto", "off"))
    (page, clip), (page_off, clip_off) = (
        [lane.asks[0] for lane in plan.lanes] for plan in (with_tiles, without)
    )
    assert page_off.ceiling_tokens - page.ceiling_tokens == prompt_tokens(256) >= 256 * MOST
    assert clip.ceiling_tokens == clip_off.ceiling_tokens
    with pytest.raises(JobError, match=r"media tokens leave no room.*or set expand\.tiling to off"):
        planned(job(tmp_path, engine={"max_model_len": 1024}))


def test_a_server_is_not_asked_for_tiles(tmp_path: Path) -> None:
    engine = {"kind": "openai", "options": {"base_url": "http://localhost:8000/v1"}}
    with pytest.raises(JobError, match=r"expand\.tiling.*set it to off.*do_pan_and_scan"):
        planned(job(tmp_path, engine=engine))
    assert planned(job(tmp_path, "off", engine=engine)).lanes


@pytest.mark.parametrize(
    ("word", "meant"), [("off", Tiling.OFF), ("auto", Tiling.AUTO), ('"off"', Tiling.OFF)]
)
def test_a_bare_off_of_yaml_is_off(tmp_path: Path, word: str, meant: Tiling) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"input: {tmp_path}\noutput: {tmp_path}/out\ntasks: ocr\nexpand: {{tiling: {word}}}\n")
    assert load_job(path).expand.tiling is meant
    path.write_text(path.read_text().replace(word, "on"))
    with pytest.raises(JobError, match=r"expand\.tiling"):
        load_job(path)


def test_a_plan_says_how_many_pages_get_tiles_and_what_they_cost(tmp_path: Path) -> None:
    documents = tmp_path / "in"
    documents.mkdir()
    for number in range(3):
        with pymupdf.open() as document:
            for size in ((595, 842), (226, 1134)):
                sheet = document.new_page(width=size[0], height=size[1])
                sheet.insert_textbox(sheet.rect + (20, 20, -20, -20), "To be paid by the end of May. " * 9)
            document.save(documents / f"{number}.pdf")
    settings = {
        "input": str(documents),
        "tasks": ["ocr", "caption"],
        "models": {"vision": str(GEMMA3)},
        "engine": {"max_model_len": 2048},
        "expand": {"image_size": 896},
    }
    plain = preview(job(tmp_path, **settings))
    tiled = preview(job(tmp_path, **settings | {"expand": {"image_size": 896, "tiling": "auto"}}))
    assert plain.tiled == {} and plain.tile_tokens == 0
    assert tiled.parts == plain.parts == {"page": 6}
    assert tiled.tiled == {"page": 3}
    assert tiled.tile_tokens == 3 * 4 * 144 * 2, "documents, tiles, tokens of each, tasks"
    assert tiled.prompt_tokens == plain.prompt_tokens + tiled.tile_tokens
    written = StringIO()
    Console(width=120, file=written).print(tiled.table())
    assert "parts in tiles, page" in written.getvalue() and "tokens in, of tiles" in written.getvalue()
