"""Carry out the runs of a suite: one after another on this machine, or on a Ray cluster."""

import importlib.util
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from triptych.errors import ConfigError, ResultsError
from triptych.results.lock import Lock
from triptych.run.events import BeginEvent, Listener, RunEvent, RunId, TriedEvent
from triptych.suite import processes
from triptych.suite.fork_server import ForkServer

# "0": a cluster of one machine, on any system, on the loopback interface
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_ADDRESS = re.compile(r"ray://[^/\s]+:\d+")
CONNECT_SECONDS = 10.0  # for the head of a cluster to accept a connection
RETRIES = 3  # for a run whose worker was lost


@dataclass(frozen=True)
class Job:
    """A run, or a trial of its search, as a command.

    Attributes:
        run: the run that its events are about.
        group: the first run of a group is carried out before the others, which use its result (a search).
        arguments: arguments of `triptych`.
        folder: the folder that it writes to.
        index: the run's number in the suite, from 0; a trial has the number of its run.
        total: how many runs the suite has.
        trials: trials that may be made before the run, each on its own; the run makes the missing ones.
    """

    run: RunId
    group: str
    arguments: tuple[str, ...]
    folder: Path
    index: int = 0
    total: int = 1
    trials: tuple["Job", ...] = ()

    def begin(self) -> BeginEvent:
        """The event for the start of the job."""
        return BeginEvent(index=self.index, total=self.total)


class Executor(Protocol):
    """Carries out the runs of a suite."""

    def __call__(self, jobs: Sequence[Job], lock: Lock, listener: Listener) -> Iterator[tuple[Job, str | None]]:
        """Carry out runs.

        Args:
            jobs: the runs.
            lock: the lock of the results folder.
            listener: called with the events of the runs and of their trials.

        Yields:
            Each run as it ends, with what went wrong, or None.
        """


@dataclass(frozen=True)
class Resources:
    """What a run needs from a worker: cores, GPUs, bytes of memory (0: any)."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: float = 0.0


def make_executor(name: str, resources: Resources) -> Executor:
    """The executor with a name: `local`, `ray` (a cluster on this machine) or `ray://HOST:PORT`.

    Args:
        name: the name.
        resources: what each run needs from a Ray worker.

    Raises:
        ConfigError: the name is unknown, or ray is not installed; or the resources are negative, or not for Ray.
    """
    if not all(value >= 0 for value in vars(resources).values()):
        raise ConfigError("--run-cpus, --run-gpus and --run-memory: numbers of 0 or more are needed.")
    if name == "local":
        if resources != Resources():
            raise ConfigError("--run-cpus, --run-gpus and --run-memory are for --executor ray: leave them out.")
        return one_by_one
    if name != "ray" and not _ADDRESS.fullmatch(name):
        raise ConfigError(
            f"--executor {name!r} is unknown: give local, ray (a cluster on this machine) or ray://HOST:PORT."
        )
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("--executor ray needs the package ray: pip install 'triptych[ray]'.")
    return OnRay(name if name != "ray" else None, resources)


@contextmanager
def prepared(executor: Executor) -> Iterator[Executor]:
    """Yield an executor; if its runs are local, what their child processes need is imported from now on.

    Raises:
        ConfigError: nothing answers at the address of its Ray cluster.
    """
    if isinstance(executor, OnRay):
        executor.check_address()
    if executor is not one_by_one or (os.cpu_count() or 1) == 1:
        yield executor
        return
    with ForkServer() as server:
        server.begin()
        yield partial(one_by_one, server=server)


def one_by_one(
    jobs: Sequence[Job], lock: Lock, listener: Listener, server: ForkServer | None = None
) -> Iterator[tuple[Job, str | None]]:
    """Carry out runs on this machine, one after another, each in a child process.

    Args:
        jobs: the runs.
        lock: the lock of the results folder.
        listener: called with the events of the runs.
        server: forks the child processes; it ends with the last run. None: a new one.
    """
    with server or ForkServer() as server:
        for job in jobs:
            listener(job.run, job.begin())
            yield job, _carry_out(job, lock, partial(listener, job.run), server.start)


def _carry_out(
    job: Job, lock: Lock, listener: Callable[[RunEvent], None], start: processes.Start = processes.spawn
) -> str | None:
    try:
        lock.check()
    except ResultsError as error:
        return str(error)
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "record.json").unlink(missing_ok=True)
    arguments = (*job.arguments, "--lock", str(lock.folder.absolute()), lock.token)
    return processes.run_command(arguments, job.folder / "log.txt", lock.descriptor, listener, start)


@dataclass(frozen=True)
class OnRay:
    """Carries out runs and trials on a Ray cluster.

    Workers need Triptych installed and the results folder under the same path. A run whose worker is lost
    resumes on another worker, from its last checkpoint.

    Args:
        address: the cluster's address; None: one is started on this machine for the duration of the suite.
        resources: what each run needs.
    """

    address: str | None
    resources: Resources

    def check_address(self) -> None:
        """Check, before anything is written, that something answers at the cluster's address.

        Raises:
            ConfigError: nothing does.
        """
        if self.address is None:
            return
        host, _, port = self.address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
        except (OSError, OverflowError, UnicodeError) as error:
            reason = str(error).rstrip(".")
            raise ConfigError(f"The Ray cluster {self.address!r} cannot be reached: {reason}.") from None

    def __call__(self, jobs: Sequence[Job], lock: Lock, listener: Listener) -> Iterator[tuple[Job, str | None]]:
        """See `Executor`.

        Raises:
            ConfigError: the cluster cannot be reached, or would be open to the network.
        """
        if self.address is None:
            os.environ[_LOOPBACK] = "0"  # read when ray is imported: its processes then listen on 127.0.0.1 only
        import ray
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            # "local": a new one; without an address ray would join whatever cluster /tmp/ray or RAY_ADDRESS names
            with processes.keeping_sigterm():
                ray.init(
                    self.address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
                )
        except (ConnectionError, TimeoutError, RuntimeError) as error:
            what = (
                f"The Ray cluster {self.address!r} cannot be reached" if self.address else "No Ray cluster starts here"
            )
            raise ConfigError(f"{what}: {error}.") from error
        try:
            if self.address is None and (address := ray.util.get_node_ip_address()) != "127.0.0.1":
                raise ConfigError(
                    f"This machine's Ray cluster listens on {address}, where others can reach it and run code: the "
                    f"installed ray, or one imported before, does not follow {_LOOPBACK}=0. Set it before Python "
                    "starts, or start your own cluster and give ray://HOST:PORT."
                )
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            # not lost with a worker's machine
            events = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
            task = ray.remote(_on_worker).options(
                num_cpus=self.resources.cpus,
                num_gpus=self.resources.gpus,
                memory=self.resources.memory or None,
                max_retries=RETRIES,
            )
            elsewhere = replace(lock, folder=lock.folder.resolve(), descriptor=None)
            yield from self._fan_out(ray, task, events, elsewhere, jobs, listener)
        finally:
            ray.shutdown()

    @staticmethod
    def _fan_out(
        ray: Any, task: Any, events: Any, lock: Lock, jobs: Sequence[Job], listener: Listener
    ) -> Iterator[tuple[Job, str | None]]:
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            groups.setdefault(job.group, []).append(job)
        stages = {name: [runs[0].trials, runs[:1], runs[1:]] for name, runs in groups.items()}
        trials = {trial for runs in groups.values() for trial in runs[0].trials}
        running: dict[Any, Job] = {}

        def submit_next(group: str) -> None:
            while stages[group] and not any(job.group == group for job in running.values()):
                running.update({task.remote(job, events, lock): job for job in stages[group].pop(0)})

        for group in groups:
            submit_next(group)
        while running:
            ended, _ = ray.wait(list(running), num_returns=1, timeout=0.2)
            while not events.empty():
                listener(*events.get())
            for reference in ended:
                job = running.pop(reference)
                try:
                    error = ray.get(reference)
                except ray.exceptions.RayError as lost:
                    error = f"its workers were lost {RETRIES + 1} times: {type(lost).__name__}"
                if job in trials:
                    listener(job.run, TriedEvent(message=error))
                else:
                    yield job, error
                submit_next(job.group)


def _on_worker(job: Job, events: Any, lock: Lock) -> str | None:
    """A Ray task: a run or trial in a child process, as on every executor."""
    events.put((job.run, job.begin()))
    return _carry_out(job, lock, lambda event: events.put((job.run, event)))
