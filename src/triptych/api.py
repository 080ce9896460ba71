"""Every command as a function: what `triptych COMMAND` does, with typed arguments and results.

Modules that need torch, matplotlib or scipy are imported by the functions that need them: `report`, `advise` and
`score` run without torch; `list_registered`, `describe_data` and the rejection of a mistyped name need none of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.config import reading
from triptych.config.keys import SuiteKey, keys_of, suite_keys
from triptych.config.schema import Suite, make_suite
from triptych.contracts import Baseline, Dataset, EmbeddedModel, Family, Method, Metric
from triptych.datasets import tables
from triptych.errors import ConfigError, ResultsError
from triptych.models.quiet import quietly
from triptych.plugins import import_plugins
from triptych.registry import Plugin, registered
from triptych.results import layout
from triptych.results.lock import check_free
from triptych.results.records import Comparison, DesignPlan, Record
from triptych.run import entries
from triptych.run.events import DesignEvent, Listener, NoteEvent, PlanEvent, ReadyEvent, ResolvedEvent
from triptych.storage.cache_place import cache_place
from triptych.storage.files import named_path
from triptych.suite.arguments import SuiteArguments
from triptych.suite.notebook import listener_for_a_while, usual_listener
from triptych.text import languages
from triptych.use.documents import open_documents
from triptych.use.find_run import find_run, how_to_use, known_columns, runs_of_row

if TYPE_CHECKING:
    from triptych.analysis.advice import Advice
    from triptych.submission.bundle import Bundle
    from triptych.suite.dry_run import DryRun
    from triptych.suite.executors import Resources
    from triptych.use.evaluate import Evaluation
    from triptych.use.summarizers import Summary, Trained

CONTRACTS = (Method, Baseline, Dataset, Metric, EmbeddedModel, Family)


@dataclass(frozen=True)
class Registered:
    """What a suite can name.

    Attributes:
        plugins: for each contract (`method`, `baseline`, `data set`, ...), its classes by name; their `model_fields`
            are the options.
        variants: labels of methods that need no `kind`, with their options.
        keys: the keys of a suite file, with default and description.
        presets: what each preset is for, by name.
    """

    plugins: dict[str, dict[str, type[Plugin]]]
    variants: dict[str, dict[str, Any]]
    keys: list[SuiteKey]
    presets: dict[str, str]


@dataclass(frozen=True)
class DataDescription:
    """The contents of a data folder, and how they would be read.

    Attributes:
        tables: its splits with their files, columns and first pair, and what is not read.
        language: the language that ROUGE would use, and why.
        cut: the rows that `[split]` gives to training and to each missing split; empty if no split is missing.
    """

    tables: tables.Description
    language: languages.Language
    cut: dict[str, int]


def compare(
    suite_file: str | Path | None = None,
    *,
    data: Any = None,
    model: str | Path | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    methods: str | Sequence[str] | None = None,
    seeds: int | str | Sequence[int] | None = None,
    within: str | None = None,
    fresh: bool = False,
    executor: str = "local",
    resources: "Resources | None" = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
    listener: Listener | None = None,
) -> Comparison:
    """Run every method of a suite, each run in a child process, compare them, and write tables and reports to `out`.

    If `out` already has the same suite, it is resumed. New methods and seeds are added to it; the existing ones stay,
    and finished runs are not touched.

    Args:
        suite_file: a suite in TOML, `OUT/suite.json`, or a results folder, which is resumed or extended.
        data: a path, a name on the Hub, or documents with summaries: a pandas or polars DataFrame, a data set of the
            package datasets, a list of pairs (document, summary) or of dictionaries, or a dictionary of splits. All but
            paths and names are written to a folder in `OUT/data` named after their content. None: the suite's data.
        model: a transformers folder, a name on the Hub, or an embedded model; None: the suite's model.
        out: the results folder; a comparison without a preset or a name is named after it. None: the folder given as
            `suite_file`, else `results/NAME`.
        preset: settings to start from; None: `assignment` with a suite file, a model or data, else `demo`.
        settings: keys of a suite file, with tables as dictionaries or dotted keys (`limits.train_documents`); they
            override the suite file and the preset.
        methods: labels of methods and baselines, as a list or separated by commas; None: those of the suite.
        seeds: a list of seeds, one seed, or a text such as `0,1,2`; None: those of the suite.
        within: the time for all runs, such as `8h` or `30min`: seeds, test documents, epochs and training pairs are
            chosen as `plan` does, the same for every method; an existing `out` keeps its sizes. None: the suite's
            sizes are used.
        fresh: start over; the previous contents of `out` are kept under another name.
        executor: `local`, one run after another on this machine; `ray`, a Ray cluster on this machine; or
            `ray://HOST:PORT`.
        resources: what each run needs from a Ray worker; None: one core.
        device: cpu, cuda or mps; None: the best there is.
        plugins: Python files with plug-ins.
        listener: called with each event of `triptych.run.events` and the run that it is about (None: the suite). The
            default shows a bar in a notebook, and nothing elsewhere.

    Returns:
        The contents of `OUT/comparison.json`. A failed run is listed in its method's `failed_seeds`.

    Raises:
        InputError: the suite cannot be run; nothing was written.
        RunFailed: every run failed.
    """
    from triptych.suite import executors
    from triptych.suite.folder import check_claim, claim_folder, note_command

    import_plugins(plugins)
    listener = listener or usual_listener()
    chosen = executors.make_executor(executor, resources or executors.Resources())
    given = SuiteArguments(suite_file, preset, settings or {}, model, data, seeds, out)
    with given.settings_with_files() as over:

        def note_design(made: DesignPlan) -> None:
            listener(None, DesignEvent(design=made))

        resolved, folder, began = _resolve(given, over, methods, within, device, fresh, check_free, note_design)
        claim = check_claim(folder, resolved, fresh)
        listener(None, ResolvedEvent(suite=claim.suite, preset=began, out=str(folder)))

        with executors.prepared(chosen) as carry_out, quietly():
            from triptych.run import preflight
            from triptych.storage.cache_place import cache_folder
            from triptych.suite import jobs, plans, reports
            from triptych.suite.log import log_result

            if not fresh:
                reports.check_authors_text(folder)
            table = entries.suite_entries(claim.suite)
            checked = preflight.check_suite(claim.suite, table, device, cache_folder())
            listener(None, PlanEvent(plan=plans.make_plan(checked, began, folder, fresh)))
            notes, language = checked.corpus.data.sentences(), checked.language.reason
            changes = [*claim.changes, *filter(None, [cache_place().note])]
            listener(None, ReadyEvent(out=str(folder), notes=notes, language=language, changes=changes))
            with claim_folder(folder, claim.suite, fresh) as lock:
                note_command(folder)
                jobs.run_suite(checked, folder, lock, device, plugins, listener, carry_out)
                comparison = reports.report_suite(folder)
                log_result(lock, comparison)
                return comparison


def dry_run(
    suite_file: str | Path | None = None,
    *,
    data: Any = None,
    model: str | Path | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    methods: str | Sequence[str] | None = None,
    seeds: int | str | Sequence[int] | None = None,
    within: str | None = None,
    fresh: bool = False,
    executor: str = "local",
    resources: "Resources | None" = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
    timing: bool = True,
    listener: Listener | None = None,
) -> "DryRun":
    """Forecast what `compare` would do: runs, documents, disk, and the time, from a few timed documents per method.

    Nothing is written. If `compare` would refuse the results folder, `refusal` says why.

    Args:
        suite_file: as for `compare`.
        data: as for `compare`.
        model: as for `compare`.
        out: as for `compare`.
        preset: as for `compare`.
        settings: as for `compare`.
        methods: as for `compare`.
        seeds: as for `compare`.
        within: as for `compare`.
        fresh: as for `compare`.
        executor: as for `compare`.
        resources: as for `compare`.
        device: as for `compare`.
        plugins: as for `compare`.
        timing: False: nothing is timed, and no seconds are forecast.
        listener: called with the plan as soon as it is known, and with each method's estimate as it is made.

    Raises:
        InputError: the suite cannot be run.
    """
    from triptych.suite import executors
    from triptych.suite.folder import check_claim

    import_plugins(plugins)
    executors.make_executor(executor, resources or executors.Resources())  # only to refuse what cannot be used
    given = SuiteArguments(suite_file, preset, settings or {}, model, data, seeds, out)
    designs: list[DesignPlan] = []
    with given.settings_with_files(keep=False) as over, listener_for_a_while(listener) as hear:

        def note_design(made: DesignPlan) -> None:
            designs.append(made)
            hear(None, DesignEvent(design=made))

        resolved, folder, began = _resolve(
            given, over, methods, within, device, fresh, lambda folder: None, note_design
        )
        grown, refusal = given.as_kept(resolved, folder), None
        try:
            grown = check_claim(folder, grown, fresh).suite
        except ResultsError as error:  # nothing is written, so the plan can still be made
            refusal = str(error)
        hear(None, ResolvedEvent(suite=grown, preset=began, out=str(folder)))
        read = grown.model_copy(update={"data": resolved.data})

        from triptych.run import preflight
        from triptych.suite import plans
        from triptych.suite.dry_run import forecast

        with quietly(), preflight.temporary_cache() as cache:
            checked = preflight.check_suite(read, entries.suite_entries(read), device, cache)
            plan = plans.make_plan(checked, began, folder, fresh or refusal is not None).model_copy(
                update={"suite": grown}
            )
            hear(None, PlanEvent(plan=plan))
            found = forecast(checked, plan, device, timing, hear)
    if refusal is not None:
        hear(None, NoteEvent(message=refusal))
    return replace(found, design=designs[0] if designs else None, refusal=refusal)


def _resolve(
    given: SuiteArguments,
    over: Mapping[str, Any],
    methods: str | Sequence[str] | None,
    within: str | None,
    device: str | None,
    fresh: bool,
    check: Callable[[Path], None],
    note_design: Callable[[DesignPlan], None],
) -> tuple[Suite, Path, str]:
    """The suite that a call asks for, its results folder, and the preset that its settings started from.

    A mistyped name, and a folder that `check` refuses, are refused before anything large is imported.
    """
    labels, merged = reading.parse_labels(methods), reading.merge_settings(given.file, given.preset, over)
    suite, _ = entries.resolve(merged, labels)
    check(layout.results_folder(given.folder, suite.name))
    if within is not None:
        from triptych.planning import planner

        with quietly():
            merged = planner.settings_within(within, merged, labels, given.folder, device, fresh, note_design)
        suite, _ = entries.resolve(merged, labels)
    began = reading.began_from(given.file, given.preset, over)
    return suite, layout.results_folder(given.folder, suite.name), began


def train(
    label: str,
    suite_file: str | Path | None = None,
    *,
    data: Any = None,
    model: str | Path | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    methods: str | Sequence[str] | None = None,
    seeds: int | str | Sequence[int] | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
    listener: Listener | None = None,
) -> list[Record]:
    """Run one method of a suite in this process, once for each seed; each run is saved in `OUT/runs/LABEL/SEED`.

    Args:
        label: a method, a baseline, or a label that the suite defines; if the suite does not name it, it becomes the
            suite's only method.
        suite_file: as for `compare`.
        data: as for `compare`.
        model: as for `compare`.
        out: as for `compare`.
        preset: as for `compare`.
        settings: as for `compare`.
        methods: as for `compare`.
        device: as for `compare`.
        plugins: as for `compare`.
        listener: as for `compare`.
        seeds: which of the suite file's seeds to run; without a suite file, the suite's seeds. None: all.

    Returns:
        A record for each seed.

    Raises:
        InputError: the method cannot be run; nothing was written.
        TriptychError: a run failed.
    """
    from triptych.suite.method_request import make_request

    import_plugins(plugins)
    listener = listener or usual_listener()
    given = SuiteArguments(suite_file, preset, settings or {}, model, data, None, out)
    labels = reading.parse_labels(methods)
    chosen = None if seeds is None else reading.parse_seeds(seeds)
    with given.settings_with_files() as over:
        request = make_request(label, given.file, preset, over, labels, chosen, given.folder, device, plugins)
        with quietly():
            from triptych.suite.one_method import train_method

            return train_method(request, listener)


def load(
    run: str | Path, *, model: str | None = None, device: str | None = None, plugins: Sequence[str] = ()
) -> "Trained":
    """Load a run, or an adapter that peft saved, to summarize with: `triptych.load(RUN).summarize(texts)`.

    Args:
        run: `OUT/runs/LABEL/SEED`, or the adapter's folder; or, if only one run can be meant, `OUT/runs/LABEL` or OUT;
            or `OUT@best`, the trained method with the best mean on the primary measure.
        model: the base model, if it is not available under its recorded name.
        device: cpu, cuda or mps; None: the best there is.
        plugins: Python files with plug-ins.

    Raises:
        InputError: there is nothing to load, or it does not belong to the model.
    """
    return load_all([run], model=model, device=device, plugins=plugins)[0]


@quietly()
def load_all(
    runs: Sequence[str | Path], *, model: str | None = None, device: str | None = None, plugins: Sequence[str] = ()
) -> "list[Trained]":
    """Load several runs as `load` does, with each base model in memory only once.

    Args:
        runs: the folders, as for `load`.
        model: as for `load`.
        device: as for `load`.
        plugins: as for `load`.

    Returns:
        The loaded runs, in the order given.

    Raises:
        InputError: as `load` does, or there are none.
    """
    from triptych.use import summarizers

    if not runs:
        raise ConfigError("No run is given.")
    import_plugins(plugins)
    return summarizers.load_summarizers([find_run(run).folder for run in runs], model, device)


@quietly()
def evaluate(
    run: str | Path,
    *,
    model: str | None = None,
    data: str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
) -> "Evaluation":
    """Recompute the test loss and the summaries of a saved run, and compare them with its record.

    Args:
        run: as for `load`.
        model: where the base model is now; None: where the record says.
        data: where the documents are now; None: where the record says. For an adapter that peft saved, the data to
            evaluate it on.
        settings: for an adapter that peft saved, keys of a suite file, with tables as dictionaries.
        device: cpu, cuda or mps; None: the best there is.
        plugins: Python files with plug-ins.

    Returns:
        Both sets of figures; `reproduced` says whether they agree.

    Raises:
        InputError: there is nothing to evaluate, or it does not belong to the model or the data.
    """
    from triptych.use.evaluate import evaluate_run

    import_plugins(plugins)
    places = {key: value for key, value in (("model", model), ("data", data)) if value}
    return evaluate_run(find_run(run).folder, device, reading.merge_tables(places, reading.nested(settings or {})))


@quietly()
def summarize(
    runs: str | Path | Sequence[str | Path],
    documents: str | Path | Iterable[str | Path | tuple[str, str]] = (),
    *,
    text: str | None = None,
    column: str | None = None,
    model: str | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
    note: Callable[[str], None] = lambda sentence: None,
) -> "Iterator[tuple[Trained, str, Summary]]":
    """Summarize documents with one or more runs, which share one base model in memory.

    Args:
        runs: one or more runs, each as for `load`.
        documents: one or more files: a text is one document, a table has one in each row, a folder has texts and
            tables, `notes/*.txt` is a pattern, `-` is standard input. Or pairs of an id and a text.
        text: the text of one document, instead of `documents`.
        column: the tables' column with the documents; None: the runs' column, else one with a usual name.
        model: as for `load`.
        device: as for `load`.
        plugins: as for `load`.
        note: called with a sentence about files in a folder that are not read.

    Returns:
        The run, the document's id and the summary, for each document and run, as they are generated.

    Raises:
        InputError: a run cannot be loaded or the documents cannot be read; raised before anything is generated,
            except for an empty text, or a table row that turns out to be empty.
    """
    from triptych.use import summarizers

    if text is not None and documents:
        raise ConfigError("Give documents or a text, not both.")
    import_plugins(plugins)
    names = [runs] if isinstance(runs, str | Path) else list(runs)
    pairs: Iterable[tuple[str, str]]
    if text is not None:
        pairs = [("text", text)]
    else:
        first, given = _peek([documents] if isinstance(documents, str | Path) else documents)
        pairs = given  # type: ignore[assignment]  # all are of the kind of the first
        if first is None or isinstance(first, str | Path):
            opened = open_documents([str(each) for each in given], column, known_columns(names))
            pairs = ((each.id, each.text) for each in opened)
            for sentence in opened.notes:
                note(sentence)
    return summarizers.summarize_all(load_all(names, model=model, device=device), pairs)


@quietly()
def summarize_to_file(
    runs: str | Path | Sequence[str | Path],
    documents: str | Path | Sequence[str | Path],
    file: str | Path,
    *,
    column: str | None = None,
    overwrite: bool = False,
    model: str | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
    each: "Callable[[Trained, Summary], None]" = lambda trained, summary: None,
    note: Callable[[str], None] = lambda sentence: None,
) -> int:
    """Summarize documents into a table: a row for each, with its id, the columns of its source table and the summaries.

    Args:
        runs: as for `summarize`.
        documents: files, as for `summarize`.
        file: the .csv or .jsonl to write; it is written completely or not at all.
        column: as for `summarize`.
        overwrite: replace a file that exists.
        model: as for `load`.
        device: as for `load`.
        plugins: as for `load`.
        progress: called with the number of documents done and the number in all.
        each: called with every run and summary.
        note: as for `summarize`.

    Returns:
        The number of documents summarized.

    Raises:
        InputError: as for `summarize`; or the file exists, cannot be written, or has another extension.
    """
    from triptych.use import summary_files

    import_plugins(plugins)
    names = [runs] if isinstance(runs, str | Path) else list(runs)
    sources = [documents] if isinstance(documents, str | Path) else documents
    summary_files.check_file(named_path(file), overwrite)
    opened = open_documents([str(source) for source in sources], column, known_columns(names), cells=True)
    for sentence in opened.notes:
        note(sentence)
    loaded = load_all(names, model=model, device=device)
    summary_files.write_summary_file(loaded, opened, named_path(file), progress, each)
    return opened.number


@quietly()
def export(
    run: str | Path,
    folder: str | Path,
    *,
    model: str | None = None,
    plugins: Sequence[str] = (),
    documents: int = 16,
    push_to: str | None = None,
    public: bool = False,
    progress: Callable[[int, int], None] | None = None,
    device: str | None = None,
) -> str:
    """Export what a run trained to a folder that works without Triptych, with examples and a model card.

    Args:
        run: as for `load`.
        folder: a new or empty folder.
        model: the base model, if it is not available under its recorded name.
        plugins: Python files with plug-ins.
        documents: test documents that the exported model summarizes greedily and by sampling, as servers do, for the
            card's comparison with the run's own decoding; 0: none.
        push_to: upload the folder to the Hub under this name, USER/NAME, with the user's own token; None: nothing is
            uploaded.
        public: anyone can see the upload; otherwise it is private.
        progress: called with `(summaries written, summaries in all)` while they are written.
        device: the device that writes them: cpu, cuda or mps; None: the best there is.

    Returns:
        A sentence that says what was written and, if it was uploaded, its address.

    Raises:
        InputError: there is nothing to export, `folder` is not empty, the result is not the run's model, or it cannot
            be uploaded.
    """
    from triptych.use import publish
    from triptych.use.export import export_run

    import_plugins(plugins)
    if push_to is not None:
        publish.check_destination(push_to)
    message = export_run(
        find_run(run).folder, named_path(folder), model, documents, progress or (lambda done, total: None), device
    )
    if push_to is None:
        return message
    return f"{message} Uploaded: {publish.upload(named_path(folder), push_to, public)}"


def report(
    outs: str | Path | Sequence[str | Path],
    *,
    to: str | Path | None = None,
    texts: bool = True,
    settings: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
) -> Comparison:
    """Compare the runs of results folders again, and write `comparison.json`, the tables and the reports.

    Args:
        outs: one or more results folders; several are joined into one table if their runs may be compared.
        to: the folder to write to; None: the results folder, if there is only one.
        texts: include summaries in the reports; False is for data that may not be passed on. Then, with `to` and
            one folder of runs, that folder becomes a results folder itself, with suite, records, histories and scores
            but no text.
        settings: the section `report` of a suite: title, author, course, date, reason. If the report is written to
            the results folder itself, its suite.json keeps them.
        plugins: Python files with plug-ins: a data set in one of them has the documents of the checks.

    Returns:
        The contents of `comparison.json`.

    Raises:
        InputError: a folder is unreadable, its runs may not be compared in one table, or it cannot be written.
    """
    from triptych.suite import reports

    import_plugins(plugins, ("datasets",))
    folders = [named_path(out) for out in ([outs] if isinstance(outs, str | Path) else outs)]
    if not folders:
        raise ResultsError("No results folder is given.")
    if len(folders) != 1 and to is None:
        raise ResultsError("Several folders are joined into a new one: name it with --to DIR.")
    return reports.report_folders(
        folders, folders[0] if to is None else named_path(to), texts, reading.nested(settings or {})
    )


def advise(
    out: str | Path,
    *,
    max_parameters: float | str | None = None,
    max_seconds: float | str | None = None,
    max_memory: float | str | None = None,
) -> "Advice":
    """Name the cheapest method within a budget that is shown to be at most `analysis.margin` worse than the best one.

    Args:
        out: a results folder; or a folder with only its `comparison.json`, whose figures are taken as they are.
        max_parameters: the most trainable parameters, such as 1e6 or `1M`; None: no limit.
        max_seconds: the longest training time in seconds, or a text such as `30min`; None: no limit.
        max_memory: the highest peak memory of training in bytes, or a text such as `8GB`; None: no limit.

    Returns:
        The choice, the folders of its runs, and its rivals; `text` says it all in words.

    Raises:
        InputError: the folder is unreadable, or a limit is not a quantity of 0 or more.
    """
    from triptych.analysis import advice
    from triptych.analysis import comparison as comparing
    from triptych.results.reading import is_published, read_comparison, read_results

    folder = named_path(out)
    if is_published(folder):
        return advice.recommend(read_comparison(folder), max_parameters, max_seconds, max_memory)
    results = read_results(folder)
    found = advice.recommend(comparing.compare_results(results), max_parameters, max_seconds, max_memory)
    if found.choice is None or results.files is not None or not results.has_texts:
        return found  # there is no run to use

    def folders(label: str) -> list[Path]:
        return runs_of_row(folder, label, [run.record.seed for run in results.of(label)])

    runs = folders(found.choice)
    lines = [found.text, how_to_use(results, found.choice, runs)]
    if found.trained is not None and not any(run.trained for run in results.of(found.choice)):
        lines.append(how_to_use(results, found.trained, folders(found.trained)))
    return replace(found, runs=tuple(map(str, runs)), text="\n".join(lines))


def bundle(
    out: str | Path,
    file: str | Path,
    *,
    max_megabytes: float | None = None,
    overwrite: bool = False,
    plugins: Sequence[str] = (),
) -> "Bundle":
    """Write a zip with the source, the fine-tuned models, the report, the results and instructions.

    Args:
        out: a results folder with its report.
        file: the zip to write.
        max_megabytes: the most megabytes (10^6 bytes) of fine-tuned models; beyond that, the largest are left out.
            None: no limit.
        overwrite: replace a file that exists.
        plugins: Python files with plug-ins that the methods need; they go into the zip.

    Returns:
        What went in, and which models were left out.

    Raises:
        InputError: there is no finished run, no report or an incomplete model, or `file` exists.
    """
    from triptych.submission.bundle import write_bundle

    import_plugins(plugins)
    return write_bundle(
        named_path(out), named_path(file), [Path(plugin) for plugin in plugins], max_megabytes, overwrite
    )


def play(
    out: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    model: str | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
) -> None:
    """Serve a web page that shows an article's summaries by every method side by side, until interrupted.

    Args:
        out: a results folder.
        host: the address to listen on; the default is reachable from this machine only.
        port: the port to listen on.
        model: as for `load`.
        device: as for `load`.
        plugins: as for `load`.

    Raises:
        InputError: the extra `play` is not installed, a run cannot be loaded, or the address cannot be used.
    """
    from triptych.use.page import build_page, import_gradio
    from triptych.use.page_server import launch
    from triptych.use.playground import Playground

    import_gradio()
    import_plugins(plugins)
    launch(build_page(Playground.open(named_path(out), model, device)), host, port, named_path(out))


def init(
    file: str | Path = "suite.toml",
    *,
    model: str | Path | None = None,
    data: str | Path | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
) -> Path:
    """Write a suite file with every key, its default and its meaning.

    The model and data are inspected: recognized columns are written out, and so are limits that fit the model's
    context window and this machine.

    Args:
        file: the file to write; its folder must exist.
        model: as for `compare`.
        data: a path, or a name on the Hub, from which nothing is downloaded.
        preset: as for `compare`.
        settings: as for `compare`; they are written out.
        device: as for `compare`.
        plugins: as for `compare`.

    Returns:
        The path of the file.

    Raises:
        InputError: model or data cannot be read, a setting is wrong, or the file exists.
    """
    import_plugins(plugins)
    over = SuiteArguments(None, preset, settings or {}, model, None if data is None else str(data)).overriding
    entries.resolve(reading.merge_settings(None, preset, over))  # a mistyped name is refused before torch is imported
    where = named_path(file)
    if where.exists():
        raise ConfigError(f"{str(where)!r} exists and is not overwritten: give another name, or move it away.")

    from triptych.suite import new_suite

    with quietly():
        text = new_suite.new_suite(preset, over, new_suite.name_for(where, over), device)
    new_suite.write_new_suite(where, text)
    return where


def env() -> dict[str, Any]:
    """Versions, commit and hardware of this machine, for a bug report; without the user's paths, name or tokens.

    Returns:
        Plain values by name, as in JSON.
    """
    from triptych.machine import choose_device, choose_precision
    from triptych.run import provenance

    device = choose_device(None)
    return provenance.environment(device, choose_precision("auto", device))


def list_keys(plugins: Sequence[str] = ()) -> list[SuiteKey]:
    """Every key of a suite file, and the options of every method and baseline as `method.NAME.OPTION`.

    Args:
        plugins: Python files with plug-ins.

    Raises:
        ConfigError: a plug-in is missing or cannot be imported.
    """
    import_plugins(plugins)
    kinds = {**registered(Method), **registered(Baseline)}
    return [*suite_keys(), *(key for kind, cls in kinds.items() for key in keys_of(cls, f"method.{kind}."))]


def list_registered(plugins: Sequence[str] = ()) -> Registered:
    """List the methods, baselines, data sets, metrics, models, keys and presets that a suite can name.

    Args:
        plugins: Python files with plug-ins.

    Raises:
        ConfigError: a plug-in is missing or cannot be imported.
    """
    import_plugins(plugins)
    found = {contract.contract: registered(contract) for contract in CONTRACTS}
    summaries = {name: preset.summary for name, preset in reading.presets().items()}
    return Registered(found, entries.VARIANTS, suite_keys(), summaries)


def describe_data(path: str | Path, *, settings: Mapping[str, Any] | None = None) -> DataDescription:
    """Describe what a data folder or file contains and how it would be read; every row is read.

    Args:
        path: the folder or file.
        settings: keys of a suite file that say how it is read: `columns`, `rouge` and `split`.

    Raises:
        InputError: the data cannot be read, or a setting is wrong.
    """
    from triptych.corpus.cutting import count_cut
    from triptych.run.scoring import MOST_REFERENCES

    suite = make_suite(reading.nested(settings or {}))
    source = named_path(path)
    found = tables.describe_tables(source, suite.columns)
    splits = [split.split for split in found.splits]
    scored = [split for split in splits if split in ("validation", "test")] or splits[:1]
    data = tables.Tables(path=source, columns=suite.columns)
    references = [pair.summary for split in scored for pair in islice(data.examples(split), MOST_REFERENCES)]
    language = languages.choose(suite.rouge.language, references, str(path))
    return DataDescription(found, language, count_cut(data, suite.split, str(path)))


def _peek(values: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """The first value (None if there is none), and all of them."""
    source = iter(values)
    first = next(source, None)
    return first, () if first is None else chain([first], source)
