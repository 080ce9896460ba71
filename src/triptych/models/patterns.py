"""Try regular expressions from adapters in a child process with a time limit before this process runs them."""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence

from triptych.errors import ModelError, shorten

MATCH_SECONDS = 5.0  # for all patterns and names together; normal ones take a few milliseconds
PROGRAM = """
import json, re, sys
patterns, names = json.load(sys.stdin)
for pattern in patterns:
    print(json.dumps(pattern), flush=True)
    for form in "%s", r"(.*\\.)?(%s)$", r".*\\.%s$", r"(^|.*\\.)%s($|\\..*)", r"(?:^|.*?\\.)%s\\.(\\d+)\\.":
        try:  # each by itself: what refers to a group may be malformed alone, and hang in a form that has groups
            compiled = re.compile(form % pattern)
        except (re.error, OverflowError, RecursionError):
            continue
        for name in names:
            compiled.match(name), compiled.fullmatch(name)
"""


def check_patterns(patterns: Iterable[str], names: Sequence[str], where: str) -> None:
    """Check that patterns can be matched against names in bounded time, in every form in which peft matches them.

    The child process runs Python's `re` on the same names, so a pattern that finishes there in time does not hang here.

    Args:
        patterns: regular expressions, or plain names.
        names: the names of a model's modules to match them against.
        where: the file they come from, for the error message.

    Raises:
        ModelError: a pattern takes too long.
    """
    risky = sorted({pattern for pattern in patterns if not pattern.replace("_", "").replace(".", "").isalnum()})
    if not risky:
        return
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        child.communicate(json.dumps([risky, list(names)]), timeout=MATCH_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        tried = child.communicate()[0].splitlines()
        pattern = shorten(repr(json.loads(tried[-1]))) if tried else "a pattern"
        raise ModelError(
            f"{where} has a pattern that takes too long to match the names of the model's modules: {pattern}. Name "
            "the modules "
            'instead, such as ["q_proj", "v_proj"].'
        ) from None
    except BaseException:
        child.kill()
        child.wait()
        raise
