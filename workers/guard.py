"""A child process that may crash, hang or bloat in a parser's stead.

Parsers are native code fed with hostile bytes. Each stage actor owns one `Guard`; the guard owns one
child, which is killed when it takes too long, refuses memory beyond its ceiling, and is replaced
whenever it dies and after a number of requests. Whatever happens in it becomes one error of
`schemas.errors`, and the next request finds a fresh child.

Not `pebble.ProcessPool` (5.2.3, LGPL-3.0), which does most of this. Measured beside it:

                                          pebble          here
    call that returns 1 kB / 200 kB   0.42 / 1.22 ms  0.28 / 0.79 ms
    crash noticed, next answer         80 + 240 ms      2 + 100 ms
    first answer in a Ray actor         0.8-1.0 s      0.11-0.18 s
    child's memory in a Ray actor         69 MB           17 MB

The last two are multiprocessing's spawn, which imports the parent's main module again: in an actor
that is Ray's own worker. Its children also keep the parent's environment, credentials included, in
/proc/self/environ, may send their parent any pickle, and share one lock between all generations: a
child that the kernel kills while it sends leaves the pool deaf. Plain `subprocess` has none of this.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import os
import pickle
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from schemas import errors
from schemas.errors import GemstreamError, ParserCrashed, ParserTimeout
from workers.wire import Wire, answer, nonsense

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

P = ParamSpec("P")
T = TypeVar("T")

RECYCLE = 1_000  # Requests per child: parsers leak.
WORN_SHARE = 0.25
"""A child that keeps more than this share of its ceiling after a document is replaced too."""
START_SECONDS = 120.0
START_ATTEMPTS = 3
"""A child that cannot even import its libraries in so much time is a broken installation."""
EPITAPH_SECONDS = 5.0  # A child that has closed its connection should be dead in no time.
MESSAGE_CHARACTERS = 300

KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME")
KEPT_PREFIXES = ("LC_", "PYTHON", "NUMBA_")
"""All that the child sees of the environment. Credentials are in none of it, and a list of what to
keep does not have to know the name of the next secret."""

REFUSED_MEMORY = re.compile(r"out of memory|[cm]alloc\b|cannot allocate|system limits|failed to map", re.I)
"""How libraries say that an allocation was refused, where they do not raise MemoryError."""

KEPT_BYTES = str(32 * 1024 * 1024)
MALLOC = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": KEPT_BYTES,
    "MALLOC_TRIM_THRESHOLD_": KEPT_BYTES,
}
"""So much is kept for the next document. By itself glibc gave the 9 MB of a 4-megapixel photo back to the
kernel and took them anew at the next, in 2,285 page faults, a tenth of its time, until after some twenty of
them it kept them."""

BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); import workers.guard as g; g.serve()"


class Guard:
    """One child and what it takes to keep one. For one thread at a time.

    Args:
        seconds: wall seconds to wait for each value (`limits.expand_seconds`).
        ceiling: bytes of address space a request may take on top of the imported libraries
            (`limits.expand_bytes`).
        answers: classes the child may send beside plain values and errors. Anything else is refused:
            a child that a hostile file took over must not take its parent over by pickle.
        recycle: requests per child.
    """

    def __init__(
        self, seconds: float, ceiling: int, answers: Iterable[type] = (), recycle: int = RECYCLE
    ) -> None:
        self._seconds = seconds
        self._ceiling = ceiling
        self._answers = {(kind.__module__, kind.__qualname__): kind for kind in answers}
        self._recycle = recycle
        self._child: _Child | None = None
        self._busy = False
        # The kernel ends a child when the *thread* that started it ends, so one thread starts them
        # all and lives as long as the guard, whichever threads call it.
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="guard")

    def stream(
        self,
        libraries: tuple[str, ...],
        function: Callable[P, Iterable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Iterator[T]:
        """Call a function of some module in the child and yield what it yields, as it comes.

        A stream that is left before its end costs the child its life.

        Args:
            libraries: modules to import first; neither their time nor their memory counts.
            function: picklable by name; yields plain values and instances of `answers`.
            *args: picklable; the name of any `Path` among them is all that messages say of it.

        Raises:
            ParserTimeout: no value within `limits.expand_seconds`.
            ParserCrashed: the child died, with the signal's name.
            LimitExceeded: it asked for more memory than `limits.expand_bytes`.
            CorruptDocument: the function raised something that is no error of ours.
            GemstreamError: what the function raised.
            RuntimeError: no child comes up at all, which is no fault of a document.
        """
        child = self._began((libraries, function, args, kwargs, self._ceiling))
        reusable, fault = False, None
        self._busy = True
        try:
            while True:
                kind, value = child.receive(self._seconds, self._answers)
                if kind == "value":
                    yield value
                elif kind == "error":
                    fault = value
                elif kind == "end":
                    break
                else:
                    raise ParserCrashed(f"the parser's process said {kind!r} where an answer was due")
            # What a parser does not give back would count against the next document.
            reusable = value < self._ceiling * WORN_SHARE and child.requests < self._recycle
            if fault is not None:
                # After a refused allocation the heap is in pieces.
                reusable = reusable and fault.fields.get("limit") != "limits.expand_bytes"
                raise fault
        finally:
            self._busy = False
            if not reusable:
                self._end_child()

    def close(self) -> None:
        """End the child. Closing twice is fine."""
        self._end_child()
        self._keeper.shutdown()

    @property
    def pid(self) -> int | None:
        """Process id of the child there is now."""
        return self._child.process.pid if self._child else None

    def _began(self, request: object) -> _Child:
        """A child that has taken the request and imported what it needs."""
        if self._busy:
            raise RuntimeError("the child is still at work on another stream: read it to its end or close it")
        for attempt in range(1, START_ATTEMPTS + 1):
            if self._child is None:
                self._child = self._keeper.submit(_Child).result()
            try:
                self._child.send(request)
                self._child.receive(START_SECONDS, self._answers)
            except (ParserCrashed, ParserTimeout) as fault:
                # No document was touched yet: an idle child was killed, or the installation is broken.
                self._end_child()
                if attempt == START_ATTEMPTS:
                    raise RuntimeError(f"the parser's process does not come up: {fault.message}") from fault
            else:
                return self._child
        raise AssertionError("unreachable")

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Child:
    """The process, as its parent sees it."""

    def __init__(self) -> None:
        self.requests = 0
        ours, theirs = socket.socketpair()
        self._wire = Wire(ours)
        self._words = os.memfd_create("parser-stderr")
        os.set_inheritable(self._words, False)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in KEPT_ENVIRONMENT or name.startswith(KEPT_PREFIXES)
        }
        # One core is what the stage has asked for; and each idle OpenBLAS thread reserves 40 MB.
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | MALLOC
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", BOOT, json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._words,
                pass_fds=(theirs.fileno(),),
            )

    def send(self, request: object) -> None:
        """Hand over a request; a child that is dead already shows itself in `receive`."""
        self.requests += 1
        if os.fstat(self._words).st_size:
            os.ftruncate(self._words, 0)
            os.lseek(self._words, 0, os.SEEK_SET)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._wire.send(pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL))

    def receive(self, seconds: float, answers: dict[tuple[str, str], type]) -> tuple[str, Any]:
        """The next message, or the error that says why there is none."""
        began = time.monotonic()
        try:
            message = self._wire.receive(seconds)
        except TimeoutError:
            raise ParserTimeout(
                f"the parser was stopped after {time.monotonic() - began:.0f} s (limits.expand_seconds)",
                limit="limits.expand_seconds",
            ) from None
        except (EOFError, OSError):  # the latter if it died in the middle of a message
            raise self._epitaph() from None
        except ValueError as error:
            raise nonsense(error) from error
        return answer(message, answers)

    def end(self) -> None:
        """Kill it, reap it, release what is held for it."""
        self.process.kill()
        self.process.wait()
        self._wire.close()
        os.close(self._words)

    def _epitaph(self) -> ParserCrashed:
        try:
            code = self.process.wait(EPITAPH_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        words = os.pread(self._words, 4096, max(0, os.fstat(self._words).st_size - 4096))
        last = words.decode("utf-8", "replace").strip().rpartition("\n")[2]
        said = f": {_short(last)}" if last else ""
        if code >= 0:
            return ParserCrashed(
                f"the parser ended its process with exit status {code}{said}", exit_status=code
            )
        name = signal.Signals(-code).name
        hint = " (the kernel does this when the machine is out of memory)" if name == "SIGKILL" else ""
        return ParserCrashed(f"the parser crashed with {name}{hint}{said}", signal=name)


def serve() -> None:
    """The child's whole life: requests in, values out, until the parent is gone."""
    descriptor, parent = map(int, sys.argv[2:])
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wire = Wire(socket.socket(fileno=descriptor))
    # The machine's own limit, -1 if it has none: it can be lowered, never raised.
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    imported: set[str] = set()
    baseline = 0
    while True:
        try:
            libraries, function, args, kwargs, ceiling = pickle.loads(wire.receive())
        except EOFError:
            return
        if not baseline or not imported.issuperset(libraries):
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
            before = _address_space() if baseline else 0
            for library in libraries:
                importlib.import_module(library)
            imported.update(libraries)
            baseline += _address_space() - before
        allowed = baseline + ceiling
        resource.setrlimit(resource.RLIMIT_AS, (min(allowed, hard) if hard >= 0 else allowed, hard))
        wire.send(pickle.dumps(("ready", None)))
        for message in _messages(function, args, kwargs):
            wire.send(message)
        wire.send(pickle.dumps(("end", _address_space() - baseline)))


def _messages(function: Callable[..., Iterable[Any]], args: Any, kwargs: Any) -> Iterator[bytes]:
    try:
        for value in function(*args, **kwargs):
            yield pickle.dumps(("value", value), protocol=pickle.HIGHEST_PROTOCOL)
    except GemstreamError as error:
        yield _error(error)
    except Exception as error:
        # The one seam where any library's error becomes ours: there are too many classes to name.
        yield _error(_as_ours(error, args))


def _error(error: GemstreamError) -> bytes:
    return pickle.dumps(("error", error), protocol=pickle.HIGHEST_PROTOCOL)


def _as_ours(error: Exception, args: Iterable[Any]) -> GemstreamError:
    """The library's words, without the names of scratch files."""
    words = str(error)
    for arg in args:
        if isinstance(arg, Path):
            words = words.replace(str(arg), arg.name)
    words, kind = _short(words), type(error).__name__
    if isinstance(error, MemoryError) or REFUSED_MEMORY.search(words):
        return errors.LimitExceeded(
            "the document needs more memory than limits.expand_bytes allows; raise it to try again",
            limit="limits.expand_bytes",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.StorageUnavailable("the scratch disk of this worker (TMPDIR) is full", stage="expand")
    if isinstance(error, ImportError):
        return GemstreamError(f"a library of this installation is missing or broken: {words}", stage="expand")
    return errors.CorruptDocument(f"{kind}: {words}" if words else kind, error=kind)


def _short(words: str) -> str:
    return " ".join(words.split())[:MESSAGE_CHARACTERS]


def _address_space() -> int:
    """Bytes this process has mapped."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, even one that hangs in native code.

    Args:
        parent: its process id. What dies is the thread of it that started this process.
    """
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the parent was gone before its child came up")
