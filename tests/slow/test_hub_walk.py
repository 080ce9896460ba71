"""A comparison by names on the Hub, from the command line, against a Hub on this machine that logs its requests.

It serves a GPT-2 with random weights as `gpt2` and stories of the newswire as `abisee/cnn_dailymail`.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from support.hub import TOKEN, Hub, serving
from support.paths import CHECKOUT
from triptych.contracts import Dataset
from triptych.models.tiny import Tiny
from triptych.registry import find

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

GPT2, CNN = "openai-community/gpt2", "abisee/cnn_dailymail"
SIZES = {"train": 12, "validation": 4, "test": 4}
SETTINGS = [
    *("limits.train_documents=8", "limits.document_tokens=48", "search.trials=0"),
    *("training.max_epochs=1", "training.global_batch_size=4", "training.micro_batch_size=4"),
    *("decoding.num_beams=1", "decoding.max_new_tokens=4"),
]
COMPARE = ["compare", "--methods", "untuned,lora,lead-3", "--seeds", "0"]
FROM_HUB = ["--preset", "assignment"]  # whose model and data are gpt2 and abisee/cnn_dailymail


def gpt2_files(seed: int) -> dict[str, bytes]:
    """The files of a GPT-2 with two small blocks, and other files that should not be requested."""
    own = CHECKOUT.parent / "shared/data/gpt2-tokenizer"
    tokenizer = AutoTokenizer.from_pretrained(own if own.is_dir() else Tiny().folder())
    torch.manual_seed(seed)
    shape = GPT2Config(vocab_size=len(tokenizer), n_layer=2, n_embd=32, n_head=2)
    shape.bos_token_id = shape.eos_token_id = tokenizer.eos_token_id
    with TemporaryDirectory() as folder:
        GPT2LMHeadModel(shape).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return {**files, "pytorch_model.bin": b"pickled", "rust_model.ot": b"of another library", "README.md": b"# GPT-2\n"}


def cnn_files(first: int) -> dict[str, bytes]:
    """Stories from a given number on, in the layout of CNN/DailyMail's repository: configurations in Parquet."""
    stories, files = find(Dataset, "newswire")(), {}
    configs, infos = ["configs:"], ["dataset_info:"]
    for config in ("1.0.0", "3.0.0"):
        configs += [f"- config_name: {config}", "  data_files:"]
        infos += [f"- config_name: {config}", "  features:"]
        infos += [
            line for name in ("article", "highlights", "id") for line in (f"  - name: {name}", "    dtype: string")
        ]
        infos += ["  splits:"]
        for split, number in SIZES.items():
            told = [story for story, _ in zip(stories.examples(split), range(first + number), strict=False)][first:]
            rows = [{"article": one.document, "highlights": one.summary, "id": one.id} for one in told]
            rows = rows if config == "3.0.0" else rows[:1]
            files[f"{config}/{split}-00000-of-00001.parquet"] = parquet(rows)
            configs += [f"  - split: {split}", f"    path: {config}/{split}-*"]
            infos += [
                f"  - name: {split}",
                f"    num_bytes: {sum(map(len, map(str, rows)))}",
                f"    num_examples: {len(rows)}",
            ]
    card = "\n".join(["---", "license: apache-2.0", *infos, *configs, "---", "# CNN/DailyMail", ""])
    return {**files, "README.md": card.encode()}


def parquet(rows: list[dict[str, str]]) -> bytes:
    """Rows as a Parquet file."""
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


@dataclass
class Place:
    """A folder to work in with a Hub, the Hub's cache, and its own cache of prepared data."""

    folder: Path
    hub: Hub
    model: str  # commits
    data: str

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Triptych in a new process."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE"))}
        own |= {"HF_ENDPOINT": self.hub.endpoint, "HF_HOME": str(self.folder / "home"), "COLUMNS": "200"}
        own |= {"TRIPTYCH_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1,localhost"}
        return subprocess.run(
            [sys.executable, "-m", "triptych", *arguments],
            env={**own, **environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def compare(self, out: str, *more: str, settings: tuple[str, ...] = (), **environment: str) -> dict[str, Any]:
        """Run a comparison that must succeed, and return the record of each run by label."""
        given = [*more, "--out", out, "--set", *SETTINGS, *settings]
        done = self.run(*COMPARE, *([] if "--model" in more else FROM_HUB), *given, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.records(out)

    def plan(self, *settings: str, **environment: str) -> dict[str, Any]:
        """Return the plan of a comparison from a dry run that must succeed."""
        words = ["--dry-run", "--no-timing", "--events", "--set", *SETTINGS, *settings]
        done = self.run(*COMPARE, *FROM_HUB, *words, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        (plan,) = (event["plan"] for line in done.stdout.splitlines() if (event := json.loads(line))["event"] == "plan")
        return plan

    def records(self, out: str) -> dict[str, Any]:
        """The record of each run, by label."""
        files = (self.folder / out / "runs").glob("*/*/record.json")
        return {(record := json.loads(file.read_text()))["label"]: record for file in files}

    def predictions(self, out: str) -> dict[str, list[Any]]:
        """Every prediction, by label."""
        files = (self.folder / out / "runs").glob("*/*/predictions.jsonl")
        return {file.parts[-3]: [json.loads(line) for line in file.read_text().splitlines()] for file in files}


def new_place(folder: Path, hub: Hub) -> Place:
    """A Hub with `gpt2` and `abisee/cnn_dailymail`, each with an older commit that a tag names."""
    gpt2, cnn = hub.repository("models", GPT2), hub.repository("datasets", CNN)
    hub.renamed["gpt2"] = GPT2
    gpt2.commit(gpt2_files(1), "v1")
    cnn.commit(cnn_files(20), "v1")
    return Place(folder, hub, gpt2.commit(gpt2_files(0)), cnn.commit(cnn_files(0)))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    """The shared setup; its Hub also has repositories that cannot be used."""
    with serving(Hub()) as hub:
        place = new_place(tmp_path_factory.mktemp("place"), hub)
        gpt2 = gpt2_files(0)
        weights = gpt2.pop("model.safetensors")
        hub.repository("models", "someone/pickled").commit(gpt2)
        hub.repository("models", "someone/cut").commit({**gpt2, "model.safetensors": weights[:-4000]})
        for kind, files in (("models", {**gpt2, "model.safetensors": weights}), ("datasets", cnn_files(0))):
            hub.repository(kind, "someone/gated").commit(files)
            hub.repository(kind, "someone/gated").gated = True
        script = hub.repository("datasets", "someone/script")
        rows = {
            split: [{"article": f"{i}. {split}.", "highlights": f"{split} {i}"} for i in range(9)] for split in SIZES
        }
        converted = {f"default/{split}/0000.parquet": parquet(rows[split]) for split in SIZES}
        script.commit(converted, "refs/convert/parquet")
        script.commit({"README.md": b"# A script\n", "script.py": b"raise SystemExit('it was run')\n"})
        yield place


@pytest.fixture(scope="module")
def first(place) -> dict[str, Any]:
    """The records of a comparison by names on the Hub, after a dry run that wrote nothing; the log as it left it."""
    dry = place.run(*COMPARE, *FROM_HUB, "--dry-run", "--no-timing", "--out", "dry", "--set", *SETTINGS)
    assert dry.returncode == 0, dry.stderr
    assert "8 of 12 documents used" in dry.stdout and not (place.folder / "dry").exists(), dry.stdout
    assert f"gpt2 at commit {place.model}" in dry.stdout and f"{CNN} at commit {place.data}" in dry.stdout
    return place.compare("first")


def figures(records: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a comparison."""
    return {label: (one["loss"], one["rouge"], one["data"]["fingerprint"]) for label, one in records.items()}


def test_names_of_the_hub(place, first):
    """One commit of model and data is read and recorded, each large file once, and no unneeded file."""
    assert {one["provenance"]["model_fingerprint"] for one in first.values()} == {f"gpt2@{place.model}", None}
    assert {one["data"]["commit"] for one in first.values()} == {place.data}
    assert first["lora"]["config"]["model_revision"] == first["lora"]["config"]["data_revision"] == "main"
    asked = place.hub.asked()
    downloaded = [path for path in place.hub.asked("GET") if "/large/" in path]
    assert len(downloaded) == len(set(downloaded)) == 4, downloaded  # the weights, and three splits
    assert not [path for path in asked if re.search(r"\.bin|\.ot|1\.0\.0/.*parquet", path)]
    by_branch = {path.rpartition("/")[2] for path in asked if "/resolve/main/" in path}
    assert by_branch == {"config.json", "README.md"}
    known = r"/$|/large/|(/datasets)?/[\w-]+(/[\w-]+)?/resolve/|/api/(models|datasets)/|/api/agent-harnesses$"
    assert not [path for path in asked if not re.match(known, path)]


def test_the_hub_gives_what_local_copies_give(place, first):
    """The same repositories as local folders give the same losses, scores and summaries, and record no commit."""
    local = place.folder / "local"
    for name, kind, repository in (("gpt2", "models", GPT2), ("data", "datasets", CNN)):
        found = place.hub.repository(kind, repository)
        for path, content in found.commits[found.refs["main"]].items():
            (local / name / path).parent.mkdir(parents=True, exist_ok=True)
            (local / name / path).write_bytes(content)
    here = ["--model", str(local / "gpt2"), "--data", str(local / "data/3.0.0"), "--preset", "assignment"]
    copies = place.compare("copies", *here)
    assert figures(copies) == figures(first) and place.predictions("copies") == place.predictions("first")
    assert copies["lora"]["data"]["commit"] is None


def test_the_cache_is_enough(place, first):
    """Offline, a comparison is repeated from the caches of the Hub's libraries with the same figures, commits and data,
    and without a request. If the Hub does not answer, the cached files of the model and the tables of `datasets` are
    used."""
    before = len(place.hub.requests)
    offline = place.compare("offline", HF_HUB_OFFLINE="1", TRIPTYCH_CACHE=str(place.folder / "new-cache"))
    assert figures(offline) == figures(first) and place.predictions("offline") == place.predictions("first")
    assert offline["lora"]["provenance"]["model_fingerprint"] == f"gpt2@{place.model}"
    assert offline["lora"]["data"] == first["lora"]["data"] and len(place.hub.requests) == before
    home, copy = place.folder / "home", place.folder / "copy"
    for kept in ("hub/models--gpt2", "datasets"):
        shutil.copytree(home / kept, copy / kept, symlinks=True)
    nobody = place.plan(HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(copy))
    assert nobody["data"] == first["lora"]["data"] and nobody["model_commit"] == place.model


def test_a_revision_is_read_online_and_offline(place, first):
    """A tag or a commit selects that commit of model and data; of two cached revisions each is found offline, whichever
    was cached last."""
    model, data = (place.hub.repository(*key).refs["v1"] for key in (("models", GPT2), ("datasets", CNN)))
    by_tag, by_commit = ("model_revision=v1", "data_revision=v1"), (f"model_revision={model}", f"data_revision={data}")
    old = place.plan(*by_tag)
    assert (old["model_commit"], old["data"]["commit"]) == (model, data) != (place.model, place.data)
    assert old["data"]["fingerprint"] != first["lora"]["data"]["fingerprint"]
    for settings in (by_tag, by_commit):
        again = place.plan(*settings, HF_HUB_OFFLINE="1")
        assert (again["model_commit"], again["data"]) == (model, old["data"])
    new = place.plan(HF_HUB_OFFLINE="1")
    assert (new["model_commit"], new["data"]) == (place.model, first["lora"]["data"])


def test_a_branch_that_moves(place, first):
    """A finished run is used with the commits that it was made with; further runs of its comparison are refused, and
    the message names the commit."""
    gpt2, cnn = place.hub.repository("models", GPT2), place.hub.repository("datasets", CNN)
    try:
        gpt2.commit(gpt2_files(2))
        cnn.commit(cnn_files(40))
        done = place.run("evaluate", "first/runs/lora/0", TRIPTYCH_CACHE=str(place.folder / "another-cache"))
        assert done.returncode == 0, done.stdout + done.stderr
        words = ["--out", "first", "--set", *SETTINGS]
        more = place.run("compare", "--methods", "untuned,lora,lead-3,bitfit", "--seeds", "0", *FROM_HUB, *words)
        assert more.returncode == 2, more.stdout
        assert re.search(rf"other weights .* --set model_revision={place.model} is what it was", more.stderr), (
            more.stderr
        )
    finally:
        gpt2.refs["main"], cnn.refs["main"] = place.model, place.data
        for name, commit in (("models--gpt2", place.model), ("datasets--abisee--cnn_dailymail", place.data)):
            (place.folder / f"home/hub/{name}/refs/main").write_text(commit)  # what the cache knows of the branch


REFUSED = {
    "missing model": (["--model", "someone/nothing"], "There is no model 'someone/nothing' on the Hub"),
    "gated model": (["--model", "someone/gated"], "'someone/gated' on the Hub is gated, .*hf auth login"),
    "wrong revision of the model": (
        ["--set", "model_revision=v9"],
        "'gpt2' on the Hub has no branch, tag or commit 'v9': check model_revision",
    ),
    "pickled weights": (["--model", "someone/pickled"], "has no model.safetensors .*Pickled weights are never read"),
    "truncated weights": (["--model", "someone/cut"], "weights of 'someone/cut'.* cannot be read: .*damaged there or"),
    "missing data": (["--data", "someone/nothing"], "There is no data set 'someone/nothing' on the Hub"),
    "gated data": (["--data", "someone/gated"], "'someone/gated' on the Hub is gated, .*hf auth login"),
    "wrong revision of the data": (
        ["--set", "data_revision=v9"],
        f"'{CNN}' on the Hub has no branch, tag or commit 'v9': check data_revision",
    ),
    "wrong configuration": (["--set", "data_config=9.0.0"], r"1\.0\.0.*3\.0\.0.*--set data_config=NAME"),
    "a script": (["--data", "someone/script"], "Dataset scripts .*--set data_revision=refs/convert/parquet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused(place, case):
    """Each ends with status 2 and one message that says what to do, before anything is written to OUT."""
    options, said = REFUSED[case]
    done = place.run(*COMPARE, *FROM_HUB, "--out", "refused", *options)
    assert done.returncode == 2 and done.stdout == "", done.stdout
    assert re.fullmatch(rf"triptych: [^\n]*{said}[^\n]*\n", done.stderr), done.stderr
    assert not (place.folder / "refused").exists()
    assert not list((place.folder / "home").rglob("*.incomplete"))


def test_the_parquet_copy_of_a_script_is_read(place):
    """The remedy in the message about a script works: the Hub's own Parquet copy, on a branch with slashes."""
    words = ["--data", "someone/script", "--set", "data_revision=refs/convert/parquet", *SETTINGS]
    done = place.run(*COMPARE, *FROM_HUB, "--dry-run", "--no-timing", *words)
    assert done.returncode == 0 and "8 of 9 documents used" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("suffix", [".safetensors", ".parquet"])
def test_a_hub_that_dies_in_a_download(tmp_path, suffix):
    """The command ends with status 2 and one message, nothing incomplete is left, and the same command succeeds once
    the Hub is back."""
    with serving(Hub()) as hub:
        place = new_place(tmp_path, hub)
        hub.dies_in = suffix
        done = place.run(*COMPARE, *FROM_HUB, "--out", "out", "--set", *SETTINGS)
    assert done.returncode == 2 and done.stdout == "", done.stdout
    assert re.fullmatch(r"triptych: [^\n]*download[^\n]*\n([^\n]*\n)?", done.stderr), done.stderr
    assert hub.dead and not (tmp_path / "out").exists()
    assert not list((tmp_path / "home").rglob("*.incomplete"))
    with serving(Hub(hub.server_address[1])) as again:
        again.repositories, again.renamed = hub.repositories, hub.renamed
        plan = place.plan()
    assert (plan["model_commit"], plan["data"]["commit"]) == (place.model, place.data)


def test_an_export_is_uploaded(place, first):
    """`export --push` creates a private model of the token's user with exactly the folder's files, in one commit; a
    wrong token and a model that is already public are refused, and the folder stays."""
    words = ["export", "first/runs/lora/0", "exported", "--documents", "0", "--push", "mine"]
    plain = {"HF_HUB_DISABLE_XET": "1"}  # large files are sent as to a Hub without that store
    refused = place.run(*words, HF_TOKEN="hf_wrong", **plain)
    assert refused.returncode == 2 and "was not uploaded" in refused.stderr, refused.stderr
    assert (place.folder / "exported/README.md").is_file() and ("models", "someone/mine") not in place.hub.repositories
    words[2] = "second"
    done = place.run(*words, HF_TOKEN=TOKEN, **plain)
    assert done.returncode == 0, done.stderr
    found = place.hub.repositories["models", "someone/mine"]
    written = {path.name: path.read_bytes() for path in (place.folder / "second").iterdir()}
    assert found.private and f"{place.hub.endpoint}/someone/mine" in done.stdout
    assert list(found.commits.values()) == [written]
    found.private = False
    words[2] = "third"
    public = place.run(*words, HF_TOKEN=TOKEN, **plain)
    assert public.returncode == 2 and "is public. Give --public" in public.stderr
    assert len(found.commits) == 1
