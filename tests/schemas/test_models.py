"""The table of models: what a job may name, what it is told instead, and what `auto` picks."""

from __future__ import annotations

import ast
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import JobError
from schemas.models import AUTO, CARDS, MODELS, Card, Pool, Precision, choose, find_model, folder
from schemas.models.cards import BY_ID, WIDTHS
from schemas.models.choice import FAMILY, WIDTH, needs
from tests.fixtures.runs import GEMMA3, GEMMA3N

PRECISIONS = st.sampled_from(list(WIDTH))
POOLS = st.sampled_from(list(FAMILY))
GIGABYTES = st.floats(0, 200)


@pytest.mark.parametrize("source", MODELS)
def test_an_id_that_runs_is_found_as_it_is_written(source: str) -> None:
    model, card = find_model(source), BY_ID[source]
    assert model.identity == f"{source}@main"
    assert model.media_tokens == (card.clip_tokens if card.pool == "audio" else card.image_tokens)
    assert model.lora is card.lora


@pytest.mark.parametrize("source", sorted(BY_ID.keys() - MODELS.keys()))
def test_an_id_that_no_pool_hosts_is_refused_with_the_reason(source: str) -> None:
    with pytest.raises(JobError) as caught:
        find_model(source)
    assert str(BY_ID[source].why_not) in caught.value.message


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("google/gemma-3-8b-it", ["google/gemma-3-4b-it", "google/gemma-3-12b-it"]),
        ("google/gemma-3-9b", ["google/gemma-3-4b-it", "google/gemma-3-12b-it"]),
        ("google/gemma-3-2b", ["google/gemma-3-4b-it"]),
        ("google/gemma-3-40b-it", ["google/gemma-3-27b-it"]),
        ("gemma-3-12b", ["google/gemma-3-12b-it"]),
        ("google/gemma-3n-e4b-it", ["google/gemma-3n-E4B-it"]),
        ("google/gema-3n-E2B-it", ["google/gemma-3n-E2B-it", "google/gemma-3n-E4B-it"]),
    ],
)
def test_an_id_that_does_not_exist_is_refused_with_the_nearest_that_do(source: str, meant: list[str]) -> None:
    with pytest.raises(JobError) as caught:
        find_model(source)
    assert f"did you mean {' or '.join(meant)}? (" in caught.value.message


@pytest.mark.parametrize("folder", [GEMMA3, GEMMA3N])
def test_a_folder_counts_by_its_content_and_not_by_where_it_lies(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    assert find_model(str(copy)).identity == find_model(str(folder)).identity
    (copy / "generation_config.json").write_text("{}")
    assert find_model(str(copy)).identity != find_model(str(folder)).identity


def test_weights_that_differ_far_behind_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "HASHED_BYTES", 1_000)
    monkeypatch.setattr(folder, "SAMPLE_BYTES", 10, raising=False)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"a" * 1_000_000)
    before = folder.folder_revision(tmp_path)
    weights.write_bytes(b"a" * 700_000 + b"b" * 10_000 + b"a" * 290_000)
    assert folder.folder_revision(tmp_path) != before


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_row_holds_together(card: Card) -> None:
    assert (card.pool is None) is (card.why_not is not None)
    assert ("image" in card.takes) is (card.image_tokens is not None)
    assert ("audio" in card.takes) is (card.clip_tokens is not None)
    assert not card.hears_too or (card.pool == "vision" and card.clip_tokens)
    for figures in (card.gigabytes, card.gigabytes_32k):
        known = [figures[width] for width in WIDTHS if figures[width] is not None]
        assert known == sorted(known, reverse=True), "fewer bits take less"
    for width in WIDTHS:
        with_cache, alone = card.gigabytes_32k[width], card.gigabytes[width]
        assert with_cache is None or (alone is not None and with_cache > alone)


def test_no_id_stands_in_two_rows() -> None:
    sources = [source for card in CARDS for source in card.weights.values() if source]
    assert sorted(sources) == sorted(set(sources))


ARCHITECTURES = {
    "Gemma 3": "gemma3_mm:Gemma3ForConditionalGeneration",
    "TranslateGemma": "gemma3_mm:Gemma3ForConditionalGeneration",
    "FunctionGemma": "gemma3:Gemma3ForCausalLM",
    "EmbeddingGemma": "gemma3:Gemma3Model",
    "Gemma 3n": "gemma3n_mm:Gemma3nForConditionalGeneration",
    "Gemma 4": "gemma4_mm:Gemma4ForConditionalGeneration",
}


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_table_says_of_lora_and_layers_what_vllm_declares(family: str) -> None:
    module, _, name = ARCHITECTURES[family].partition(":")
    bases = bases_in_vllm(module, name)
    for card in CARDS:
        if card.family == family:
            assert card.lora is ("SupportsLoRA" in bases)
            assert ("pipeline" in card.parallel) is ("SupportsPP" in bases)


def bases_in_vllm(module: str, name: str) -> set[str]:
    """The classes that a class of vLLM's is made of, read from its source, for importing it takes long."""
    found = find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        pytest.skip("no vLLM is installed")
    path = Path(found.submodule_search_locations[0]) / "model_executor" / "models" / f"{module}.py"
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return {ast.unparse(base) for base in node.bases}
    raise AssertionError(f"{path} has no class {name}")


def chosen(pool: Pool, gigabytes: float, precision: Precision) -> Card | None:
    try:
        return BY_ID[choose(pool, gigabytes, precision).source]
    except JobError:
        return None


@given(POOLS, GIGABYTES, PRECISIONS)
def test_auto_never_exceeds_the_memory_and_leaves_nothing_larger(
    pool: Pool, gigabytes: float, precision: Precision
) -> None:
    card, width = chosen(pool, gigabytes, precision), WIDTH[precision]
    family = [other for other in CARDS if other.family == FAMILY[pool] and other.pool == pool]
    fitting = [other for other in family if other.weights[width] and needs(other, width) <= gigabytes]
    assert (card is None) is (not fitting)
    if card is not None:
        assert card.pool == pool and needs(card, width) <= gigabytes
        assert card.billions == max(other.billions for other in fitting)
        assert choose(pool, gigabytes, precision).source == card.weights[width]


@given(POOLS, GIGABYTES, GIGABYTES, PRECISIONS)
def test_auto_picks_no_smaller_model_for_more_memory(
    pool: Pool, one: float, other: float, precision: Precision
) -> None:
    less, more = (chosen(pool, gigabytes, precision) for gigabytes in sorted((one, other)))
    assert less is None or (more is not None and more.billions >= less.billions)


@pytest.mark.parametrize(
    ("pool", "gigabytes", "precision", "source"),
    [
        # An L4 or RTX 4090, an A100 of 40 GB, an H100.
        ("vision", 23.6, "quality", "google/gemma-3-4b-it"),
        ("vision", 23.6, "balanced", "RedHatAI/gemma-3-12b-it-FP8-dynamic"),
        ("vision", 23.6, "efficiency", "RedHatAI/gemma-3-27b-it-quantized.w4a16"),
        ("vision", 42.4, "quality", "google/gemma-3-12b-it"),
        ("vision", 85.0, "quality", "google/gemma-3-27b-it"),
        ("audio", 23.6, "quality", "google/gemma-3n-E4B-it"),
        ("audio", 16.9, "quality", "google/gemma-3n-E2B-it"),
        ("audio", 16.9, "balanced", "RedHatAI/gemma-3n-E4B-it-FP8-dynamic"),
    ],
)
def test_auto_on_gpus_that_people_have(
    pool: Pool, gigabytes: float, precision: Precision, source: str
) -> None:
    assert choose(pool, gigabytes, precision).source == source


def test_the_smallest_that_fits() -> None:
    assert choose("vision", 500, "quality", smallest=True).source == "google/gemma-3-4b-it"
    assert choose("audio", 500, "quality", smallest=True).source == "google/gemma-3n-E2B-it"


def test_where_nothing_fits_the_message_says_what_is_missing_and_what_would_fit() -> None:
    with pytest.raises(JobError) as caught:
        choose("vision", 8.0, "quality")
    assert caught.value.fields["key"] == "models.vision"
    for words in ("8.0 GB", "quality (bf16)", "4B", "10.4 GB", "efficiency or balanced"):
        assert words in caught.value.message
    with pytest.raises(JobError, match="name a model that fits"):
        choose("vision", 1.0, "efficiency")


def test_auto_is_no_models_name() -> None:
    assert AUTO not in BY_ID
