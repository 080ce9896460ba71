"""The report's figures: drawn once, shown in print and on the page, with the numbers of the tables."""

import re
from xml.etree import ElementTree

import pytest

from support.made_up import make_comparison, make_results
from triptych.reporting.document import ReportContent
from triptych.reporting.figures import figures
from triptych.reporting.inline import inline_svg
from triptych.reporting.style import looks
from triptych.reporting.web import to_html
from triptych.results.records import Estimate
from triptych.text import formats

SVG = "{http://www.w3.org/2000/svg}"
RESULTS = make_results(seeds=(0, 1), failed=(("lora", 1),))
COMPARISON = make_comparison(RESULTS)
DRAWINGS = figures(RESULTS, COMPARISON)
FILES = figures(RESULTS, COMPARISON.model_copy(update={"source": "files"}))
ALL = DRAWINGS | FILES


def page_svg(name: str) -> ElementTree.Element:
    """A figure as on the page."""
    return ElementTree.fromstring(inline_svg(name, ALL[name]))


def texts(root: ElementTree.Element) -> list[str]:
    """All text in a figure."""
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_figures_that_show_something_are_drawn() -> None:
    """Runs get figures of search, curves, differences, costs, quality against cost and against length; scored files get
    intervals and differences."""
    assert set(DRAWINGS) == {"search", "curves", "differences", "pareto", "cost", "length"}
    assert set(FILES) == {"intervals", "differences"}


@pytest.mark.parametrize("name", ALL)
def test_page_and_print_show_the_same_figure(name: str) -> None:
    """The printed figure and the page's have the same words and numbers in the same order."""
    assert texts(page_svg(name)) == texts(ElementTree.fromstring(ALL[name].svg))


@pytest.mark.parametrize("name", ALL)
def test_a_figure_takes_on_the_colors_of_the_page(name: str) -> None:
    """No ink is black and no background white: both follow the page's light or dark mode."""
    assert not re.search(r"#000000|#ffffff|\bblack\b|\bwhite\b", inline_svg(name, ALL[name]))


@pytest.mark.parametrize("name", ALL)
def test_every_number_to_be_read_lies_on_a_mark(name: str) -> None:
    """A point whose numbers are read aloud lies on a marker, a corner of a line or the end of a bar."""
    root, drawing = page_svg(name), ALL[name]
    width, height = map(float, root.get("viewBox").split()[2:])
    marks = [(float(use.get("x")), float(use.get("y"))) for use in root.iter(f"{SVG}use")]
    for path in root.iter(f"{SVG}path"):
        marks += [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get("d", ""))]
    for series in drawing.series:
        for point in series.points:
            assert 0 <= point.x <= width and 0 <= point.y <= height
            if not series.text.endswith("no training"):  # a line across the whole figure
                near = min(abs(x - point.x) + (0 if name == "cost" else abs(y - point.y)) for x, y in marks)
                assert near < 0.3, (series.text, point)


def test_the_numbers_read_are_those_of_the_tables() -> None:
    """For quality against cost, each method's R-1, interval and training time are as in the tables."""
    for label, row in COMPARISON.rows.items():
        place = list(COMPARISON.rows).index(label)
        first = next(series for series in DRAWINGS["pareto"].series if series.row == place)
        score, interval, *cost = first.points[0].numbers
        assert score == formats.rouge_score(row.rouge1.mean)
        known = f", interval {row.rouge1.low:.2f} to {row.rouge1.high:.2f}" if row.rouge1.low is not None else ""
        assert interval == known
        trained = row.parameters is not None and row.parameters.num_trainable_parameters > 0
        assert cost == ([formats.si(row.cost["train_seconds"])] if trained else [])


def test_what_belongs_to_a_row_is_marked() -> None:
    """Each method has marks and one legend entry that names it."""
    root = page_svg("pareto")
    rows = {int(group.get("data-row")) for group in root.iter(f"{SVG}g") if group.get("data-row")}
    assert rows == set(range(len(COMPARISON.rows)))
    entries = {int(g.get("data-key")): texts(g) for g in root.iter(f"{SVG}g") if g.get("data-key")}
    assert entries == {place: [label] for place, label in enumerate(COMPARISON.rows)}


def test_the_page_holds_the_figures_and_every_reference_is_answered() -> None:
    """Every figure is on the page once; no two elements share an id, and every referenced part exists."""
    page = to_html(ReportContent(RESULTS, COMPARISON)).decode()
    found = re.findall(r'data-figure="(\w+)"[^>]*><svg ', page)
    assert found == list(dict.fromkeys(found)) and set(found) == set(DRAWINGS)
    ids = [own for own in re.findall(r'\bid="([^"]*)"', page) if own.split("-")[0] in found]
    assert len(ids) == len(set(ids))
    asked = {a or b for a, b in re.findall(r'<use [^>]*href="#([\w-]+)"|clip-path="url\(#([\w-]+)\)"', page)}
    assert {own for own in asked if own.split("-")[0] in found} <= set(ids) and len(asked) > 10


def test_names_of_many_rows_keep_apart_in_the_legend() -> None:
    """Two labels shortened to the same name get two entries, each for its own method."""
    labels = ("a" * 20 + "-first-" + "b" * 20, "a" * 20 + "-other-" + "b" * 20)
    results = make_results(labels, kinds=dict.fromkeys(labels, "lora"))
    assert figures(results, make_comparison(results))["pareto"].keys == (0, 1)


def test_a_method_looks_the_same_in_every_report() -> None:
    """A known method has its own color, marker, line and hatch in every report, and its variant too if they are free;
    no two methods look alike."""
    alone, among = looks(["full", "lora"]), looks(["untuned", "ia3", "lora-r4", "lora", "full", "prompt-tuning-50"])
    assert alone["full"] == among["full"] and alone["lora"] == among["lora"] == looks(["lora-r16"])["lora-r16"]
    assert among["prompt-tuning-50"] == looks(["prompt-tuning"])["prompt-tuning"]
    preset = ["untuned", "untuned-chat", "lead-3", "prompt-tuning", "lora", "last-layers", "last-head", "full"]
    for many in (among, looks(preset)):
        for part in ("color", "marker", "line", "hatch"):
            assert len({getattr(look, part) for look in many.values()}) == len(many)


def test_what_is_far_from_the_trained_methods_is_beyond_a_break() -> None:
    """A baseline far above all trained methods does not squeeze them: they still get most of the height."""
    results = make_results(("lead-3", "lora", "full"))
    comparison = make_comparison(results)
    comparison.rows["lead-3"].rouge1 = Estimate(mean=90.0, low=89.0, high=91.0)
    drawing = figures(results, comparison)["pareto"]
    heights = {series.row: series.points[0].y for series in drawing.series}
    assert heights[0] < min(heights[1], heights[2])
    near = figures(results, make_comparison(results))["pareto"]
    assert len(re.findall("axes_", drawing.svg)) > len(re.findall("axes_", near.svg))


def test_the_search_marks_the_rate_that_was_chosen() -> None:
    """Each trial that did not diverge is a point with its loss and rate, and the chosen rate is marked."""
    series = DRAWINGS["search"].series[0]
    assert [point.numbers for point in series.points] == [("3.4000", "0.003"), ("3.1000", "0.01")]


def test_figures_of_many_rows_fit_on_a_page() -> None:
    """With thirty methods no figure is taller than a page allows, and only a few of many pairs are shown."""
    labels = tuple(f"lora-{number}" for number in range(30))
    results = make_results(labels, kinds=dict.fromkeys(labels, "lora"), documents=8)
    drawings = figures(results, make_comparison(results))
    heights = {name: float(ElementTree.fromstring(one.svg).get("viewBox").split()[3]) for name, one in drawings.items()}
    assert heights and all(height <= 72 * 8.6 for height in heights.values()), heights
    assert len(drawings["differences"].labels) == 29


def test_panels_of_differences_show_the_same_pairs() -> None:
    """With too many pairs for one figure, each panel shows all pairs of trained methods and no others."""
    kinds = {"untuned-chat": "untuned", "last-head": "last-layers"}
    labels = ("untuned", "untuned-chat", "lead-3", "prompt-tuning", "lora", "last-layers", "last-head", "full")
    results = make_results(labels, kinds=kinds)
    series = figures(results, make_comparison(results))["differences"].series
    shown = [[one.row for one in series if measure in one.text] for measure in ("R-1", "Test loss")]
    assert shown[0] == shown[1] == list(range(10))


def test_whole_intervals_are_shown() -> None:
    """With one seed, where intervals are no wider than a few differences, they end within their panel."""
    results = make_results()
    root = ElementTree.fromstring(figures(results, make_comparison(results))["differences"].svg)
    panels = [group for group in root.iter(f"{SVG}g") if re.fullmatch(r"axes_\d+", group.get("id", ""))]
    assert len(panels) == 2
    for panel in panels:
        left, right = extent(next(panel.iter(f"{SVG}path")))
        lines = [path for path in panel.iter(f"{SVG}path") if path.get("clip-path")]
        bars = [line for line in lines if "fill: none" in line.get("style")]
        assert bars and all(left <= end <= right for bar in bars for end in extent(bar))


def extent(path: ElementTree.Element) -> tuple[float, float]:
    """The first and the last x of a path."""
    numbers = [float(x) for x in re.findall(r"[ML] ?(-?[\d.]+) -?[\d.]+", path.get("d"))]
    return min(numbers), max(numbers)
