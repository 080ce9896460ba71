"""The command line: bad input ends with one clear message and status 2, before anything is written."""

import json
from pathlib import Path

import pytest
import torch

import triptych
from support.commands import suite_settings
from support.folders import write_results
from triptych import api, cli
from triptych.config.keys import suite_keys
from triptych.config.reading import preset_settings, presets
from triptych.config.schema import Suite, make_suite
from triptych.errors import ConfigError, InputError
from triptych.run import entries
from triptych.run.corpus import load_corpus, reserved_positions

ARTICLES = [
    (
        f"a{i}",
        f"The council of town {i} met on day {i} and agreed on plan {i}. It will cost {i} million.",
        f"Town {i} agrees on plan {i}.",
    )
    for i in range(40)
]

# for a window of 512
FITTING = ["limits.document_tokens=200", "limits.summary_tokens=64", "decoding.max_new_tokens=64"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


def write_csv(path: Path, header: str = "id,article,highlights", rows=ARTICLES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ([header] if header else []) + [",".join(f'"{cell}"' for cell in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def data_folder(folder: Path) -> Path:
    for start, name in ((0, "train"), (20, "validation"), (30, "test")):
        write_csv(folder / f"{name}.csv", rows=ARTICLES[start : start + 10])
    return folder


def suite_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return str(path)


BAD = {
    "unknown method": (["--methods", "lora,prefx"], ["prefx"]),
    "mistyped method names the nearest": (["--methods", "prompt-tunning"], ["prompt-tuning"]),
    "empty list of methods": (["--methods", ","], ["methods"]),
    "method twice": (["--methods", "lora,lora"], ["twice"]),
    "unknown preset": (["--preset", "dmeo"], ["demo"]),
    "unknown key": (["--set", "limits.train_documets=3"], [["limits", "train_documents"][1]]),
    "unknown section": (["--set", "trainin.max_epochs=3"], ["training"]),
    "unknown option of a method": (["--set", "method.lora.rnak=3"], ["rank"]),
    "unknown kind": (["--set", "method.mine.kind=lroa"], ["lora"]),
    "section of a method without a kind": (["--set", "method.mine.rank=3"], ["kind"]),
    "wrong type": (["--set", "training.max_epochs=many"], ["training.max_epochs", "many"]),
    "negative value": (["--set", "training.max_grad_norm=-1"], ["training.max_grad_norm", "-1"]),
    "NaN": (["--set", "decoding.length_penalty=nan"], ["decoding.length_penalty", "nan"]),
    "infinite learning rate": (["--set", "method.lora.learning_rate=inf"], ["learning_rate", "inf"]),
    "setting without a value": (["--set", "limits"], ["KEY=VALUE"]),
    "fractions that do not sum to one": (["--set", "split.fractions=[0.5, 0.5, 0.5]"], ["split.fractions"]),
    "seeds that are no numbers": (["--seeds", "a,b"], ["--seeds"]),
    "seed twice": (["--seeds", "1,1"], ["seeds"]),
    "missing suite file": (["nowhere.toml"], ["nowhere.toml"]),
    "folder without a suite": (["."], ["has no suite.json", "a results folder"]),
    "missing data folder": (["--data", "./nowhere", "--model", "tiny"], ["nowhere"]),
    "missing model folder": (["--model", "./nowhere", "--data", "newswire"], ["nowhere"]),
    "hub model out of reach": (
        ["--model", "someone/some-model", "--data", "newswire"],
        ["HF_HOME", "someone/some-model"],
    ),
    "hub data out of reach": (
        ["--model", "tiny", "--data", "someone/some-data", "--preset", "demo"],
        ["HF_HOME", "someone/some-data"],
    ),
    "prompt and limits above the window": (["--set", "limits.document_tokens=900"], ["512", "limits.document_tokens"]),
    "prompt above the window": (["--set", "method.prompt-tuning.num_virtual_tokens=400"], ["400", "512"]),
    "rank above the matrix": (["--set", "method.lora.rank=9999"], ["rank", "9999", "lora"]),
    "target that matches nothing": (["--set", 'method.lora.target_modules=["c_atn"]'], ["c_atn", "c_attn"]),
    "more blocks than there are": (["--set", "method.last-layers.num_blocks=99"], ["num_blocks", "99"]),
    "nothing left to train": (
        ["--set", "method.last-layers.num_blocks=0", "method.last-layers.final_norm=false"],
        ["nothing to train"],
    ),
    "missing plug-in": (["--plugin", "nowhere.py"], ["nowhere.py"]),
    "fp16 without a GPU": (["--set", "training.precision=fp16", "--device", "cpu"], ["fp16"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_request_is_refused_before_anything_is_written(case, tmp_path, capsys):
    """A request that cannot be carried out ends with status 2 and one message that names the problem."""
    arguments, expected = BAD[case]
    status = cli.main(["compare", *arguments, "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.startswith("triptych: ") and "Traceback" not in captured.err
    for words in expected:
        assert words in captured.err
    assert not (tmp_path / "out").exists() and captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["compare", "--columns", "document=a", "summary=b"],
            "no option --columns. Name columns with --set columns.",
        ),
        (
            ["list", "data", "here", "--columns", "document=a"],
            "no option --columns. Name columns with --set columns.",
        ),
        (["advise", "out", "--max-time", "30min"], "--max-seconds"),
        (["compare", "--sed=1"], "triptych compare: error: there is no option --sed. Did you mean --seeds"),
        (["report", "out", "--frobnicate"], "there is no option --frobnicate.\n"),
        (["env", "here"], "unrecognized arguments: here"),
    ],
)
def test_an_unknown_option_is_answered_with_those_that_are_close(arguments, said, capsys):
    """An unknown option is answered with similar ones, for every command."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_limits_that_do_not_fit_the_embedded_model_name_the_preset_that_does(tmp_path, capsys):
    """A suite without limits is told which preset has them."""
    assert cli.main(["compare", "--preset", "assignment", "--model", "tiny", "--data", "newswire", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "The limits of --preset demo fit tiny." in said and "for example --set limits.document_tokens=" in said


BAD_DATA = {
    "empty file": (lambda f: (f / "train.csv").write_text(""), ["train.csv"]),
    "no header": (lambda f: write_csv(f / "train.csv", header=""), ["train.csv", "columns"]),
    "unknown columns": (lambda f: write_csv(f / "train.csv", header="a,b,c"), ["columns.document"]),
    "wrong encoding": (
        lambda f: (f / "train.csv").write_bytes("id,article,highlights\n1,caf\xe9,x\n".encode("latin-1")),
        ["UTF-8"],
    ),
    "no summaries": (lambda f: write_csv(f / "train.csv", rows=[(i, d, "") for i, d, _ in ARTICLES]), ["summary"]),
    "nothing left after cleaning": (lambda f: write_csv(f / "train.csv", rows=ARTICLES[30:40]), ["train"]),
    "a NUL byte": (lambda f: (f / "train.csv").write_bytes(b"id,article,highlights\n1,a\0b,c\n"), ["train.csv"]),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_refused_before_anything_is_written(case, tmp_path, capsys):
    """Unusable data ends with status 2 and a message that says where, and OUT is not created."""
    spoil, expected = BAD_DATA[case]
    folder = data_folder(tmp_path / "data")
    spoil(folder)
    out = tmp_path / "out"
    status = cli.main(["compare", "--model", "tiny", "--data", str(folder), "--out", str(out), "--set", *FITTING])
    error = capsys.readouterr().err
    assert status == 2, error
    for words in expected:
        assert words in error
    assert not (tmp_path / "out").exists()


def test_named_column_that_is_not_there_gives_the_nearest(tmp_path, capsys):
    """A column named with --set that the file does not have is refused with the nearest name."""
    folder = data_folder(tmp_path / "data")
    status = cli.main(
        ["compare", "--model", "tiny", "--data", str(folder), "--set", "columns.document=artcle", *FITTING]
    )
    assert status == 2 and "article" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["model = ", "name = 'x'\nname = 'y'", "[limits\n", "methods = 'lora'", "limits = 3", "\x00"]
)
def test_malformed_suite_files_are_refused(text, tmp_path, capsys):
    """A suite file that is not TOML, or has wrong types, ends with status 2 and a message that names it or its key."""
    status = cli.main(["compare", suite_file(tmp_path, text), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert status == 2 and ("suite.toml" in error or "methods" in error or "limits" in error)
    assert not (tmp_path / "out").exists()


def test_another_suites_folder_is_refused_and_left_alone(tmp_path, capsys):
    """OUT of another suite is refused with the key that differs, and nothing in it changes."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "suite.json").write_text(json.dumps(Suite(name="other").model_dump(mode="json")))
    before = (out / "suite.json").read_bytes()
    assert cli.main(["compare", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "model is 'gpt2' there" in error and "--fresh" in error
    assert (out / "suite.json").read_bytes() == before and [p.name for p in out.iterdir()] == ["suite.json"]


def test_a_folder_of_other_files_is_refused(tmp_path, capsys):
    """An OUT that contains other files is refused, and they stay."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert cli.main(["compare", "--out", str(tmp_path / "out")]) == 2
    assert "other files" in capsys.readouterr().err and (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_dry_run_says_what_would_run_and_writes_nothing(tmp_path, capsys):
    """--dry-run prints every method with its counts and an estimate, also for the data-size curve, and writes
    nothing."""
    status = cli.main(
        [
            "compare",
            "--dry-run",
            "--out",
            str(tmp_path / "out"),
            "--methods",
            "untuned,lora,lead-3",
            "--set",
            "limits.train_documents=32",
            "limits.validation_documents=4",
            "limits.test_documents=4",
            "scaling.train_documents=[8]",
        ]
    )
    text = capsys.readouterr().out
    assert status == 0 and text.count("Suite 'out': model tiny") == 2 and "train: 8 of" in text
    for words in (
        "untuned",
        "lora",
        "lead-3",
        "16,384",
        "minutes",
        "32 of",
        "from the preset 'demo': the embedded model",
    ):
        assert words in text
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_folder_with_another_suite_prints_the_plan(tmp_path, capsys):
    """For a folder that compare would refuse, a dry run prints the plan and a note, since it writes nothing; compare
    refuses it."""
    out = write_results(tmp_path / "out", methods=("untuned", "lora"))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    small = ["limits.train_documents=32", "limits.validation_documents=4", "limits.test_documents=4"]
    command = ["compare", "--preset", "demo", "--out", str(out), "--methods", "lora", "--set", *small]
    assert cli.main(command) == 2
    refusal = capsys.readouterr().err.strip().removeprefix("triptych: ")
    assert "holds another suite" in refusal
    assert cli.main([*command, "--dry-run", "--no-timing"]) == 0
    text = capsys.readouterr().out
    assert "train: 32 of" in text and text.strip().endswith(f"note: compare would refuse to start: {refusal}")
    assert triptych.dry_run(preset="demo", out=out, methods="lora", timing=False).refusal is not None
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_list_shows_everything_registered_with_its_options(capsys):
    """`triptych list` names every registered method, baseline, data set, metric, model, key of a suite and preset."""
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    for words in ("prompt-tuning", "num_virtual_tokens", "lead-3", "newswire", "rouge", "tiny", "assignment"):
        assert words in text
    for key in suite_keys():
        assert f"  {key.name} (default {key.default!r}): {key.description}" in text


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_a_suite_that_fits_its_model(name, capsys):
    """A preset makes a valid suite whose longest sequence fits the window, and help and list say what it is for."""
    made, table = entries.resolve(preset_settings(name))
    assert made.name == name and len(table) == (6 if name == "demo" else 8)  # the demo leaves variants of methods out
    window = {"gpt2": 1024, "tiny": 512}[made.model]
    positions = reserved_positions(table) + made.limits.document_tokens + 8
    assert positions + max(made.limits.summary_tokens, made.decoding.max_new_tokens) <= window
    assert cli.main(["list"]) == 0
    assert f"{name}: {presets()[name].summary}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["compare", "--help"])
    assert name in "".join(capsys.readouterr().out.split())  # however lines are wrapped


def test_list_data_says_how_a_folder_would_be_read(tmp_path, capsys):
    """`triptych list data DIR` names files, splits, rows and the columns that would be read."""
    assert cli.main(["list", "data", str(data_folder(tmp_path / "data"))]) == 0
    text = capsys.readouterr().out
    assert "train: 10 rows" in text and "document = article" in text and "summary = highlights" in text


@pytest.mark.parametrize("names", [("test",), ("validation", "test")])
def test_list_data_says_that_there_is_no_training_split(names, tmp_path, capsys):
    """Data without a training split is refused as `compare` refuses it, with a remedy."""
    for name in names:
        write_csv(tmp_path / "data" / f"{name}.csv")
    assert cli.main(["list", "data", str(tmp_path / "data")]) == 2
    said = f"data has no training split, only {', '.join(names)}. Add one, or give a single file to be cut."
    assert said in capsys.readouterr().err


def test_list_data_takes_names_of_columns_and_shows_a_pair(tmp_path, capsys):
    """`list data DIR --set` reads a folder with the named columns, as the message on unknown columns says, and shows a
    pair."""
    file = str(write_csv(tmp_path / "tickets.csv", "key,Ticket of it,the gist"))
    assert cli.main(["list", "data", file]) == 2
    said = capsys.readouterr().err
    command = said[said.index("--set") :].splitlines()[0].split(". (")[0].rstrip(".")
    assert command == "--set columns.document=NAME columns.summary=NAME"
    arguments = ["columns.document=Ticket of it", "columns.summary=the gist"]
    assert cli.main(["list", "data", file, "--set", *arguments]) == 0
    text = capsys.readouterr().out
    assert "document = Ticket of it, summary = the gist" in text
    assert f"characters): {ARTICLES[0][1]}" in text and f"characters): {ARTICLES[0][2]}" in text
    assert "There is no validation and no test split" in text
    assert cli.main(["list", "data", file, "--set", "columns.sumary=x"]) == 2
    assert "Did you mean 'summary'?" in capsys.readouterr().err
    assert cli.main(["list", "--set", "columns.summary=x"]) == 2
    assert "belongs to `triptych list data DIR`" in capsys.readouterr().err


@pytest.mark.parametrize("dry", [True, False], ids=["dry run", "compare"])
def test_what_is_cut_and_what_is_not_read_is_said(tmp_path, capsys, monkeypatch, dry):
    """Before any work, compare and its dry run say which files are not read and what a seed cuts; the record has it
    too."""
    write_csv(tmp_path / "data" / "train.csv", rows=ARTICLES[:20])
    write_csv(tmp_path / "data" / "eval.csv", rows=ARTICLES[20:30])
    write_csv(tmp_path / "data" / "extra.csv")
    corpora = []

    def stop(*arguments, **options):
        raise ConfigError("as far as this")

    load = load_corpus
    monkeypatch.setattr(
        "triptych.run.preflight.load_corpus", lambda *given: corpora.append(load(*given)) or corpora[-1]
    )
    monkeypatch.setattr("triptych.suite.folder.claim_folder", stop)
    arguments = [
        "--model",
        "tiny",
        "--data",
        str(tmp_path / "data"),
        "--methods",
        "lead-3",
        "--seeds",
        "0",
        "--set",
        *FITTING,
    ]
    assert cli.main(["compare", *arguments, *(["--dry-run"] if dry else [])]) == (0 if dry else 2)
    captured = capsys.readouterr()
    text = captured.out if dry else captured.err
    assert "data: eval.csv is read as the test split, as on the Hugging Face hub." in text
    assert "data: Not read: extra.csv" in text
    assert "data: The source has no validation split: its training split was cut by document" in text
    assert [sentence in text for sentence in corpora[0].data.sentences()] == [True] * 3


def test_a_mistyped_data_file_is_told_its_name(tmp_path, capsys):
    """A file or folder with a similar name in the same folder is suggested, and the message says that one file is
    enough."""
    write_csv(tmp_path / "tickets.csv")
    data_folder(tmp_path / "news")
    for arguments, name in (
        (["compare", "--preset", "demo", "--data", "tikcets.csv", "--dry-run"], "'tickets.csv'"),
        (["list", "data", "tikcets.csv"], "'tickets.csv'"),
        (["list", "data", "./nwes"], "'news'"),
        (["list", "data", str(tmp_path / "tickets.tsv")], repr(str(tmp_path / "tickets.csv"))),
    ):
        assert cli.main(arguments) == 2
        said = capsys.readouterr().err
        assert f"Did you mean {name}?" in said and "or a single file of these formats" in said, said
    assert (
        cli.main(["compare", "--preset", "demo", "--data", "nwes", "--dry-run"]) == 2
    )  # this may be a name of the Hub
    assert "Did you mean 'news'?" in capsys.readouterr().err
    assert cli.main(["list", "data", "nothing/like-it.csv"]) == 2
    assert "Did you mean" not in capsys.readouterr().err


def test_list_data_says_what_a_cut_gives_and_how_ids_are_named(tmp_path, capsys):
    """The number of pairs in each split of a single file is shown, and that a column may hold the ids if there is
    another."""
    write_csv(tmp_path / "all.csv", "nr,article,highlights")
    assert cli.main(["list", "data", "all.csv"]) == 0
    said = capsys.readouterr().out
    assert "compare cuts them by [split], 32 train, 4 validation, 4 test of 40." in said
    assert "id = (made from split and row; columns.id=NAME uses a column)" in said
    assert cli.main(["list", "data", "all.csv", "--set", "columns.id=nr", "split.fractions=[0.5, 0.25, 0.25]"]) == 0
    said = capsys.readouterr().out
    assert "20 train, 10 validation, 10 test of 40." in said and "id = nr" in said
    write_csv(tmp_path / "pairs.csv", "article,highlights", [row[1:] for row in ARTICLES])
    assert cli.main(["list", "data", "pairs.csv"]) == 0
    assert "id = (made from split and row)\n" in capsys.readouterr().out
    data_folder(tmp_path / "news")
    assert cli.main(["list", "data", "news"]) == 0 and "compare cuts" not in capsys.readouterr().out


COMMANDS = (
    "compare",
    "plan",
    "train",
    "evaluate",
    "summarize",
    "export",
    "report",
    "score",
    "bundle",
    "advise",
    "play",
    "init",
    "list",
    "env",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    """--help of every command ends with status 0 and a description."""
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0 and "usage: triptych" in capsys.readouterr().out


def test_settings_reach_every_key_of_a_suite():
    """--set can reach every key of every section, read as TOML or taken as a string."""
    from triptych.config.reading import merge_tables, parse_setting

    for section, model in Suite.model_fields.items():
        keys = getattr(model.annotation, "model_fields", None)
        for key in keys or ():
            value = getattr(Suite(), section).model_dump(by_alias=False)[key]
            if (section, key) == ("tracking", "with_"):
                continue  # written `with`, one of a few names: see tests/unit/run/test_tracking.py
            unset = 0.5 if (section, key) == ("training", "dropout") else "name"  # for keys without a default
            wanted = value if value is not None else unset
            text = wanted if value is None else json.dumps(value)
            made = make_suite(merge_tables({}, parse_setting(f"{section}.{key}={text}")))
            assert getattr(getattr(made, section), key) == wanted
    assert make_suite(parse_setting("model=gpt2-medium")).model == "gpt2-medium"


def test_the_corpus_configuration_goes_with_the_corpus_alone():
    """CNN/DailyMail is read in its configuration 3.0.0 however it is named; no other data set gets one."""
    for arguments, expected in (
        (["--preset", "assignment"], "3.0.0"),
        (["--model", "gpt2", "--data", "abisee/cnn_dailymail"], "3.0.0"),
        (["--data", "EdinburghNLP/xsum"], None),
        (["--data", "./mine"], None),
        ([], None),
    ):
        assert make_suite(suite_settings(["compare", *arguments])).data_config == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "--dry-run", "--data", ""],
        ["compare", "--dry-run", "--set", "data="],
        ["compare", "--dry-run", "--model", ""],
        ["compare", "--out", ""],
        ["compare", ""],
        ["compare", "", "--dry-run"],
        ["train", "lora", ""],
        ["plan", ""],
        ["list", "data", ""],
        ["summarize", "", "--text", "x"],
        ["summarize", "run", "--file", ""],
        ["report", ""],
        ["score", ""],
        ["score", "mine=x.csv", "--out", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_current_folder(arguments, tmp_path, capsys):
    """An empty path, such as an unset shell variable, reads and writes nothing, even if the current folder has data and
    runs."""
    data_folder(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "suite.json").write_text("{}")
    before = sorted(tmp_path.iterdir())
    try:
        status = cli.main(arguments)
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert status == 2 and "empty. Give one; the current folder is written" in captured.err, captured
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "cache"] == before


@pytest.mark.parametrize("most", ["nan", "-1"])
def test_a_limit_of_a_bundle_is_a_number_of_zero_or_more(most, tmp_path, capsys):
    """NaN is no limit and a negative one leaves out every model: both are refused, and no zip is written."""
    write_results(tmp_path / "out")
    assert cli.main(["bundle", "out", "my.zip", f"--max-megabytes={most}"]) == 2
    assert f"--max-megabytes is {most}: a number of 0 or more is needed." in capsys.readouterr().err
    assert not (tmp_path / "my.zip").exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda: triptych.describe_data(""),
        lambda: triptych.compare(data="", out="made", listener=print),
        lambda: triptych.compare(out="", listener=print),
        lambda: triptych.compare("", listener=print),
        lambda: triptych.plan(""),
        lambda: triptych.plan(pilots=[""]),
        lambda: triptych.summarize("", text="x"),
        lambda: triptych.report(""),
        lambda: triptych.score("", metrics=["rouge"]),
    ],
)
def test_an_empty_path_in_python_is_refused(call):
    """Functions reject empty paths too."""
    with pytest.raises(InputError, match="A path or name is empty"):
        call()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
    ],
    ids=["python", "gpu", "cpu"],
)
def test_out_of_memory_is_one_message(error, tmp_path, monkeypatch, capsys):
    """Whichever allocator fails, the command says so without quoting it; another error of its type stays unexpected."""

    def fail(error: Exception):
        def listed(plugins):
            raise error

        monkeypatch.setattr(api, "list_registered", listed)

    fail(error)
    assert cli.main(["list"]) == 1
    assert capsys.readouterr().err == (
        "triptych: out of memory. Use a smaller model or batch, or free memory, and start again.\n"
    )
    fail(RuntimeError("a mistake"))
    assert cli.main(["list"]) == 1 and "unexpected RuntimeError: a mistake" in capsys.readouterr().err
