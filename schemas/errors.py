"""Every error Gemstream raises or writes down, as one tree.

    GemstreamError
    ├── JobError                    the job itself is wrong: nothing was started (exit code 2)
    │   └── SnapshotGone            a version of a table that is not kept any more
    ├── TransientError              the same call may succeed later
    │   ├── StorageUnavailable      the object store did not answer
    │   ├── ObjectChanged           the object is not the version that was listed
    │   ├── EngineUnavailable       the engine died or could not be reached
    │   │   └── EngineAway          it answers nobody, whatever it is asked
    │   ├── RequestTimeout          one request outlived `limits.request_seconds`
    │   ├── Draining                the run is being ended: not asked any more
    │   ├── Interrupted             a signal ended the run (exit code 5)
    │   ├── ClusterLost             a node, or an actor that the run hangs by, is gone
    │   ├── ClusterUnavailable      no cluster answers, or none of its nodes has room for an engine
    │   └── LeaseLost               another run may write to the output now
    └── TerminalError               the same call will fail again
        ├── ObjectMissing           listed, or named in a manifest, but not there
        ├── AccessDenied            the credentials may not read it
        ├── AddressRefused          a URI that the job does not allow
        ├── EmptyObject             zero bytes
        ├── UnsupportedMedia        no expander reads this media type
        ├── WrongContent            the name says one thing, the bytes another
        ├── CorruptDocument         the parser gave up
        ├── EncryptedDocument       no password in the job opens it
        ├── NoText                  a page that is to be read by its text layer has none
        ├── LimitExceeded           a limit of the job, with its name
        ├── ParserCrashed           the parser took its process down
        ├── ParserTimeout           the parser did not come back
        ├── RequestRefused          the engine will not take this request
        ├── PoisonRequest           in flight at two engine deaths: quarantined
        ├── PageError               the page of a run could not be made; everything else of it is there
        └── AnswerError             the engine answered, the answer does not hold
            ├── TruncatedAnswer     cut off at its token budget
            ├── LoopingAnswer       the same words without end
            ├── EmptyAnswer         no words, where some were asked for
            ├── UnparsableAnswer    not the JSON that was asked for
            └── OffSchemaAnswer     JSON, but not of the schema

Retry is decided by type, never by text. Every error takes one positional message and keyword
fields, so it survives pickling between Ray's processes.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GemstreamError(Exception):
    """Base of the tree.

    Args:
        message: what happened and what to do next, in one sentence each.
        **fields: facts for the error row (never a credential).
    """

    category: ClassVar[str] = "internal"
    """Stable name written to `errors/`, counted in the report."""
    stage: ClassVar[str] = "run"
    """The stage that raises it, unless `fields["stage"]` says otherwise."""

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as message and fields (the default would call the class with a bare tuple)."""
        return _rebuild, (type(self), self.message, self.fields)


def categories() -> frozenset[str]:
    """The closed list of what the `category` of an error row may be."""
    found: set[str] = set()
    kinds: list[type[GemstreamError]] = [GemstreamError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found.add(kind.category)
    return frozenset(found)


def _rebuild(kind: type[GemstreamError], message: str, fields: dict[str, Any]) -> GemstreamError:
    return kind(message, **fields)


class JobError(GemstreamError):
    """The job is wrong; `fields["key"]` names the setting."""

    category = "job"
    stage = "plan"


class SnapshotGone(JobError):
    """A version of a table that is not kept any more."""

    category = "snapshot_gone"


class TransientError(GemstreamError):
    """The same call may succeed later."""


class TerminalError(GemstreamError):
    """The same call will fail again."""


class StorageUnavailable(TransientError):
    """The object store did not answer, after its own retries."""

    category = "storage_unavailable"
    stage = "fetch"


class ObjectChanged(TransientError):
    """The object was replaced between listing and reading."""

    category = "object_changed"
    stage = "fetch"


class EngineUnavailable(TransientError):
    """The engine died or could not be reached."""

    category = "engine_unavailable"
    stage = "infer"


class EngineAway(EngineUnavailable):
    """It answers nobody, whatever it is asked: no request is at fault, and another start changes nothing."""


class RequestTimeout(TransientError):
    """One request outlived `limits.request_seconds`."""

    category = "request_timeout"
    stage = "infer"


class LeaseLost(TransientError):
    """The run's lease of its output ran out, or is another run's now: this run may not write any more."""

    category = "lease_lost"
    stage = "run"


class Draining(TransientError):
    """The run is being ended, so this request was not asked any more. No row is written about it."""

    category = "draining"
    stage = "infer"


class Interrupted(TransientError):
    """A signal ended the run; what was answered is written."""

    category = "interrupted"


class ClusterLost(TransientError):
    """A node, or an actor that the run hangs by, is gone."""

    category = "cluster_lost"


class ClusterUnavailable(TransientError):
    """No cluster answers at the address, or no node of it had room for an engine in time."""

    category = "cluster_unavailable"


class ObjectMissing(TerminalError):
    """Listed, or named in a manifest, but not there."""

    category = "missing"
    stage = "fetch"


class AccessDenied(TerminalError):
    """The credentials may not read it."""

    category = "access_denied"
    stage = "fetch"


class AddressRefused(TerminalError):
    """A URI that the job does not allow."""

    category = "address_refused"
    stage = "fetch"


class EmptyObject(TerminalError):
    """Zero bytes."""

    category = "empty"
    stage = "sniff"


class UnsupportedMedia(TerminalError):
    """No expander reads this media type."""

    category = "unsupported_media"
    stage = "sniff"


class WrongContent(TerminalError):
    """The name says one thing, the bytes another that nothing reads."""

    category = "wrong_content"
    stage = "sniff"


class CorruptDocument(TerminalError):
    """The parser gave up."""

    category = "corrupt"
    stage = "expand"


class EncryptedDocument(TerminalError):
    """No password in the job opens it."""

    category = "encrypted"
    stage = "expand"


class NoText(TerminalError):
    """A page that is to be read by its text layer (`expand.pages: text`) has none."""

    category = "no_text"
    stage = "expand"


class LimitExceeded(TerminalError):
    """A limit of the job; `fields["limit"]` is its name in the job spec."""

    category = "limit"
    stage = "expand"


class ParserCrashed(TerminalError):
    """The parser took its process down; `fields["signal"]` says how."""

    category = "parser_crash"
    stage = "expand"


class ParserTimeout(TerminalError):
    """The parser did not come back within `limits.expand_seconds`."""

    category = "parser_timeout"
    stage = "expand"


class RequestRefused(TerminalError):
    """The engine will not take this request (too long, malformed media, a schema it cannot hold)."""

    category = "request_refused"
    stage = "infer"


class PoisonRequest(TerminalError):
    """In flight at two engine deaths: quarantined."""

    category = "poison"
    stage = "infer"


class PageError(TerminalError):
    """The page of a run (`report.html`) could not be made; everything else of the run is there."""

    category = "page"
    stage = "report"


class AnswerError(TerminalError):
    """The engine answered, and the answer does not hold; `fields["text"]` keeps what it said."""

    category = "answer"
    stage = "validate"


class TruncatedAnswer(AnswerError):
    """Cut off at its token budget."""

    category = "truncated"


class LoopingAnswer(AnswerError):
    """The same words without end."""

    category = "looping"


class EmptyAnswer(AnswerError):
    """No words, where some were asked for."""

    category = "empty_answer"


class UnparsableAnswer(AnswerError):
    """Not the JSON that was asked for."""

    category = "unparsable"


class OffSchemaAnswer(AnswerError):
    """JSON, but not of the schema; `fields["partial"]` is the answer without what does not hold, if any of
    it does."""

    category = "off_schema"
