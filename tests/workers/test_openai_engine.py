"""The openai engine beside a server that answers as told: what is sent, what is read, what is refused."""

from __future__ import annotations

import asyncio
import base64
import io
import math
import pickle
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import EngineAway, EngineUnavailable, GemstreamError, RequestRefused, RequestTimeout
from schemas.models import find_model
from schemas.rows import PartKind
from tests.workers.answering import Asked, Said, Server, answering, completion, error, healthy
from workers import chat
from workers.engines import EngineConfig, Media, Request, Response
from workers.engines.openai import OpenAIEngine

KEY = "sk-a+secret/of-ours=="
ENV = "GEMSTREAM_TEST_KEY"
JPEG = Media(PartKind.PAGE, b"\xff\xd8 a page", "page")
SCHEMA = {"type": "object", "properties": {"total": {"type": "string"}}, "required": ["total"]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv(ENV, KEY)
    with answering() as server:
        yield server


def engine(server: Server, source: str = "google/gemma-3-4b-it", **options: Any) -> OpenAIEngine:
    given = {"base_url": server.url, "api_key_env": ENV, "outage_seconds": 0, **options}
    return OpenAIEngine(EngineConfig(find_model(source), max_num_seqs=4, max_model_len=1024, options=given))


def request(question: str = "?", media: Media = JPEG, **more: Any) -> Request:
    return Request("key", question, media, **{"max_tokens": 8, **more})


def ask(engine: OpenAIEngine, *requests: Request) -> list[Response | BaseException]:
    """Start, ask all at once, give the connections back."""

    async def asked() -> list[Response | BaseException]:
        try:
            await asyncio.to_thread(engine.start)
            return await asyncio.gather(*map(engine.generate, requests), return_exceptions=True)
        except GemstreamError as error:
            return [error]
        finally:
            await engine._give_back()

    return asyncio.run(asked())


def sent(server: Server, engine: OpenAIEngine, request: Request) -> Asked:
    (said,) = ask(engine, request)
    assert isinstance(said, Response), said
    return server.seen[-1]


# What is sent.


def test_a_page_goes_as_a_jpeg_before_its_question(server: Server) -> None:
    asked = sent(server, engine(server, extra_body={"top_k": 1}), request("Read it"))
    image, text = asked.body["messages"][0]["content"]
    kind, _, data = image["image_url"]["url"].partition(",")
    assert (kind, base64.b64decode(data)) == ("data:image/jpeg;base64", JPEG.content)
    assert text == {"type": "text", "text": "Read it"}
    assert asked.path == "/v1/chat/completions" and asked.headers["authorization"] == f"Bearer {KEY}"
    rest = {name: value for name, value in asked.body.items() if name != "messages"}
    assert rest == {
        "model": "google/gemma-3-4b-it",
        "max_tokens": 8,
        "temperature": 0.0,
        "logprobs": True,
        "top_k": 1,
    }


def test_a_clip_goes_as_a_wav_behind_its_question(server: Server) -> None:
    clip = Media(PartKind.AUDIO, np.zeros(160, "<f4").tobytes(), "clip")
    asked = sent(server, engine(server, "google/gemma-3n-E2B-it"), request("Write it down", clip))
    text, audio = asked.body["messages"][0]["content"]
    assert (text["text"], audio["type"], audio["input_audio"]["format"]) == (
        "Write it down",
        "input_audio",
        "wav",
    )


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=400))
def test_what_is_heard_is_what_was_recorded(samples: list[float]) -> None:
    clip = Media(PartKind.AUDIO, np.array(samples, "<f4").tobytes(), "clip")
    body = chat.fields(request(media=clip), "gemma", media_first=True, logprobs=False)
    wav = base64.b64decode(body["messages"][0]["content"][0]["input_audio"]["data"])
    heard, rate = soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)
    assert rate == chat.SAMPLE_RATE and heard.shape == (len(samples), 1)
    np.testing.assert_allclose(heard[:, 0], np.array(samples, "f4"), atol=1 / 32_768)


def test_an_answer_is_held_to_its_schema(server: Server) -> None:
    asked = sent(server, engine(server), request(json_schema=SCHEMA))
    assert asked.body["response_format"]["type"] == "json_schema"
    assert asked.body["response_format"]["json_schema"]["schema"] == SCHEMA


def test_labels_go_as_a_schema_or_in_vllms_own_field(server: Server) -> None:
    asked = sent(server, engine(server), request(choices=("a", "b")))
    schema = asked.body["response_format"]["json_schema"]["schema"]
    assert schema == {"type": "string", "enum": ["a", "b"]} and "structured_outputs" not in asked.body
    asked = sent(server, engine(server, choices="vllm"), request(choices=("a", "b")))
    assert asked.body["structured_outputs"] == {"choice": ["a", "b"]} and "response_format" not in asked.body


@pytest.mark.parametrize(
    ("said", "text"), [('"a"', "a"), ('"\\u0061"', "a"), ("a", "a"), ("3", "3"), ('"a', '"a')]
)
def test_a_label_is_read_with_and_without_its_quotes(server: Server, said: str, text: str) -> None:
    server.script = lambda asked: Said(body=completion(said)) if asked.body else healthy(asked)
    (answer,) = ask(engine(server), request(choices=("a", "b")))
    assert isinstance(answer, Response) and answer.text == text


def test_a_hotter_try_has_a_seed(server: Server) -> None:
    body = sent(server, engine(server), request(temperature=0.3, seed=5)).body
    assert (body["temperature"], body["seed"]) == (0.3, 5)


def test_a_server_may_have_a_name_of_its_own_for_the_model_and_no_logprobs(server: Server) -> None:
    body = sent(server, engine(server, model="gemma3:4b", logprobs=False), request()).body
    assert body["model"] == "gemma3:4b" and "logprobs" not in body


def test_probabilities_are_asked_for_where_they_are_wanted(server: Server) -> None:
    given = {"base_url": server.url, "api_key_env": ENV, "outage_seconds": 0}
    model = find_model("google/gemma-3-4b-it")
    plain = OpenAIEngine(EngineConfig(model, 4, max_model_len=1024, options=given, confidence=False))
    assert "logprobs" not in sent(server, plain, request()).body
    wanted = sent(server, plain, request(choices=("a", "b"), likelihoods=True)).body
    assert wanted["logprobs"] and wanted["top_logprobs"]


def test_without_a_key_nothing_secret_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asked = sent(server, engine(server), request())
    assert KEY not in str(asked.headers)


def test_a_key_with_a_newline_behind_it_is_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV, KEY + "\n")
    assert sent(server, engine(server), request()).headers["authorization"] == f"Bearer {KEY}"


# What is read.


def test_an_answer_has_its_tokens_and_confidence(server: Server) -> None:
    logprobs = {"content": [{"token": "x", "logprob": math.log(0.25)}, {"token": "y", "logprob": 0.0}]}
    body = completion("text", "length", usage={"prompt_tokens": 300, "completion_tokens": 2})
    body["choices"][0]["logprobs"] = logprobs
    server.script = lambda asked: Said(body=body) if asked.body else healthy(asked)
    (answer,) = ask(engine(server), request())
    assert answer == Response("text", "length", 300, 2, mean_logprob=pytest.approx(math.log(0.5)))


@pytest.mark.parametrize("more", [{}, {"usage": None}, {"usage": {}}, {"usage": {"prompt_tokens": None}}])
def test_an_answer_without_counts_is_an_answer(server: Server, more: dict[str, Any]) -> None:
    server.script = lambda asked: Said(body=completion(None, **more)) if asked.body else healthy(asked)
    assert ask(engine(server), request()) == [Response("", "stop", 0, 0)]


@pytest.mark.parametrize(
    ("text", "words"), [('"Yes"', ['"', "Yes", '"']), ("Yes", ["Yes"]), ("Yes", [" Yes"])]
)
def test_a_label_that_comes_bare_is_as_likely_as_it_was(server: Server, text: str, words: list[str]) -> None:
    body = completion(text)
    odds = [
        {"token": word, "logprob": -0.1, "top_logprobs": [{"token": word, "logprob": -0.1}]} for word in words
    ]
    body["choices"][0]["logprobs"] = {"content": [*odds, {"token": "", "logprob": 0, "top_logprobs": None}]}
    server.script = lambda asked: Said(body=body) if asked.body else healthy(asked)
    (answer,) = ask(engine(server), request(choices=("Yes", "No"), likelihoods=True))
    likely = None if words == [" Yes"] else {"Yes": 1.0, "No": 0.0}
    assert isinstance(answer, Response) and (answer.text, answer.likelihoods) == ("Yes", likely)


# What is refused, and what it is called.

WITHHELD = completion("", "content_filter")
THOUGHT = {"choices": [{"message": {"content": None, "reasoning_content": "Hm"}, "finish_reason": "stop"}]}
DECLINED = completion(None) | {"choices": [{"message": {"content": None, "refusal": "I will not"}}]}


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (Said(400, error("too long")), RequestRefused, "too long"),
        (Said(413, b"large"), RequestRefused, "large"),
        (Said(422, {"detail": [{"msg": "no"}]}), RequestRefused, "422"),
        (Said(400, [{"error": {"message": "in a list"}}]), RequestRefused, "in a list"),
        (Said(401, error("who are you")), EngineAway, f"the key in {ENV}"),
        (Said(403, error("not yours")), EngineAway, f"the key in {ENV}"),
        (Said(404, error("unknown")), EngineAway, "gemma, other"),
        (Said(402, error("pay")), EngineAway, "pay"),
        (Said(429, error("slow down")), EngineAway, "slow down"),
        (Said(503, error("loading")), EngineAway, "loading"),
        (Said(307, b"", {"Location": "http://127.0.0.1:9/"}), EngineAway, "307"),
        (Said(500, error("oh")), EngineUnavailable, "oh"),
        (Said(0), EngineUnavailable, "broke"),
        (Said(200, b"<html>hello</html>"), EngineUnavailable, "hello"),
        (Said(200, "<html>Schlüssel</html>".encode("latin-1")), EngineUnavailable, "html"),
        (Said(200, error("upstream")), RequestRefused, "upstream"),
        (Said(200, error("upstream") | {"choices": None}), RequestRefused, "upstream"),
        (Said(200, THOUGHT), RequestRefused, "it thought"),
        (Said(200, completion("half", "abort")), EngineUnavailable, "(abort)"),
        (Said(200, WITHHELD), RequestRefused, "content_filter"),
        (Said(200, DECLINED), RequestRefused, "I will not"),
    ],
)
def test_what_a_server_says_has_its_error(
    server: Server, said: Said, kind: type[GemstreamError], words: str
) -> None:
    server.script = lambda asked: said if asked.body else healthy(asked)
    (fault,) = ask(engine(server), request())
    assert type(fault) is kind and words in str(fault)
    assert len(server.questions) == 1


PASSED_OVER = {("/models", 404), ("/models", 429)}
"""It keeps no list, or is busy: it is there."""


@pytest.mark.parametrize("status", [200, 400, 401, 404, 418, 429, 500])
@pytest.mark.parametrize("where", ["/models", "/completions"])
def test_a_server_that_repeats_the_key_does_not_spread_it(server: Server, status: int, where: str) -> None:
    def repeat(asked: Asked) -> Said:
        if not asked.path.endswith(where):
            return healthy(asked)
        return Said(status, error("x" * 280 + " you said " + asked.headers["authorization"]))

    server.script = repeat
    (said,) = ask(engine(server), request())
    if (where, status) in PASSED_OVER:
        assert isinstance(said, Response)
        return
    assert isinstance(said, GemstreamError)
    assert "xxx" in str(said) or (where, status) == ("/models", 200)
    shown = "".join(traceback.format_exception(said)) + str(pickle.dumps(said))
    assert "sk-a" not in shown and "secret" not in shown


def test_what_is_no_key_is_said_without_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV, "sk-a\nsecret")
    (fault,) = ask(engine(server), request())
    assert isinstance(fault, EngineAway) and ENV in str(fault)
    assert "secret" not in "".join(traceback.format_exception(fault))
    assert server.seen == []


def test_the_recipe_has_no_key_in_it(server: Server) -> None:
    made = engine(server)
    assert KEY.encode() not in pickle.dumps(made._config) and KEY not in repr(vars(made))


# Whether it is there.


def test_a_server_that_lists_no_models_may_answer(server: Server) -> None:
    server.script = lambda asked: healthy(asked) if asked.body else Said(404, error("no such page"))
    (answer,) = ask(engine(server), request())
    assert isinstance(answer, Response)


def test_a_server_that_wants_a_key_is_told_from_one_that_refuses_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = lambda asked: Said(401, error("no"))
    assert f"refuses the key in {ENV}" in str(ask(engine(server))[0])
    monkeypatch.delenv(ENV)
    assert f"{ENV} is not set: set it in the environment" in str(ask(engine(server))[0])


def test_what_is_no_such_server_is_said(server: Server) -> None:
    server.script = lambda asked: Said(200, b"<html></html>", {"Content-Type": "text/html"})
    assert "/v1" in str(ask(engine(server))[0])


def test_nothing_follows_a_redirect(server: Server) -> None:
    with answering() as elsewhere:
        away = Said(307, b"", {"Location": f"{elsewhere.url}/chat/completions"})
        server.script = lambda asked: away
        assert isinstance(ask(engine(server))[0], EngineAway)
        server.script = lambda asked: away if asked.body else healthy(asked)
        assert isinstance(ask(engine(server), request())[0], EngineAway)
        assert elsewhere.seen == []


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with answering() as server:
        made = engine(server, outage_seconds=300)
    assert "cannot be reached" in str(ask(made)[0])


def test_a_late_answer_is_a_timeout_beside_others_and_the_servers_own_fault_without(server: Server) -> None:
    arrived, release = threading.Event(), threading.Event()

    def script(asked: Asked) -> Said:
        if asked.question == "late":
            arrived.set()
            release.wait(30)
        if asked.question == "now":
            arrived.wait(30)  # an answer says something of another's time only if that has begun
        return healthy(asked)

    server.script = script
    (alone,) = ask(engine(server, timeout_seconds=2), request("late"))
    arrived.clear()
    beside, answered = ask(engine(server, timeout_seconds=2), request("late"), request("now"))
    release.set()
    assert type(alone) is EngineUnavailable and isinstance(answered, Response)
    assert isinstance(beside, RequestTimeout) and "engine.options.timeout_seconds" in str(beside)
