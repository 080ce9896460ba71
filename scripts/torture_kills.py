"""Kill a suite repeatedly at random instants, and check that nothing is lost and no wrong result is believed.

    python scripts/torture_kills.py FOLDER [--kills 50] [--seed 0] [--longest 12] [--set KEY=VALUE ...]

The suite (three methods, two seeds, a search each) runs once without interruption and once with kills: SIGKILL to its
process group or to the suite alone, at instants drawn after the current run has written a checkpoint. After every third
kill the newest checkpoint is also damaged, and after every third kill a cache file: truncated, or with a byte flipped.
Then the same command is run again. If a suite ends before all kills are done, it is compared and another one is
started. Except for times, memory and energy, everything must equal the uninterrupted suite: the comparison's results
and tests, and the losses, scores, history, summaries and trained weights of every run, the last two byte for byte. No
finished record may be lost or written twice, and the last call must take less time than the whole suite. A summary is
printed as JSON and as a Markdown table; the exit status is 1 if a rule was broken.
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

from triptych.results.records import READINGS

METHODS = "lora,last-layers,prompt-tuning"
# takes six minutes on one thread
SETTINGS = ["seeds=[0, 1]", "training.max_epochs=4", "search.trials=2"]
CACHED = (".arrow", ".bin")
LAWS = ("results_lost", "records_written_twice", "wrong_results_believed", "last_calls_as_long_as_the_whole")


def without_times(value: Any) -> Any:
    """A comparison, record or history without values that may differ between two runs of the same suite."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not key.endswith(READINGS)}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def compared(out: Path) -> dict[str, Any]:
    """What must be equal, by path. Sentences and fronts of a comparison may depend on times."""
    comparison = json.loads((out / "comparison.json").read_text())
    kept = {key: comparison[key] for key in ("rows", "tests", "num_documents", "signature")}
    found: dict[str, Any] = {"comparison.json": without_times(kept)}
    for folder in sorted(out.glob("runs/*/*/")):
        record = without_times(json.loads((folder / "record.json").read_text()))
        for key in ("time", "command", "commit", "dirty"):  # a commit may be made in the meantime
            del record["provenance"][key]
        record["files"].pop("history.jsonl", None)  # the digest of a history, which contains times
        history = [without_times(json.loads(line)) for line in (folder / "history.jsonl").read_text().splitlines()]
        name = str(folder.relative_to(out))
        found |= {f"{name}/record.json": record, f"{name}/history.jsonl": history}
        for path in (folder / "predictions.jsonl", *folder.glob("adapter/*.safetensors")):
            found[str(path.relative_to(out))] = path.read_bytes()
    return found


def start(out: Path, settings: list[str]) -> subprocess.Popen:
    """Start the suite's command in its own process group; its output goes to a file next to OUT."""
    command = [
        sys.executable,
        "-m",
        "triptych",
        "compare",
        "--preset",
        "demo",
        "--methods",
        METHODS,
        "--out",
        str(out),
        "--set",
        *SETTINGS,
    ]
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen([*command, *settings], stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)


def failed(out: Path, status: int) -> str:
    """The message for a suite that failed by itself."""
    return f"The suite in {out} ended with status {status}:\n{out.with_suffix('.log').read_text()[-2000:]}"


def finish(out: Path, settings: list[str]) -> float:
    """Let the suite run to its end; return the seconds it took."""
    began = time.monotonic()
    status = start(out, settings).wait()
    if status:
        sys.exit(failed(out, status))
    return time.monotonic() - began


def checkpoints(out: Path) -> dict[Path, int]:
    """Checkpoints of the current run with their modification times, newest last; they may change during the call."""
    found = {}
    for path in out.glob("runs/*/*/checkpoint/*.json"):
        with suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return dict(sorted(found.items(), key=lambda item: item[1]))


def finished(out: Path) -> dict[str, int]:
    """Records of finished runs with their modification times."""
    done = {}
    for path in out.glob("runs/*/*/record.json"):
        if json.loads(path.read_text())["status"] == "done":
            done[str(path.relative_to(out))] = path.stat().st_mtime_ns
    return done


def damage(path: Path, rng: random.Random) -> None:
    """Truncate a file, or flip bits in one of its bytes."""
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
    """Start the suite and kill it some time after a new checkpoint; False if it ended before."""
    seen = checkpoints(out)
    process = start(out, settings)
    instant = None
    while instant is None or time.monotonic() < instant:
        if process.poll() is not None:
            if process.returncode:
                sys.exit(failed(out, process.returncode))
            return False
        if instant is None and any(seen.get(path) != time_ for path, time_ in checkpoints(out).items()):
            instant = time.monotonic() + rng.uniform(0, longest)
        time.sleep(0.02)
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


class Torture:
    """Suites that are killed, and the observations."""

    def __init__(self, folder: Path, settings: list[str], rng: random.Random, longest: float):
        self.folder, self.settings, self.rng, self.longest = folder, settings, rng, longest
        os.environ["TRIPTYCH_CACHE"] = str((folder / "cache").resolve())
        self.seconds = finish(folder / "unbroken", settings)
        self.whole = compared(folder / "unbroken")
        self.seen: dict[str, Any] = {
            "unbroken_seconds": round(self.seconds),
            "suites_killed": 0,
            "kills": 0,
            "checkpoints_damaged": 0,
            "cache_files_damaged": 0,
            "resumed_from_a_checkpoint": 0,
            "finished_records_kept": 0,
            "last_call_seconds": [],
            "different": [],
        } | dict.fromkeys(LAWS, 0)

    def break_one(self, kills: int) -> None:
        """Kill a new suite until that many kills are done or it ends; then compare it."""
        self.seen["suites_killed"] += 1
        out = self.folder / f"broken-{self.seen['suites_killed']}"
        done: dict[str, int] = {}
        last = None
        while last is None:
            began = time.monotonic()
            if self.seen["kills"] < kills and kill_once(out, self.settings, self.rng, self.longest):
                self.seen["kills"] += 1
                if self.seen["kills"] % 3 == 0 and (found := list(checkpoints(out))):
                    damage(self.rng.choice([found[-1], found[-1].with_suffix(".safetensors")]), self.rng)
                    self.seen["checkpoints_damaged"] += 1
                elif self.seen["kills"] % 3 == 1:
                    cached = [path for path in (self.folder / "cache").rglob("*") if path.suffix in CACHED]
                    damage(self.rng.choice(sorted(cached)), self.rng)
                    self.seen["cache_files_damaged"] += 1
            else:
                if self.seen["kills"] == kills:
                    finish(out, self.settings)
                last = time.monotonic() - began
            now = finished(out)
            self.seen["results_lost"] += sum(name not in now for name in done)
            self.seen["records_written_twice"] += sum(now.get(name, time_) != time_ for name, time_ in done.items())
            done = now
        self.seen["finished_records_kept"] += len(done)
        self.seen["resumed_from_a_checkpoint"] += (
            out.with_suffix(".log").read_text().count("resumes from the checkpoint")
        )
        self.seen["last_call_seconds"].append(round(last))
        self.seen["last_calls_as_long_as_the_whole"] += last >= self.seconds
        found = compared(out)
        different = [name for name in self.whole.keys() | found.keys() if self.whole.get(name) != found.get(name)]
        self.seen["wrong_results_believed"] += len(different)
        self.seen["different"] += [f"{out.name}/{name}" for name in sorted(different)]


def table(seen: dict[str, Any]) -> str:
    """The summary as a Markdown table."""
    names = {
        "kills": "kills",
        "checkpoints_damaged": "after which a checkpoint was damaged",
        "cache_files_damaged": "or a file of the cache",
        "resumed_from_a_checkpoint": "runs resumed from a checkpoint",
        "finished_records_kept": "finished records kept",
        "records_written_twice": "written twice",
        "results_lost": "results lost",
        "wrong_results_believed": "wrong results believed",
    }
    rows = [list(names.values()), ["---:"] * len(names), [f"{seen[key]:,}" for key in names]]
    return "\n".join(f"| {' | '.join(row)} |".replace(" ---: ", "---:") for row in rows)


def main() -> None:
    """Run the kills and report what was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the suites; empty or new")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=12.0, help="maximum seconds between a checkpoint and the kill")
    parser.add_argument("--set", nargs="+", default=[], dest="settings", metavar="KEY=VALUE")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torture = Torture(options.folder, options.settings, random.Random(options.seed), options.longest)
    while torture.seen["kills"] < options.kills:
        torture.break_one(options.kills)
    print(json.dumps(torture.seen, indent=2))
    print(table(torture.seen))
    sys.exit(int(any(torture.seen[law] for law in LAWS)))


if __name__ == "__main__":
    main()
