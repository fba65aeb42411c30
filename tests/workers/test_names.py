"""Names of people are in no column of an answer, or the answer is not written."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymupdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.expectation import expect
from pipelines.plan import Plan, make_plan
from schemas.errors import JobError
from schemas.ids import document_id
from schemas.job import make_job
from schemas.names import MOST, NAMES
from schemas.privacy import PrivacyOptions
from schemas.rows import Shown, owing_schema
from tests.workers.answering import Asked, Said, Script, Server, answering, completion, error, healthy
from workers.condense import packed
from workers.expander import Expand
from workers.infer import Infer, InferRecipe
from workers.names import ASKED_AT_ONCE, OVERLAP, finder, folded, overlapping
from workers.redact import Redactor
from workers.storage.factory import look_up, normalise

LEASE = "The tenant Jo Blyth pays the rent to ZO\u00cb MOSS, on the first day of each month."
PEOPLE = ("Jo Blyth", "Zo\u00eb Moss")
TYPED = {"tenant": "Jo\nBlyth", "rent": "1200.50"}
USED = {"prompt_tokens": 11, "completion_tokens": 2}
WRITTEN = ("Jo", "Blyth", "BLYTH", "MOSS", "Moss", "Zo\\u00eb")
OPTIONS = PrivacyOptions(redact=("name",))


def asks_for_names(asked: Asked) -> bool:
    return asked.question.startswith("List the names of people")


def script(names: Script, reads: Script | None = None) -> Script:
    """A server that reads the lease, in three ways; `names` answers the question about it."""

    def answer(asked: Asked) -> Said:
        if asked.path.endswith("/models"):
            return healthy(asked)
        if asks_for_names(asked):
            return names(asked)
        if reads is not None:
            return reads(asked)
        if asked.question.startswith("Read these fields"):
            return Said(body=completion(json.dumps(TYPED), usage=USED))  # of which "Jo\\nBlyth" is a part
        label = "classify" in asked.question.lower() or "labels" in asked.question
        return Said(body=completion("lease" if label else LEASE, usage=USED))

    return answer


def finds(asked: Asked) -> Said:
    """The people that are written there, and one who is not."""
    there = asked.question.lower()
    found = [name for name in PEOPLE if name.split()[0].lower() in there] + ["Ada Lovelace"]
    return Said(body=completion(json.dumps({"names": found}), usage=USED))


@pytest.fixture
def server() -> Iterator[Server]:
    with answering(script(finds)) as server:
        yield server


@pytest.fixture
def lease(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    with pymupdf.open() as document:
        document.new_page().insert_textbox((40, 40, 555, 800), LEASE)
        document.set_metadata({"title": "Lease", "author": "Jo Blyth", "creator": "Jo's editor"})
        document.save(folder / "lease.pdf")
    return folder


def planned(folder: Path, server: Server | None, *tasks: Any, **job: Any) -> Plan:
    options = {"base_url": server.url if server else "http://127.0.0.1:9/v1", "outage_seconds": 0}
    values = {"input": str(folder), "output": str(folder / "out"), "tasks": list(tasks)} | job
    engine = {"kind": "openai", "options": options} | values.pop("engine", {})
    return make_plan(make_job({"privacy": {"redact": "name"}} | values | {"engine": engine}), None, 0.0)


def outcomes(plan: Plan, path: Path) -> dict[str, dict[str, Any]]:
    """Through expand and infer, by task."""
    [lane], job = plan.lanes, plan.job
    info = look_up(normalise(str(path)), job.storage)
    row = {"document_id": document_id(info.uri), "uri": info.uri, "version": info.version, "size": info.size}
    expand = Expand(job.storage, lane.expand, job.limits, lane.tasks_by_kind)
    recipe = InferRecipe(
        job.engine.kind,
        lane.config,
        lane.asks,
        plan.schema,
        plan.run_id,
        job.limits,
        job.privacy,
        lane.names,
    )
    infer = Infer(recipe)

    async def run() -> list[dict[str, Any]]:
        parts = expand(pa.Table.from_pylist([row], owing_schema(None)))
        rows: list[dict[str, Any]] = pa.concat_tables(
            [table for part in parts async for table in infer(part)]
        ).to_pylist()
        return rows

    try:
        return {row["task"]: row for row in asyncio.run(run())}
    finally:
        expand.close()
        infer.close()


def test_no_name_is_in_any_column_and_the_rest_is(server: Server, lease: Path) -> None:
    fields = {"task": "extract", "fields": {"tenant": "text", "rent": "decimal"}}
    found = outcomes(planned(lease, server, "ocr", fields), lease / "lease.pdf")
    clean = LEASE.replace("Jo Blyth", "[name]").replace("ZOË MOSS", "[name]")
    assert found["ocr"]["text"] == clean
    assert found["ocr"]["redactions"] == [("name", 2)]
    assert found["extract"]["data:extract"]["tenant"] == "[name]"
    assert str(found["extract"]["data:extract"]["rent"]).startswith("1200.5")
    assert json.loads(found["extract"]["text"])["tenant"] == "[name]"
    assert found["extract"]["redactions"] == [("name", 1)]
    for row in found.values():
        said = repr({name: value for name, value in row.items() if name not in ("uri", "document_id")})
        assert not [word for word in WRITTEN if word in said]
        metadata = json.loads(row["document_metadata"])
        assert metadata["format"].startswith("PDF") and not {"title", "author", "creator"} & set(metadata)
        # Of the answer and of the question about it.
        assert (row["prompt_tokens"], row["output_tokens"]) == (22, 4)
    asked = [asked for asked in server.seen if asks_for_names(asked)]
    assert len(asked) == 2 and all(asked.body["response_format"] for asked in asked)
    shown = sorted(asked.question.partition("<document>")[2].split()[:-1] for asked in asked)
    assert shown == sorted([LEASE.split(), "tenant Jo Blyth rent 1200.50".split()])


def test_a_label_is_not_asked_about(server: Server, lease: Path) -> None:
    task = {"task": "classify", "labels": ["lease", "invoice"]}
    found = outcomes(planned(lease, server, task), lease / "lease.pdf")
    assert found["classify"]["status"] == "record", found
    assert not [asked for asked in server.seen if asks_for_names(asked)]


def said(text: str, finish: str = "stop") -> Script:
    return lambda asked: Said(body=completion(text, finish, usage=USED))


@pytest.mark.parametrize(
    ("names", "category"),
    [
        pytest.param(said("Jo Blyth and Zo\u00eb Moss"), "unparsable", id="prose"),
        pytest.param(said(json.dumps({"names": ["Jo Blyth", 7]})), "off_schema", id="no-name"),
        pytest.param(said(json.dumps({"names": None})), "off_schema", id="no-list"),
        pytest.param(said(json.dumps({"names": ["Jo Blyth", "B" * 200]})), "off_schema", id="too-long"),
        pytest.param(said('{"names": ["Jo Blyth"', "length"), "truncated", id="cut"),
        pytest.param(
            said(json.dumps({"names": [f"N{n} M{n}" for n in range(MOST)]})), "truncated", id="too-many"
        ),
        pytest.param(lambda asked: Said(400, error("no")), "request_refused", id="refused"),
    ],
)
def test_where_names_cannot_be_had_the_answer_is_not_written(
    server: Server, lease: Path, names: Script, category: str
) -> None:
    server.script = script(names)
    found = outcomes(planned(lease, server, "ocr"), lease / "lease.pdf")["ocr"]
    assert (found["status"], found["error"]["category"]) == ("error", category)
    assert "privacy.redact" in found["error"]["message"] and found["text"] is None
    shown = repr({name: value for name, value in found.items() if name not in ("uri", "document_id")})
    assert not [word for word in WRITTEN if word in shown]


def test_what_an_error_quotes_is_asked_about_as_well(server: Server, lease: Path) -> None:
    cut = said(f"by Jo Blyth {'x ' * 20}", "length")
    server.script = script(finds, cut)
    found = outcomes(planned(lease, server, "caption"), lease / "lease.pdf")["caption"]
    assert found["status"] == "error" and found["text"].startswith("by [name] x")


def test_an_answer_that_is_there_is_written_though_the_run_is_being_ended(
    server: Server, lease: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Infer] = []
    before = Infer.__init__

    def noted(self: Infer, *args: Any) -> None:
        before(self, *args)
        made.append(self)

    def answers(asked: Asked) -> Said:
        made[0]._supervisor.draining = True
        return script(finds)(asked)

    monkeypatch.setattr(Infer, "__init__", noted)
    server.script = answers
    found = outcomes(planned(lease, server, "ocr"), lease / "lease.pdf")
    assert found["ocr"]["redactions"] == [("name", 2)]


@given(
    names=st.lists(st.sampled_from(["Jo Blyth", "J. Moss", "Zo\u00eb", "O'Neill-Ray", "Li"]), min_size=1),
    spaces=st.sampled_from([" ", "\n", "  ", "\t", "\u00a0"]),
    words=st.lists(st.sampled_from(["paid", "Joist", "Limited", "total:", "(", ","]), min_size=1),
)
def test_all_of_a_name_goes_and_nothing_else(names: list[str], spaces: str, words: list[str]) -> None:
    written = [name.upper().replace(" ", spaces) for name in names]
    text = " ".join(f"{name} {' '.join(words)}" for name in written)
    counts: Counter[str] = Counter()
    clean = Redactor(OPTIONS).text(text, counts, finder(names))
    assert clean == " ".join(f"[name] {' '.join(words)}" for _ in written)
    assert counts == {"name": len(names)}


@pytest.mark.parametrize(
    ("name", "text", "clean"),
    [
        ("Zo\u00eb Moss", "by Zoe\u0308  MOSS.", "by [name]."),
        ("Zoe\u0308 Mu\u0308ller", "Zo\u00eb M\u00fcller", "[name]"),
        ("Griffith", "Gri\ufb03th's", "[name]'s"),
        ("O'Neill-Ray", "O\u2019Neill\u2011Ray", "[name]"),
        ("Jo Blyth", "Jo\u00a0Bl\u00ady\u200bth, Jo Blythe", "[name], Jo Blythe"),
        ("Weiss", "Frau WEI\u1e9e und Wei\u00df", "Frau [name] und [name]"),
        ("\u7530\u4e2d", "\u7530\u4e2d\u3055\u3093\u306f", "[name]\u3055\u3093\u306f"),
        ("\uae40\ucca0\uc218", "\uae40\ucca0\uc218\ub294", "[name]\ub294"),
        ("\u0130nce", "Bay \u0130NCE geldi", "Bay [name] geldi"),
        ("\u0418\u0432\u0430\u043d\u043e\u0439", "\u0418\u0412\u0410\u041d\u041e\u0419.", "[name]."),
    ],
)
def test_a_name_goes_however_it_is_spelled(name: str, text: str, clean: str) -> None:
    assert Redactor(OPTIONS).text(text, Counter(), finder([name])) == clean


@given(text=st.text(max_size=60))
def test_what_is_folded_knows_where_it_is_from(text: str) -> None:
    there, origins = folded(text)
    assert len(origins) == len(there) + 1 and origins == sorted(origins) and origins[-1] == len(text)
    assert folded(there)[0] == there
    if sum(map(str.isalpha, text)) > 1 and (find := finder([text])) and there.strip() == there:
        start, end = next(iter(find(f"({text})")))
        assert text.strip() in f"({text})"[start:end] or folded(f"({text})"[start:end])[0] == there


@pytest.mark.parametrize("names", [[], [""], ["A"], ["7"], [". ."]])
def test_what_is_no_name_is_looked_for_nowhere(names: list[str]) -> None:
    assert finder(names) is None


@given(lines=st.lists(st.text("ab \u00e9", max_size=900), max_size=8))
def test_a_name_between_two_pieces_is_whole_in_one(lines: list[str]) -> None:
    text = f"{' '.join(lines)} Jo Blyth {' '.join(reversed(lines))}"
    pieces = overlapping(packed(text.splitlines(), ASKED_AT_ONCE - OVERLAP))
    assert all(len(piece) <= ASKED_AT_ONCE + 1 for piece in pieces)
    find = finder(["Jo Blyth"])
    assert find is not None and any(list(find(piece)) for piece in pieces)


def test_an_email_is_called_one() -> None:
    pytest.importorskip("presidio_analyzer")
    redactor = Redactor(PrivacyOptions(redact=("all", "name")))
    names = finder(["Jo Blyth", "jo"])
    assert redactor.text("Jo Blyth, jo@example.org", Counter(), names) == "[name], [email]"


def test_json_is_looked_through_by_what_it_means() -> None:
    redactor, names = Redactor(OPTIONS), finder(PEOPLE)
    spelled = '{"who": "Zo\\u00eb Moss", "\\u004ao Blyth": [1, "Jo\\nBlyth"]}'
    clean = redactor.outcome({"text": spelled}, names)
    assert json.loads(clean["text"]) == {"who": "[name]", "[name]": [1, "[name]"]}
    same = '{ "who" :"nobody"}'
    assert redactor.outcome({"text": same}, names)["text"] == same


def test_it_is_asked_for_by_name_and_what_is_asked_is_part_of_the_fingerprint(lease: Path) -> None:
    assert not PrivacyOptions(redact=("all",)).names and OPTIONS.names
    plain = planned(lease, None, "ocr", privacy={})
    asked = planned(lease, None, "ocr")
    assert plain.lanes[0].names is None and asked.lanes[0].names is not None
    assert plain.fingerprints != asked.fingerprints
    assert NAMES.question(Shown.TEXT) in (OPTIONS.recipe or "")


def test_it_is_in_what_a_run_is_expected_to_take(lease: Path) -> None:
    [plain], [asked] = planned(lease, None, "ocr", privacy={}).lanes, planned(lease, None, "ocr").lanes
    less, more = (expect(lane, lane.asks[0], {}, shares=False) for lane in (plain, asked))
    assert more.prompt_tokens > less.prompt_tokens + lane_tokens(plain)
    assert more.output_tokens == 2 * less.output_tokens and more.output_bytes == less.output_bytes


def lane_tokens(lane: Any) -> int:
    return int(lane.asks[0].max_tokens)


def test_no_room_to_ask_is_said_before_anything_is_paid_for(lease: Path) -> None:
    with pytest.raises(JobError, match="no room to ask for names"):
        planned(
            lease,
            None,
            {"task": "caption", "max_tokens": 32},
            engine={"max_model_len": 560},
            expand={"pages": "image"},
        )
