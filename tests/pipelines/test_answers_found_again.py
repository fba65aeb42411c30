"""What changes an answer changes its fingerprint, and nothing else does: else it is paid for again."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.plan import make_plan
from schemas.job import make_job

GEMMA_4 = "google/gemma-4-E2B-it"
LONG = {"task": "ask", "prompt": "What is it? " * 20, "max_tokens": 2_500}
PINNED = {
    "ocr": ["7f6a8908a5c11c9092fa460855bf9b18"],
    "caption": ["5c1faa57cb3dccd0aa682b964ab7c5bc"],
    "summarize": [
        "9cfafcf3526224dd8dac00dc0be716b0",
        "b213b10510a4d93b5c939bb194f72d3c",
        "e8ba0e7a2cc4d97c54f3f28a9cc26096",
        "d8f6daab4923aaf3c0c7bf235e042bc8",
    ],
    "transcribe": ["13008768c7a23474d566d4339885c633"],
}
PINNED_AUTO = ["6172f05a0381ed2046b5c996e28bbe35"]
PINNED_EMAIL = ["f7aec78de87ac56e6956c71a30a3dc84"]


def prints(*tasks: Any, **settings: Any) -> dict[str, list[str]]:
    job = make_job({"input": "/in", "output": "/out", "tasks": list(tasks), **settings})
    return make_plan(job, None, 0).fingerprints


@pytest.mark.parametrize("pages", ["auto", "text"])
@pytest.mark.parametrize(
    ("others", "settings"),
    [
        ([{"task": "translate", "to": "German"}], {}),
        ([LONG], {}),
        ([], {"engine": {"max_model_len": 8_000}}),
        ([{"task": "caption", "max_tokens": 3_000}], {}),
    ],
)
def test_how_much_text_of_a_page_fits_is_no_other_question(
    pages: str, others: list[Any], settings: dict[str, Any]
) -> None:
    expand = {"pages": pages}
    assert prints("ocr", *others, expand=expand, **settings)["ocr"] == prints("ocr", expand=expand)["ocr"]


def test_a_page_that_may_be_shown_as_text_is_one_more_question() -> None:
    auto, text, image = (prints("ocr", expand={"pages": pages})["ocr"] for pages in ("auto", "text", "image"))
    assert len({*auto, *text, *image}) == 3 and image == prints("ocr")["ocr"]


@pytest.mark.parametrize(
    "settings", [{"jpeg_quality": 80}, {"image_size": 640}, {"pages": "auto"}, {"upright": "metadata"}]
)
@pytest.mark.parametrize("model", [None, GEMMA_4])
def test_how_pictures_are_shown_is_nothing_to_recordings(settings: dict[str, Any], model: str | None) -> None:
    models = {"audio": model} if model else {}
    plain, other = (prints("transcribe", "ocr", models=models, expand=e) for e in ({}, settings))
    assert other["transcribe"] == plain["transcribe"] and other["ocr"] != plain["ocr"]


def test_neither_is_how_many_tokens_a_picture_has() -> None:
    engine = {"options": {"mm_processor_kwargs": {"max_soft_tokens": 560}}}
    models = {"vision": GEMMA_4, "audio": GEMMA_4}
    plain, finer = (prints("transcribe", "ocr", models=models, engine=e) for e in ({}, engine))
    assert finer["transcribe"] == plain["transcribe"] and finer["ocr"] != plain["ocr"]


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({"tokenizer": "x/y"}, True),
        ({"tokenizer_revision": "0123abc"}, True),
        ({"logits_processors": ["a:B"]}, True),
        ({"kv_cache_dtype": "fp8"}, True),
        ({"kv_cache_dtype": "auto"}, False),
        ({"dtype": "bfloat16"}, False),
        ({"gpu_memory_utilization": 0.8}, False),
    ],
)
def test_what_the_engine_is_told_counts_where_it_changes_answers(
    options: dict[str, Any], counts: bool
) -> None:
    plain, told = (prints("caption", engine={"options": o}) for o in ({}, options))
    assert (plain != told) is counts


@pytest.mark.parametrize(
    ("kinds", "counts"),
    [
        (["email"], False),
        (["name", "iban"], False),
        (["phone"], True),
        (["national_id"], True),
        ("all", True),
    ],
)
def test_where_numbers_are_from_counts_where_any_are_looked_for(kinds: Any, counts: bool) -> None:
    usual, one, two = (
        prints("caption", privacy={"redact": kinds} | regions)
        for regions in ({}, {"regions": ["US"]}, {"regions": ["US", "FR"]})
    )
    assert (usual != one) is (one != two) is (two != usual) is counts


def test_the_usual_jobs_find_their_answers_again() -> None:
    """Pinned: whoever changes one of these has all users pay for all of their answers again."""
    assert prints("ocr", "caption", "summarize", "transcribe") == PINNED
    assert prints("ocr", expand={"pages": "auto"}) == {"ocr": PINNED_AUTO}
    assert prints("caption", privacy={"redact": "email"}) == {"caption": PINNED_EMAIL}
