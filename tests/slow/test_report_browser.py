"""The web page in a real browser: it works by mouse and keyboard, in light and dark, and runs no script from a
record."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.browser import CHROMIUM, FLAGS
from support.made_up import hostile_results, make_comparison, make_results
from support.paths import CHECKOUT
from triptych.reporting import write_html

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is absent")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent")]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Headless Chromium, as Debian packages it."""
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A page with two seeds, one of them failed."""
    results = make_results(seeds=(0, 1), failed=(("lora", 1),))
    path = tmp_path_factory.mktemp("web") / "report.html"
    write_html(results, make_comparison(results), path)
    return path


def open_page(browser, path: Path, width: int = 1200, scheme: str = "light"):
    """Open the page without network; errors and warnings are listed in `page.complaints`."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1200, "dark"), (1200, "light")])
def test_page_is_accessible_and_fits(browser, report: Path, width: int, scheme: str) -> None:
    """No console message, no sideways scrolling, and axe-core finds nothing: labels, contrast, landmarks, keyboard."""
    page = open_page(browser, report, width, scheme)
    assert page.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is absent")
    violations = axe.Axe().run(page).response["violations"]
    assert [(violation["id"], violation["nodes"][0]["html"][:200]) for violation in violations] == []
    page.context.close()


@pytest.mark.parametrize(
    "name", sorted(str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob("docs/**/report.html"))
)
def test_published_pages_fit_a_telephone(browser, name: str) -> None:
    """At 390 pixels no page in docs is wider than the screen, whatever the words in its title."""
    page = open_page(browser, CHECKOUT / name, 390)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.context.close()


def test_tables_of_the_text_fit_a_small_screen(browser) -> None:
    """At 1,100 pixels no table in the example's text has to be scrolled; the complete tables, opened on demand, may."""
    page = open_page(browser, CHECKOUT / "docs/example/report.html", 1100)
    wide = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(e => !e.closest('details') && e.scrollWidth > e.clientWidth)"
        ".map(e => e.getAttribute('aria-label'))"
    )
    assert wide == []
    page.context.close()


def test_table_sorts_by_keyboard(browser, report: Path) -> None:
    """Enter on a column heading sorts by number, a second time in reverse; missing values stay last."""
    page = open_page(browser, report)
    head = page.locator("table.sortable", has=page.get_by_role("button", name="Test loss")).first
    column = head.get_by_role("button", name="Test loss")

    def order() -> list[str]:
        return [text.split("\n")[0] for text in head.locator("tbody th").all_inner_texts()]

    column.focus()
    page.keyboard.press("Enter")
    assert order() == ["full", "lora", "last-layers", "prompt-tuning", "untuned", "lead-3"]
    page.keyboard.press("Enter")
    assert order() == ["untuned", "prompt-tuning", "last-layers", "lora", "full", "lead-3"]
    assert head.locator("th[aria-sort=descending]").count() == 1
    page.context.close()


def test_predictions_are_browsed_by_keyboard(browser, report: Path) -> None:
    """Arrow keys choose a document; its reference, every run's summary and their shared words are shown."""
    page = open_page(browser, report)
    page.locator("#documents").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert "doc-0002" in page.locator("#documents [aria-selected=true]").inner_text()
    detail = page.locator("#detail").inner_text()
    assert "Reference of doc-0002" in detail and "full, seed 1" in detail and "lead-3, seed 0" in detail
    reference = set(page.locator("#detail p").first.inner_text().lower().split())
    marked = {text.lower() for text in page.locator("#detail mark").all_inner_texts()}
    assert marked and marked <= reference
    page.keyboard.press("End")
    assert "doc-0023" in page.locator("#detail").inner_text()
    page.context.close()


def test_predictions_sort_by_difference(browser, report: Path) -> None:
    """Sorted by the difference of two methods, the list starts where the first is furthest ahead."""
    page = open_page(browser, report)
    page.select_option("#order", label="a better than b")
    texts = page.locator("#documents small").all_inner_texts()
    values = [float(text.rsplit(": ", 1)[1].replace("−", "-")) for text in texts]
    assert len(values) == 24 and values == sorted(values, reverse=True)
    page.fill("#find", "doc-0007")
    assert page.locator("#documents li").count() == 1
    page.context.close()


def test_figures_answer_to_keyboard_and_keys(browser, report: Path) -> None:
    """Arrow keys and the pointer read a figure's points; a click in the legend hides a method and shows it again."""
    page = open_page(browser, report)
    figure = page.locator("#plot-pareto")
    figure.locator("[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    assert "untuned: R-1" in figure.locator(".readout").inner_text()
    displays = "marks => [...new Set(marks.map(mark => getComputedStyle(mark).display))]"
    assert figure.locator("[data-row='0']").evaluate_all(displays) == ["inline"]
    figure.get_by_role("button", name="untuned").click()
    assert figure.locator("[data-row='0']").evaluate_all(displays) == ["none"]
    assert figure.locator("[data-row='1']").evaluate_all(displays) == ["inline"]
    figure.locator("[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    assert "lead-3: R-1" in figure.locator(".readout").inner_text()
    figure.get_by_role("button", name="untuned").press("Enter")
    assert figure.locator("[data-row='0']").evaluate_all(displays) == ["inline"]
    figure.locator("[data-row='3'] use").last.hover()
    assert figure.locator(".readout").inner_text().startswith("lora: R-1")
    page.context.close()


def test_script_in_a_prediction_stays_text(browser, tmp_path: Path) -> None:
    """A summary, a name or an id that is a script is shown as text and does not run."""
    write_html(*hostile_results(), tmp_path / "report.html")
    page = open_page(browser, tmp_path / "report.html")
    assert page.complaints == []
    assert "<script>alert(1)</script>" in page.locator("#detail").inner_text()
    assert page.locator("#detail script").count() == 0
    page.context.close()
