"""The page in a real browser: by mouse and keyboard, wide and on a phone, without any network."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.browser import FLAGS
from triptych import cli
from triptych.baselines.lead import Lead3
from triptych.config.schema import Suite
from triptych.run.entries import SuiteEntry
from triptych.use.page import build_page
from triptych.use.page_server import serving
from triptych.use.playground import Playground
from triptych.use.summarizers import Summary, TrainedBaseline

pytest.importorskip("gradio", reason="the extra `play` is absent")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is absent")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent")]
SMALL = [
    "limits.train_documents=8",
    "limits.validation_documents=2",
    "limits.test_documents=4",
    "training.max_epochs=1",
    "decoding.max_new_tokens=20",
    "decoding.num_beams=2",
]
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """The page of a small suite, served on this machine."""
    place = tmp_path_factory.mktemp("play")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_CACHE", str(place / "cache"))
        out = place / "out"
        assert cli.main(["compare", "--methods", "untuned,lead-3,lora", "--out", str(out), "--set", *SMALL]) == 0
        page = build_page(Playground.open(out, device="cpu"))
        with serving(page, "127.0.0.1", 0, out) as address:
            yield address


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Headless Chromium, as Debian packages it."""
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def open_page(browser, address: str, width: int = 1200, scheme: str = "light"):
    """Open the page; requests to other hosts are blocked and listed in `page.abroad`."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.abroad, page.complaints = [], []

    def guard(route) -> None:
        if urlsplit(route.request.url).hostname in ("127.0.0.1", "localhost"):
            route.continue_()
        else:
            page.abroad.append(route.request.url)
            route.abort()

    context.route(lambda url: not url.startswith(("data:", "blob:")), guard)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
    page.goto(address)
    page.locator("#article textarea").wait_for(timeout=PATIENCE)
    return page


def finish(page) -> None:
    """Check that no other host was contacted, and that no script of a text ran and nothing broke."""
    assert page.abroad == [] and page.complaints == []
    page.context.close()


def results(page, rows: int = 3) -> list[str]:
    """The contents of the methods' cards once all are done."""
    page.wait_for_function(
        f"() => document.querySelectorAll('#results .row .summary').length == {rows}", timeout=PATIENCE
    )
    return page.locator("#results .row").all_inner_texts()


def keep_picture(page, name: str) -> None:
    """Save a screenshot if a folder for it is named."""
    if folder := os.environ.get("TRIPTYCH_PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


ARTICLE = "The council of Tinwater met on Monday. It agreed to build a bridge over the river. Work begins in May."


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paste_run_compare(browser, address, width, scheme):
    """A pasted article gives every method's summary side by side, with seconds, words, scores and marks; the page
    fits."""
    page = open_page(browser, address, width, scheme)
    page.fill("#article textarea", ARTICLE)
    page.fill("#reference textarea", "A bridge is built.")
    page.click("#run")
    cards = results(page)
    keep_picture(page, f"play-{width}-{scheme}")
    assert [card.split("\n")[0] for card in cards] == ["untuned", "lead-3", "lora"]
    assert all(" s ·" in card and "words" in card and "R-Lsum" in card for card in cards)
    # a summary has its sentences on lines, an article may not
    marked = page.locator("#results mark").first.inner_text()
    assert len(marked.split()) >= 4 and " ".join(marked.split()) in ARTICLE
    tops = [page.locator("#results .row").nth(place).bounding_box()["y"] for place in range(3)]
    assert len(set(tops)) == (3 if width == 390 else 1)  # under each other on a phone, beside each other elsewhere
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.get_by_role("status").filter(has_text="3 of 3 summaries written").is_visible()
    finish(page)


def test_by_keyboard_alone(browser, address):
    """Tab reaches article, reference, each method, the further choices and the button in this order; Space deselects a
    method, and Enter on the button summarizes."""
    page = open_page(browser, address)
    page.locator("#article textarea").focus()
    page.keyboard.type(ARTICLE)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#reference') !== null")
    for _ in range(3):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#rows') !== null")
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#more') !== null")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "run"
    page.keyboard.press("Enter")
    assert len(results(page)) == 3
    finish(page)


def test_a_test_document_is_picked(browser, address):
    """A document chosen from the list fills in article and reference; another article is not scored against that
    reference."""
    page = open_page(browser, address)
    page.get_by_label("Pick a test document").click()
    page.get_by_role("option").first.click()
    page.wait_for_function("() => document.querySelector('#article textarea').value.length > 100", timeout=PATIENCE)
    assert page.locator("#reference textarea").input_value()
    page.fill("#article textarea", ARTICLE)
    page.click("#run")
    assert not any("R-Lsum" in card for card in results(page))
    assert "not to this article: no scores" in page.locator("#results").inner_text()
    finish(page)


def wait_until_still(page) -> None:
    """Wait until no fade is in progress: colors have less contrast during one."""
    page.wait_for_function("() => document.getAnimations().every(one => one.playState !== 'running')", timeout=PATIENCE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_summaries_can_be_read_by_everyone(browser, address, scheme):
    """In summaries and messages on the page, axe-core finds no fault of contrast, roles or structure."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is absent").Axe()
    page = open_page(browser, address, 390, scheme)
    page.click("#run")
    page.get_by_text("There is no article yet").wait_for(timeout=PATIENCE)
    wait_until_still(page)
    assert axe.run(page, context="#results").response["violations"] == []
    page.fill("#article textarea", ARTICLE)
    page.click("#run")
    assert len(results(page)) == 3
    wait_until_still(page)
    assert axe.run(page, context="#results").response["violations"] == []
    finish(page)


def test_empty_and_huge_input_are_met_with_a_message(browser, address):
    """Empty input and a megabyte of text give a message; the page keeps working."""
    page = open_page(browser, address)
    page.click("#run")
    page.get_by_text("There is no article yet").wait_for(timeout=PATIENCE)
    keep_picture(page, "play-empty")
    page.fill("#article textarea", "word " * 200_000)
    page.click("#run")
    page.get_by_text("200,000 is the most").wait_for(timeout=PATIENCE)
    page.fill("#article textarea", ARTICLE)
    page.click("#run")
    assert len(results(page)) == 3
    finish(page)


def test_markup_stays_text(browser, address):
    """An article that is a script, or a template, is summarized as text and not executed."""
    page = open_page(browser, address)
    page.fill(
        "#article textarea", "<script>alert(1)</script> ${alert(2)} {{alert(3)}} <img src=x onerror=alert(4)>. Two."
    )
    page.click("#run")
    assert "<script>alert(1)</script>" in "".join(results(page))
    assert page.locator("#results script, #results img").count() == 0
    finish(page)


def test_two_users_at_once(browser, address):
    """Two users who ask at the same time each get their own answer."""
    pages = [open_page(browser, address), open_page(browser, address)]
    for number, page in enumerate(pages):
        page.fill("#article textarea", f"User {number} wrote this sentence about a town. It has a second one.")
    for page in pages:
        page.click("#run")
    for number, page in enumerate(pages):
        lead = results(page)[1]
        assert f"User {number} wrote" in lead and f"User {1 - number}" not in lead
        finish(page)


def test_rows_beams_and_length_are_chosen(browser, address):
    """Only selected methods answer; a summary with other decoding settings is marked as such."""
    page = open_page(browser, address)
    page.fill("#article textarea", ARTICLE)
    page.get_by_label("untuned").uncheck()
    page.get_by_text("Seed, beams and length").click()
    page.locator("#length input[type=number]").fill("5")
    page.locator("#beams input[type=number]").fill("3")
    page.locator("#beams input[type=number]").press("Tab")
    page.click("#run")
    cards = results(page, 2)
    assert [card.split("\n")[0] for card in cards] == ["lead-3", "lora"] and "cut off at 5 tokens" in cards[1]
    assert page.get_by_text("Decoded differently than in the comparison").is_visible()
    keep_picture(page, "play-chosen")
    finish(page)


def test_a_seed_is_chosen(browser):
    """If runs of several seeds have finished, one can be chosen, and its runs answer."""

    def load(folder: Path) -> TrainedBaseline:
        row = TrainedBaseline(SuiteEntry(folder.parent.name, "lead-3", Lead3()), Lead3(), folder, Suite())
        row.stream = lambda documents: iter([(0, Summary(f"Written under seed {folder.name}."))])
        return row

    folders = {(label, seed): Path(label) / str(seed) for label in ("a", "b") for seed in (0, 1)}
    first = [load(folders[label, 0]) for label in ("a", "b")]
    playground = Playground(first, [], "seeds", folders=folders, load=load)
    with serving(build_page(playground), "127.0.0.1", 0) as address:
        page = open_page(browser, address)
        page.fill("#article textarea", ARTICLE)
        page.click("#run")
        assert all("under seed 0" in card for card in results(page, 2))
        page.get_by_text("Seed, beams and length").click()
        page.locator("#seed input").click()
        keep_picture(page, "play-seeds")
        page.get_by_role("option", name="1", exact=True).click()
        page.click("#run")
        page.locator("#results .summary", has_text="under seed 1").first.wait_for(timeout=PATIENCE)
        assert all("under seed 1" in card for card in results(page, 2))
        finish(page)


def slow_row(label: str) -> TrainedBaseline:
    """A method without a model that takes a second per summary."""
    row = TrainedBaseline(SuiteEntry(label, "lead-3", Lead3()), Lead3(), Path(label), Suite())

    def stream(documents):
        time.sleep(1)
        yield 0, Summary("One sentence.")

    row.stream = stream
    return row


def test_a_run_is_stopped_and_the_page_cleared(browser):
    """Stop keeps what is written, marks the rest as stopped, and nothing else arrives; Clear empties the form, and the
    page works afterwards."""
    playground = Playground([slow_row(label) for label in ("a", "b", "c")], [], "slow")
    with serving(build_page(playground), "127.0.0.1", 0) as address:
        page = open_page(browser, address)
        page.fill("#article textarea", ARTICLE)
        page.click("#run")
        page.locator("#results .summary").first.wait_for(timeout=PATIENCE)
        page.click("#stop")
        page.locator("#results .facts", has_text="stopped").first.wait_for(timeout=PATIENCE)
        assert "then stopped" in page.get_by_role("status").first.inner_text()
        written = page.locator("#results .summary").count()
        page.wait_for_timeout(2500)
        assert page.locator("#results .summary").count() == written < 3
        page.click("#clear")
        page.wait_for_function("() => document.querySelector('#article textarea').value === ''", timeout=PATIENCE)
        page.locator("#results .row").first.wait_for(state="detached", timeout=PATIENCE)
        page.fill("#article textarea", ARTICLE)
        page.click("#run")
        assert len(results(page)) == 3
        finish(page)


def test_a_summary_is_copied(browser, address):
    """The button of a card copies its summary, and nothing else, to the clipboard."""
    page = open_page(browser, address)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("#article textarea", ARTICLE)
    page.click("#run")
    results(page)
    card = page.locator("#results .row", has_text="lead-3")
    card.get_by_role("button", name="Copy the summary of lead-3").click()
    card.get_by_text("Copied").wait_for(timeout=PATIENCE)
    assert page.evaluate("navigator.clipboard.readText()") == card.locator(".summary").text_content()
    finish(page)


def test_a_card_shows_the_article_with_what_was_used(browser, address):
    """Expanded, a card shows the article with what the summary copied, and words that the article lacks are underlined
    in the summary; a sample can be chosen as the article."""
    page = open_page(browser, address)
    page.get_by_label("Pick a test document").click()
    page.get_by_role("option", name="Sample, a bridge").click()
    page.wait_for_function("() => document.querySelector('#article textarea').value.length > 100", timeout=PATIENCE)
    page.click("#run")
    results(page)
    card = page.locator("#results .row", has_text="lead-3")
    card.locator("details summary").click()
    assert card.locator(".source").is_visible() and "Tinwater" in card.locator(".source mark").first.inner_text()
    assert card.locator(".added").count() == 0
    assert "Harrow End" in card.locator(".source").inner_text()
    finish(page)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_comparison_is_a_second_tab(browser, address, width, scheme):
    """The second tab has the verdict, a table with every method, figures, and a link to the report, which opens and
    works offline; the page fits."""
    page = open_page(browser, address, width, scheme)
    page.get_by_role("tab", name="Comparison").click()
    page.locator("#comparison table").first.wait_for(timeout=PATIENCE)
    keep_picture(page, f"play-comparison-{width}-{scheme}")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is absent").Axe()
    page.wait_for_timeout(500)  # the tab fades in
    assert axe.run(page, context="#comparison").response["violations"] == []
    first = page.locator("#comparison table").first
    assert [each.strip() for each in first.locator("tbody th").all_inner_texts()] == ["untuned", "lead-3", "lora"]
    assert page.locator("#comparison figure svg").count() >= 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="The whole report").click()
    report = opened.value
    report.get_by_role("heading").first.wait_for(timeout=PATIENCE)
    assert report.url.endswith("/report.html")
    finish(page)
