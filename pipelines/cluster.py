"""Ray: somebody's cluster, or one of our own on this machine that leaves nothing behind."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception_message, stop_after_attempt

from schemas.errors import ClusterLost, EngineUnavailable, GemstreamError, JobError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    import psutil
    from tenacity import RetryCallState

LOGICAL_CPUS = 8
"""On a laptop actors hold a logical CPU each while they wait, so there must be more of those than
cores, or the last stage never starts."""
END_SECONDS = 10.0
"""vLLM's processes end themselves within 5 s of their actor; what is still there then is killed."""
STARTS, SLOW = 3, "The current node timed out during startup"
"""Ray gives its node 30 s to come up, too little on a machine where much else starts, and says so in these
words of a bare Exception. What it had begun is ended, and it begins anew."""

log = logging.getLogger("gemstream")


@contextmanager
def cluster(metrics_port: int | None = None) -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names, or start one that ends with this block.

    Args:
        metrics_port: where one of our own answers to Prometheus. It does not unless asked: the port has no
            password and is open on every interface.
    """
    # A thread that asks Ray something after its end would start another.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    import ray

    with _stdout_kept():
        if ray.is_initialized():
            yield
            return
        quiet = {"log_to_driver": log.isEnabledFor(logging.DEBUG), "logging_level": logging.ERROR}
        if "RAY_ADDRESS" in os.environ:
            with _sigterm_kept():
                ray.init(**quiet)
            try:
                yield
            finally:
                ray.shutdown()
            return
        metrics: dict[str, Any] = {"_metrics_export_port": metrics_port}
        if metrics_port is None:
            metrics = {"_system_config": {"enable_metrics_collection": False}}
        with _own(quiet | metrics):
            yield


def _stdout_kept() -> AbstractContextManager[object]:
    """Standard output is for what the command was asked for. Ray prints there, whatever it was told of logs,
    what the cluster warns of ("10 PYTHON worker processes have been started"), and that was in the midst of
    `--json`.

    A run in a thread that is not the main one leaves it alone: two that overlap would put back each other's.
    """
    main = threading.current_thread() is threading.main_thread()
    return redirect_stdout(sys.stderr) if main else nullcontext()


def exporting() -> bool:
    """Whether nodes of the cluster export metrics: without `ray[default]` they do not, nor if told not to."""
    import ray

    return any(node["Alive"] and node["MetricsExportPort"] > 0 for node in ray.nodes())


def cores() -> int:
    """What there is to compute on: this machine's cores, if Ray was told of more; else what the cluster says.
    A parser and its worker take two seconds of CPU to start, and share a core with the engine."""
    import ray

    told = int(ray.cluster_resources().get("CPU", 1))
    return told if "RAY_ADDRESS" in os.environ else min(told, os.cpu_count() or 1)


def refuse_port(port: int) -> None:
    """Say at once that metrics cannot be had at a port: Ray's own way to say so is not to come up.

    Raises:
        JobError: it is taken, or the cluster is somebody's, who has said where its metrics are.
    """
    if "RAY_ADDRESS" in os.environ:
        raise JobError(
            "--metrics-port is for a Ray of our own; each node of the cluster that RAY_ADDRESS names exports "
            "at the port that it was started with (ray start --metrics-export-port)",
            key="metrics_port",
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except (OSError, OverflowError) as error:
            raise JobError(f"--metrics-port {port} cannot be had: {error}", key="metrics_port") from error


@contextmanager
def _own(quiet: dict[str, Any]) -> Iterator[None]:
    import psutil
    import ray

    # Ray's core prints advice about its own actors as errors; what is fatal still shows.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    myself = psutil.Process()
    others = set(myself.children())
    # "local": another Ray of this machine, or the stale address of one, is not ours to join.
    cpus = max(LOGICAL_CPUS, os.cpu_count() or 1)
    roots: list[psutil.Process] = []
    patience = 0.0
    try:
        try:
            for attempt in Retrying(
                retry=retry_if_exception_message(match=SLOW),
                stop=stop_after_attempt(STARTS),
                before_sleep=lambda _: _killed(_family(set(myself.children()) - others)),
                retry_error_callback=_too_busy,
            ):
                with attempt, _sigterm_kept():
                    ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
            patience = END_SECONDS
        finally:
            # Of a start that is cut short by a signal, too: Ray forgets what it had begun, and never ends it.
            roots = [child for child in myself.children() if child not in others]
        yield
    finally:
        family = _family(roots)
        ray.shutdown()
        _killed(family, patience)


def _killed(processes: Iterable[psutil.Process], patience: float = 0.0) -> None:
    """They end, or are ended."""
    import psutil

    _, left = psutil.wait_procs(processes, timeout=patience)
    for process in left:
        with suppress(psutil.NoSuchProcess):  # it has ended with the one before it
            process.kill()
    psutil.wait_procs(left, timeout=END_SECONDS)


def _too_busy(state: RetryCallState) -> None:
    assert state.outcome is not None
    raise EngineUnavailable(
        f"Ray did not come up on this machine in {STARTS} tries: it is too busy, or short of memory; run the "
        "same command again when less runs on it"
    ) from state.outcome.exception()


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Whoever handled SIGTERM before Ray starts handles it afterwards: Ray's own way is to exit with 15.

    One that comes while Ray forks finds its handler in a fork hook, whose exceptions Python prints and drops.
    The wakeup descriptor is told of it all the same, so there is nothing to print.

    Raises:
        SystemExit: with SIGTERM as its code, as Ray raises it, if one came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler, dropped = signal.getsignal(signal.SIGTERM), sys.unraisablehook

    def drop(what: sys.UnraisableHookArgs) -> None:
        if not isinstance(what.exc_value, SystemExit):
            dropped(what)

    sys.unraisablehook = drop
    heard, told = socket.socketpair()
    with heard, told:
        heard.setblocking(False)
        told.setblocking(False)
        before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            sys.unraisablehook = dropped
            signal.set_wakeup_fd(before)
            if callable(handler):
                signal.signal(signal.SIGTERM, handler)
        with suppress(BlockingIOError):  # nothing came
            if signal.SIGTERM in heard.recv(4096):
                raise SystemExit(signal.SIGTERM)


def unwrapped(error: BaseException) -> GemstreamError:
    """What went wrong, out of what Ray wraps around it on the way from another process.

    An error of ours is that error, and a lost part of the cluster is no fault of anybody's here.
    Anything else is a defect: it keeps Ray's text, which has the trace of the process it happened in.
    """
    from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, WorkerCrashedError

    lost = (RayActorError, NodeDiedError, ObjectLostError, WorkerCrashedError)
    inner: BaseException | None = error
    while inner is not None:
        cause = getattr(inner, "cause", None)  # Ray's wrapper is of the wrapped error's class, too
        if isinstance(inner, GemstreamError) and cause is None:
            return inner
        # An actor that never came up has a reason, which is in Ray's text.
        if isinstance(inner, lost) and not getattr(inner, "actor_init_failed", False):
            return ClusterLost(
                f"a part of the cluster was lost ({type(inner).__name__}); what is written stays, the same "
                "command goes on from there"
            )
        inner = cause or inner.__cause__
    return GemstreamError(f"a stage failed, which is a defect; please report it with this:\n{error}")


def here() -> dict[str, Any]:
    """Options of an actor that is to live on the driver's own node: the run cannot outlive either."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


def _family(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [member for root in roots for member in _tree(root)]


def _tree(root: psutil.Process) -> list[psutil.Process]:
    import psutil

    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
