"""Kill a suite again and again, at random instants, and show that nothing is lost and nothing wrong is believed.

    python scripts/torture_kills.py FOLDER [--kills 50] [--seed 0] [--set KEY=VALUE ...]

The suite runs once unbroken and once killed (SIGKILL, its whole process group or the suite alone) at instants drawn after the
run at hand has written a checkpoint; after every third kill the newest checkpoint is damaged too: cut short, or a byte flipped.
The same command is then given again. At the end the killed suite's comparison must equal the unbroken one's but for times,
memory and energy, and no finished record may have been written twice. A summary is printed as JSON; status 1 where a law broke.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

FREE = ("_seconds", "_per_second", "peak_memory_bytes", "energy_joules")
METHODS = "lora,last-layers,prompt-tuning"


def without_times(value: Any) -> Any:
    """A comparison without what two runs of one suite may differ in."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not key.endswith(FREE)}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def compared(out: Path) -> Any:
    """What must be equal: losses, scores, tests; sentences and fronts may turn on seconds."""
    comparison = json.loads((out / "comparison.json").read_text())
    return without_times({key: comparison[key] for key in ("rows", "tests", "num_documents", "signature")})


def start(out: Path, settings: list[str]) -> subprocess.Popen:
    """The suite's command, in a process group of its own."""
    command = [sys.executable, "-m", "triptych", "compare", "--methods", METHODS, "--out", str(out), "--set", *settings]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(out: Path, settings: list[str]) -> float:
    """Let the suite run to its end; returns the seconds it took."""
    began = time.monotonic()
    process = start(out, settings)
    _, error = process.communicate()
    if process.returncode:
        sys.exit(f"The suite in {out} ended with status {process.returncode}:\n{error}")
    return time.monotonic() - began


def checkpoints(out: Path) -> dict[Path, int]:
    """Checkpoints of the run at hand with their time of change, the newest last; they come and go while one looks."""
    found = {}
    for path in out.glob("runs/*/*/checkpoint/*.json"):
        with suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return dict(sorted(found.items(), key=lambda item: item[1]))


def finished(out: Path) -> dict[str, int]:
    """Records of finished runs with their time of change."""
    done = {}
    for path in out.glob("runs/*/*/record.json"):
        if json.loads(path.read_text())["status"] == "done":
            done[str(path.relative_to(out))] = path.stat().st_mtime_ns
    return done


def damage(path: Path, rng: random.Random) -> None:
    """Cut a file short, or flip a byte of it."""
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    if rng.random() < 0.5:
        content = content[:place]
    else:
        content[place] ^= rng.randrange(1, 256)
    path.write_bytes(content)


def orphans(group: int) -> bool:
    """Whether a process of the group is left."""
    return bool(subprocess.run(["pgrep", "-g", str(group)], capture_output=True, check=False).stdout)


def kill_once(out: Path, settings: list[str], rng: random.Random, longest: float) -> bool:
    """Start the suite and kill it some time after a new checkpoint; False where it ended before."""
    seen = checkpoints(out)
    process = start(out, settings)
    while not any(seen.get(path) != time_ for path, time_ in checkpoints(out).items()):
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    time.sleep(rng.uniform(0, longest))
    if process.poll() is not None:
        return False
    if rng.random() < 0.5:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    patience = time.monotonic() + 30
    while orphans(process.pid):
        if time.monotonic() > patience:
            sys.exit("A run outlived its suite by 30 seconds.")
        time.sleep(0.05)
    return True


def main() -> None:
    """Break it, and say what was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the two suites go; empty or new")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=8.0, help="seconds between a checkpoint and the kill, at most")
    parser.add_argument("--set", nargs="+", default=[], dest="settings", metavar="KEY=VALUE")
    options = parser.parse_args()

    rng = random.Random(options.seed)
    unbroken, broken = options.folder / "unbroken", options.folder / "broken"
    whole_seconds = finish(unbroken, options.settings)
    summary: dict[str, Any] = {"unbroken_seconds": round(whole_seconds), "kills": 0, "checkpoints_damaged": 0,
                               "records_written_twice": 0, "results_lost": 0, "wrong_results_believed": 0}  # fmt: skip
    done: dict[str, int] = {}
    while summary["kills"] < options.kills and kill_once(broken, options.settings, rng, options.longest):
        summary["kills"] += 1
        now = finished(broken)
        summary["results_lost"] += sum(name not in now for name in done)
        summary["records_written_twice"] += sum(now.get(name, time_) != time_ for name, time_ in done.items())
        done = now
        if summary["kills"] % 3 == 0 and (found := list(checkpoints(broken))):
            damage(rng.choice([found[-1], found[-1].with_suffix(".safetensors")]), rng)
            summary["checkpoints_damaged"] += 1
    summary["last_call_seconds"] = round(finish(broken, options.settings))
    summary["wrong_results_believed"] = int(compared(unbroken) != compared(broken))
    now = finished(broken)
    summary["records_written_twice"] += sum(now.get(name, time_) != time_ for name, time_ in done.items())
    print(json.dumps(summary, indent=2))
    broken_laws = ("records_written_twice", "results_lost", "wrong_results_believed")
    sys.exit(int(any(summary[name] for name in broken_laws) or summary["kills"] < options.kills))


if __name__ == "__main__":
    main()
