"""The process from which the runs of a suite are forked: it imports everything once, and computes nothing."""

import ctypes
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence

from triptych.suite.fork_server import LONGEST

STREAMS = 3  # standard input, output and error of a child; a lock's descriptor may follow
PR_SET_PDEATHSIG = 1  # of prctl(2)


def serve(connection: socket.socket) -> int:
    """Fork a child for each request, until the other end closes; returns the exit status (in a child, its own).

    Args:
        connection: each request is a child's arguments, with its streams as descriptors; answers are the child's
            process id, and its exit status when it has ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the child itself, and the suite
    server = os.getpid()
    gc.freeze()  # runs do not search what was imported for garbage, which took 2 s at exit
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, LONGEST, STREAMS + 1)
        if not request:
            return 0
        pid = os.fork()
        if pid == 0:
            connection.close()
            return _run(json.loads(request), descriptors, server)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(json.dumps({"pid": pid}).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode())


def _run(arguments: list[str], descriptors: Sequence[int], server: int) -> int:
    """Carry out a command of `triptych` in a fork; returns its exit status."""
    from triptych.cli import main

    for stream, descriptor in enumerate(descriptors[:STREAMS]):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    # as in a new Python: the inherited ones were opened on other files
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    ask_for_parent_death_signal()
    if os.getppid() != server:
        return 1
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["triptych", *arguments]
    return main(arguments)


def ask_for_parent_death_signal() -> None:
    """Have the system kill this process when its parent ends, for whatever reason."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def import_all() -> bool:
    """Import what a run needs; returns whether a fork can use it."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # looks for a GPU without starting its driver
    import pandas  # noqa: F401  (pyarrow imports it with the first array)
    import peft  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import triptych.cli.train
    import triptych.run.experiment
    import triptych.suite.one_method
    import triptych.text.tokenizers  # noqa: F401
    from triptych.plugins import import_plugins

    import_plugins()
    return not torch.cuda.is_available()


if __name__ == "__main__":
    ask_for_parent_death_signal()  # nothing else would tell it while it imports
    with socket.socket(fileno=int(sys.argv[1])) as given:
        sys.exit(serve(given) if import_all() else 1)
