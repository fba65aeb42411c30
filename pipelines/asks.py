"""task x model -> what is asked, within the model's context: questions, budgets, fingerprint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.errors import JobError
from schemas.fingerprint import fingerprint, ingredients
from schemas.ids import canonical, digest
from schemas.names import NAMES
from schemas.rows import Pages, PartKind, Shown
from schemas.tasks.ask import COLUMNS
from workers.expand import ExpandOptions
from workers.prompt import Ask
from workers.tiles import prompt_tokens

if TYPE_CHECKING:
    import pyarrow as pa

    from schemas.job import JobSpec
    from schemas.models import Model
    from schemas.tasks.base import Task
    from workers.engines import EngineConfig

TEMPLATE_TOKENS = 32
"""Turn markers, BOS, and the newlines around the media."""
MIN_ANSWER_TOKENS = 16
MIN_TEXT_CHARACTERS = 500
MIN_WHOLE_CHARACTERS = 120
"""Of what parts say, beside a question about all of them: two short answers."""


ANSWERING = (
    "extra_body",
    "hf_overrides",
    "kv_cache_dtype",
    "logits_processors",
    "mm_processor_kwargs",
    "override_generation_config",
    "quantization",
    "tokenizer",
    "tokenizer_revision",
)
"""Options of engines that change answers, rather than how fast they come. `dtype` is none: it is for speed,
and which is taken where none is named depends on the machine. A chat template is the model's own."""
HASHED_ROOM = 5_781
"""In place of how much text of a page fits, wherever pages may be shown as text: what it was for `ocr` while
it was hashed, so that answers of then are found again."""


def _shown(model: Model, expand: ExpandOptions) -> tuple[Shown, ...]:
    """The ways in which parts are put before this model in this job."""
    if PartKind.AUDIO in model.parts:
        return (Shown.AUDIO,)
    return (Shown.IMAGE,) if expand.pages is Pages.IMAGE else (Shown.IMAGE, Shown.TEXT)


def room_for_text(tasks: list[Task], length: int) -> int:
    """Characters of a page's text that fit the context beside any task's question and answer: a token is at
    least a character."""
    taken = max(len(task.question(Shown.TEXT)) + task.max_tokens for task in tasks)
    room = length - TEMPLATE_TOKENS - taken
    if room < MIN_TEXT_CHARACTERS:
        raise JobError(
            f"expand.pages: {length} tokens of context leave no room for a page's text beside {taken} of "
            "question and answer; raise engine.max_model_len, lower tasks.max_tokens, or set it to image",
            key="expand.pages",
        )
    return room


def _refuse_unknown_columns(task: Task, attributes: pa.DataType | None) -> None:
    known = [*COLUMNS, *(field.name for field in attributes or ())]
    unknown = [name for name in task.columns if name not in known]
    if unknown:
        raise JobError(
            f"tasks.{task.name}: the prompt names ${unknown[0]}, and there is {', '.join(known)}",
            key=f"tasks.{task.name}.prompt",
        )


def make_ask(
    job: JobSpec, task: Task, config: EngineConfig, expand: ExpandOptions, attributes: pa.DataType | None
) -> Ask:
    """One task as the model of a lane is asked it.

    Raises:
        JobError: question, part and answer do not fit the context, or the prompt names an unknown column.
    """
    model, length = config.model, config.max_model_len
    questions = {how: task.subject() if model.only else task.question(how) for how in _shown(model, expand)}
    asked = max(questions.values(), key=len)
    # A token is at least a character, so the question's length bounds its tokens from above.
    media_tokens = model.media_tokens + (prompt_tokens(model.media_tokens) if expand.tiling else 0)
    part_tokens = max(media_tokens, expand.text_characters)
    room = min(job.limits.answer_tokens, length - part_tokens - len(asked) - TEMPLATE_TOKENS)
    if room < MIN_ANSWER_TOKENS:
        way_out = ", or set expand.tiling to off" if expand.tiling else ""
        raise JobError(
            f"tasks.{task.name}: a question of {len(asked)} characters and {media_tokens} media tokens leave "
            f"no room in {length} tokens; raise engine.max_model_len or limits.answer_tokens{way_out}",
            key=f"tasks.{task.name}",
        )
    _refuse_unknown_columns(task, attributes)
    adapter = config.adapters[task.adapter] if task.adapter else None
    made_of = ingredients(
        task, questions.values(), model, _options(expand), job.seed, adapter, job.privacy.recipe
    ) | _told(config)
    return Ask(
        task=task,
        questions=questions,
        fingerprint=fingerprint(made_of),
        made_of=made_of,
        max_tokens=min(task.max_tokens, room),
        ceiling_tokens=room,
        seed=job.seed,
    )


def make_whole(job: JobSpec, ask: Ask, config: EngineConfig, expand: ExpandOptions) -> Ask | None:
    """The question about whole documents that goes with one about their parts, if any does. What changes that
    one changes this one.

    Raises:
        JobError: it leaves no room for what the parts say.
    """
    question = ask.task.whole_question()
    if question is None:
        return None
    length = config.max_model_len
    ceiling = min(job.limits.answer_tokens, 2 * ask.max_tokens, length // 3)
    room = length - TEMPLATE_TOKENS - len(question) - ceiling
    if room < MIN_WHOLE_CHARACTERS:
        raise JobError(
            f"tasks.{ask.task.name}: {length} tokens of context leave no room for what its parts say of a "
            "document; raise engine.max_model_len, or set whole: false",
            key=f"tasks.{ask.task.name}.whole",
        )
    adapter = config.adapters[ask.task.adapter] if ask.task.adapter else None
    questions = (question, *ask.questions.values())
    made_of = ingredients(
        ask.task, questions, config.model, _options(expand), job.seed, adapter, job.privacy.recipe
    ) | _told(config)
    return Ask(
        task=ask.task,
        questions={Shown.TEXT: question},
        fingerprint=fingerprint(made_of),
        made_of=made_of,
        max_tokens=min(ask.max_tokens, ceiling),
        ceiling_tokens=ceiling,
        seed=job.seed,
        room=room,
    )


def make_names(job: JobSpec, config: EngineConfig) -> Ask | None:
    """The question which people an answer names, if the job wants their names taken out of it.

    Raises:
        JobError: it leaves no room for an answer.
    """
    # A model of a question of its own says yes or no, which names nobody.
    if not job.privacy.names or config.model.only:
        return None
    question, length = NAMES.question(Shown.TEXT), config.max_model_len
    # No more names can be said than there are in the text.
    room = (length - TEMPLATE_TOKENS - len(question)) // 2
    if room < MIN_WHOLE_CHARACTERS:
        raise JobError(
            f"privacy.redact: {length} tokens of context leave no room to ask for names; raise "
            "engine.max_model_len, or leave name out",
            key="privacy.redact",
        )
    made_of = ingredients(NAMES, [question], config.model, {}, job.seed)
    return Ask(
        task=NAMES,
        questions={Shown.TEXT: question},
        fingerprint=fingerprint(made_of),
        made_of=made_of,
        max_tokens=min(NAMES.max_tokens, room),
        ceiling_tokens=room,
        seed=job.seed,
        room=room,
    )


def _options(expand: ExpandOptions) -> dict[str, Any]:
    """What of the expand options changes the answers."""
    seen = expand.model_dump(mode="json", exclude=ExpandOptions.UNSEEN, exclude_none=True)
    return seen | {"text_characters": 0 if expand.pages is Pages.IMAGE else HASHED_ROOM}


def _told(config: EngineConfig) -> dict[str, str]:
    """What of the engine's own options changes the answers, as an ingredient; none where there is nothing."""
    given = {name: config.options.get(name) for name in ANSWERING}
    told = {name: value for name, value in given.items() if value and value != "auto"}
    shown = told.get("mm_processor_kwargs")
    if isinstance(shown, dict) and shown.keys() == {"max_soft_tokens"}:
        del told["mm_processor_kwargs"]  # it is in the size that pictures are shown at
    return {"engine": digest(canonical(told))} if told else {}
