"""Benchmarks measure what they say: both sides do the same work, and the table tells them apart rightly."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.demo.documents import EXAMPLES
from tests.benchmarks import expanding
from tests.benchmarks.__main__ import PAIRS, explained, table
from tests.benchmarks.expanding import named
from tests.benchmarks.pair import Pair, Result, Run, measure


@pytest.mark.parametrize("name", [name for name, (_, pair) in PAIRS.items() if isinstance(pair, Pair)])
def test_both_sides_do_the_same_work(name: str, tmp_path: Path) -> None:
    module, pair = PAIRS[name]
    [result] = pair.results(module, tmp_path, repetitions=1, scale=0.02)
    assert result.ours[0].units == result.bare[0].units > 0
    assert result.ours[0].seconds > 0 and result.bare[0].seconds > 0


def test_a_folder_of_ones_own_is_measured_as_far_as_the_bare_library_opens_it(tmp_path: Path) -> None:
    # Of the examples one is password-protected and one cut short.
    made = tmp_path / "made"
    made.mkdir()
    pair = named(expanding.PAIRS["pages"], EXAMPLES)
    [result] = pair.results(expanding.__name__, made, repetitions=1, scale=1.0)
    assert {path.suffix for path in made.iterdir()} == {".pdf"}
    locked = (EXAMPLES / "pdf" / "locked.pdf").read_bytes()
    assert locked not in [path.read_bytes() for path in made.iterdir()]
    assert result.ours[0].units == result.bare[0].units >= len(list(made.iterdir()))


def test_a_folder_in_which_nothing_opens_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"not one")
    made = tmp_path / "made"
    made.mkdir()
    with pytest.raises(RuntimeError, match="opens for it"):
        list(named(expanding.PAIRS["pages"], tmp_path).results(expanding.__name__, made, 1, 1.0))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("lines", [["assert not 1, 'no'"], ["timed(lambda: 1)", "assert not 1, 'no'"]])
def test_a_side_that_fails_before_its_work_or_after_it_is_no_result(
    lines: list[str], kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "".join(f"    {line}\n" for line in lines)
    module = (
        "from types import SimpleNamespace\nfrom tests.benchmarks.pair import timed\n"
        f"def side(folder):\n{body}\nPAIRS = {{'pair': SimpleNamespace(ours=side, bare=side)}}\n"
    )
    (tmp_path / "failing_side.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pair = Pair("pair", "", "", 1.0, lambda folder, scale: None, print, print, kept=kept)
    with pytest.raises(RuntimeError, match="AssertionError: no"):
        measure(pair, "failing_side", tmp_path, 1)


def test_a_ratio_is_that_of_the_rates_and_a_missed_target_is_told() -> None:
    _, pair = PAIRS["pages"]
    runs = [
        tuple(Run(100, seconds, 1.0, 50.0) for seconds in side) for side in ((4.0, 2.0, 3.0), (1.0, 2.0, 1.5))
    ]
    result = Result(pair, *runs)
    assert result.ratios == [0.25, 1.0, 0.5]
    row = result.row()
    assert (row["ratio"], row["ours_per_second"], row["bare_per_second"]) == (0.5, 33.33, 66.67)
    assert "0.50 (0.25 to 1.00) missed" in list(table([result]).columns[4].cells)
    assert [line.split(":")[0] for line in explained([result])] == ["pages misses its target by 44%"]


def test_a_pair_with_engines_says_what_they_had_of_the_cores_and_what_a_unit_took() -> None:
    _, pair = PAIRS["answer-images"]
    facts = {"ours_vllm_cores": 0.934, "bare_vllm_cores": 0.99, "ours_vllm_ms": 110.83, "bare_vllm_ms": 104.1}
    result = Result(pair.works[0], (Run(1, 1.0, 1.0, 1.0),), (Run(1, 1.0, 1.0, 1.0),), facts=facts)
    bare = Result(PAIRS["pages"][1], result.ours, result.bare)
    assert list(table([result, bare]).columns[6].cells) == ["0.93 : 0.99, 111 : 104", ""]
