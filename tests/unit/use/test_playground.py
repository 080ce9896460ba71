"""The playground page: its answers, and that everything shown is text. Browser tests are in
test_playground_browser.py."""

import re
import socket
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.made_up import make_comparison, make_results
from triptych import cli
from triptych.baselines.lead import Lead3
from triptych.config.schema import Suite
from triptych.errors import ConfigError
from triptych.metrics.text_shape import copied_spans
from triptych.run.entries import SuiteEntry
from triptych.use.page import build_page, comparison_of
from triptych.use.page_html import show, show_comparison, show_message
from triptych.use.page_server import MAX_REQUEST, allowed_hosts, application, serving
from triptych.use.playground import (
    MAX_BEAMS,
    MAX_CHARACTERS,
    MAX_SHOWN,
    Choice,
    Document,
    Playground,
    _most_words,
    sample_documents,
)
from triptych.use.summarizers import Summary, TrainedBaseline

ARTICLE = "The council met on Monday. It agreed to build a bridge. Work begins in May. Nobody voted against the plan."
HOSTILE = "<script>alert(1)</script> ${alert(2)} {{alert(3)}} <img src=x onerror=alert(4)>. Second & last."


@pytest.fixture
def playground() -> Playground:
    """Two methods without a model."""
    rows = [SuiteEntry("lead-3", "lead-3", Lead3()), SuiteEntry("<b>mine</b>", "lead-3", Lead3())]
    loaded = [TrainedBaseline(row, Lead3(), Path("run"), Suite()) for row in rows]
    return Playground(loaded, [Document("d1", ARTICLE, "A bridge.")], "demo", notice="The model is synthetic.")


def test_rows_answer_one_after_the_other(playground):
    """Every method is listed at once and filled in when it is done, with seconds, words, ROUGE and what it copied."""
    states = list(playground.answer(ARTICLE, "The council agreed to build a bridge."))
    assert [sum(answer.text is not None for answer in state) for state in states] == [0, 1, 2]
    done = states[-1][0]
    assert done.label == "lead-3" and done.num_words == 15 and done.seconds >= 0
    assert done.scores["rouge1"] > 50 and [done.text[a:b] for a, b in done.copied] == [done.text.rstrip(".")]
    assert list(playground.answer(ARTICLE))[-1][0].scores is None


def test_an_article_shows_what_was_used_of_it(playground):
    """What a summary copied, longer words it shares, and its words missing from the article are found; an article too
    long to show is truncated."""
    summary = Summary("The council met on Monday. Nobody voted for Tinwater.")
    answer = playground._judge("mine", summary, ARTICLE, "", 0.0)
    assert [ARTICLE[begin:end] for begin, end in answer.used] == ["The council met on Monday"]
    assert [ARTICLE[begin:end] for begin, end in answer.echoed] == ["council", "Monday", "Nobody", "voted"]
    assert [summary.text[begin:end] for begin, end in answer.added] == ["for", "Tinwater"]
    page = show([answer], "", ARTICLE)
    assert '<span class="added">Tinwater</span>' in page and '<span class="echoed">Nobody</span>' in page
    assert page.count("<mark>The council met on Monday</mark>") == 2
    long = ARTICLE + "word " * MAX_SHOWN + "council"
    page = show([playground._judge("mine", summary, long, "", 0.0)], "", long)
    assert len(page) < 2 * MAX_SHOWN and f"the first {MAX_SHOWN:,} characters" in page


WRONG = [
    Choice(labels=()),
    Choice(labels=("lead-3", "nosuch")),
    Choice(seed=7),
    Choice(num_beams=0),
    Choice(num_beams=MAX_BEAMS + 1),
    Choice(max_new_tokens=0),
    Choice(max_new_tokens=10_000),
]


@pytest.mark.parametrize("choice", WRONG, ids=str)
def test_a_choice_that_is_not_offered_is_met_with_a_message(playground, choice):
    """No method, an unknown method or seed, and beams or lengths out of bounds are refused before any method works."""
    with pytest.raises(ConfigError, match=r"Choose at least one|No run has finished|Choose from 1 to|may have from"):
        next(playground.answer(ARTICLE, "", choice))


def test_rows_and_seeds_are_chosen():
    """Only the requested methods answer, in the suite's order; a seed's run replaces the method's other one in memory,
    and a method without that seed shows its first."""
    folders = {(label, seed): Path(f"{label}/{seed}") for label, seed in (("a", 0), ("a", 1), ("b", 0))}
    loaded = []

    def load(folder: Path) -> TrainedBaseline:
        loaded.append(folder)
        entry = SuiteEntry(folder.parent.name, "lead-3", Lead3())
        return TrainedBaseline(entry, Lead3(), folder, Suite())

    first = [load(folders["a", 0]), load(folders["b", 0])]
    playground = Playground(first, [], "demo", folders=folders, load=load)
    assert playground.labels == ["a", "b"] and playground.seeds == [0, 1]
    assert [answer.label for answer in list(playground.answer(ARTICLE, "", Choice(("b",))))[-1]] == ["b"]
    assert [answer.label for answer in list(playground.answer(ARTICLE, "", Choice(("b", "a"), 1)))[-1]] == ["a", "b"]
    assert loaded[2:] == [folders["a", 1]]
    list(playground.answer(ARTICLE))
    assert loaded[3:] == [folders["a", 0]]


def test_one_run_works_at_a_time(playground):
    """A stopped run ends before anything else begins: a model never runs twice at once."""
    at_work, most = [], []

    def stream(documents):
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.02)
        at_work.pop()
        yield 0, Summary("One.")

    for trained in playground._loaded.values():
        trained.stream = stream
    readers = [threading.Thread(target=lambda: list(playground.answer(ARTICLE))) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(most) == 8 and max(most) == 1


def test_samples_have_no_reference():
    """Each sample is an article of several sentences that can be picked, without a reference summary."""
    for document in sample_documents():
        assert document.id.startswith("Sample, ") and 400 < len(document.text) < 1000 and document.reference == ""
        assert len(Lead3().predict([document.text])[0]) < len(document.text) / 1.5


@pytest.mark.parametrize("text", ["", " \n", "a" * (MAX_CHARACTERS + 1), "a\0b", "a\ud800b"])
def test_what_is_no_article_is_met_with_a_message(playground, text):
    """Empty, overlong, or damaged text is refused before any method works, with a readable message."""
    with pytest.raises(ConfigError, match=r"no article yet|is the most|is damaged"):
        next(playground.answer(text))


def test_whatever_was_generated_is_text(playground):
    """Markup in an article, a summary, a label or a message is shown, never interpreted."""
    page = show(list(playground.answer(HOSTILE))[-1], HOSTILE, HOSTILE) + show_message(HOSTILE)
    tags = set(re.findall(r"<(\w+)", page))
    assert tags == {"ul", "li", "h2", "p", "mark", "span", "div", "button", "details", "summary"}
    assert "&lt;script&gt;" in page and "&lt;b&gt;mine" in page
    results = make_results(model=HOSTILE, data=f"{HOSTILE} ")
    comparison = make_comparison(results).model_copy(update={"verdict": HOSTILE, "flags": [HOSTILE], "subset": HOSTILE})
    page = show_comparison(results, comparison)
    assert not set(re.findall(r"<(\w+)", page)) & {"script", "img", "a"} and "&lt;script&gt;" in page


def test_copied_spans_are_what_both_say():
    """A run of four words or more is marked from its first to its last letter, ignoring case; shorter ones are not."""
    text = "Today the Council MET on Monday, and it agreed."
    assert [text[a:b] for a, b in copied_spans(text, ARTICLE, 4)] == ["the Council MET on Monday"]
    assert copied_spans("İt agreed to build a bridge", ARTICLE, 4) == [(3, 27)]
    assert copied_spans("", ARTICLE, 4) == copied_spans("It agreed", ARTICLE, 4) == []


def test_without_gradio_the_extra_is_named(tmp_path, capsys, monkeypatch):
    """Without gradio, `play` ends with status 2 and says how to install it."""
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["play", str(tmp_path)]) == 2
    assert "triptych[play]" in capsys.readouterr().err


def test_the_longest_texts_are_answered_without_scores():
    """Article and reference of the maximum length, copied completely, get an answer that says it is too long to score,
    and no table."""
    text = "word " * (MAX_CHARACTERS // 5)
    rows = [TrainedBaseline(SuiteEntry("lead-3", "lead-3", Lead3()), Lead3(), Path("run"), Suite())]
    tracemalloc.start()
    (answer,) = list(Playground(rows, [], "demo").answer(text, text))[-1]
    assert answer.scores is None and "too long to score" in answer.notes and answer.num_words == 40_000
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


@pytest.mark.parametrize(("text", "words"), [("one two_three, 4", 4), ("日本語", 3), ("", 0), ("É a", 2)])
def test_words_are_counted_as_the_most_that_can_be(text, words):
    """Letters of scripts without spaces count as one word each, so the limit holds however they are split."""
    assert _most_words(text) == words


# The real application, without a browser


@pytest.fixture
def ask(playground):
    """A client of the page's application, with the address that a browser on this machine sends."""
    pytest.importorskip("gradio", reason="the extra `play` is absent")
    testclient = pytest.importorskip("starlette.testclient", reason="it needs httpx")
    playground.title = HOSTILE
    with testclient.TestClient(
        application(build_page(playground), "127.0.0.1"), base_url="http://127.0.0.1:7860"
    ) as client:
        yield client


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860"])
def test_the_page_answers_by_this_machines_names(ask, host):
    """The page is served as localhost, 127.0.0.1 and [::1]."""
    assert ask.get("/", headers={"host": host}).status_code == 200
    assert ask.get("/config", headers={"host": host, "origin": f"http://{host}".lower()}).status_code == 200


def test_all_that_the_page_asks_goes_through_the_queue(playground):
    """The page posts only to the queue, where the server accepts it."""
    pytest.importorskip("gradio", reason="the extra `play` is absent")
    functions = build_page(playground).fns.values()
    asked = [function for function in functions if function.fn is not None]
    assert asked and all(function.queue for function in asked)
    assert all(function.cancels or function.js for function in functions if function.fn is None)  # nothing is posted


FOREIGN = ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "192.168.0.9", "localhost.", ""]


@pytest.mark.parametrize("host", FOREIGN)
def test_another_name_for_this_machine_is_refused(ask, host):
    """A foreign Host, as in DNS rebinding, gets nothing: no page, no configuration, no permission for its origin."""
    for method, path in (("GET", "/"), ("GET", "/config"), ("POST", "/gradio_api/queue/join"), ("OPTIONS", "/config")):
        headers = {"host": host, "origin": f"http://{host}", "access-control-request-method": "GET"}
        answer = ask.request(method, path, headers=headers)
        assert answer.status_code == 400 and "access-control-allow-origin" not in answer.headers, (method, path)
        assert ARTICLE[:10] not in answer.text


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost.evil.example", "file://", "http://[", "http://[::2]"]
)
@pytest.mark.parametrize("host", ["127.0.0.1:7860", "[::1]:7860"])
def test_another_sites_page_is_refused(ask, host, origin):
    """A script from another site may not send requests, whichever of this machine's names it uses."""
    for method, path in (("GET", "/config"), ("POST", "/gradio_api/queue/join"), ("OPTIONS", "/config")):
        headers = {"host": host, "origin": origin, "access-control-request-method": "GET"}
        answer = ask.request(method, path, headers=headers)
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers, (method, path)


def test_nothing_is_uploaded_or_kept(ask):
    """Files of any size, recordings and links that would be stored are refused, and no upload folder is created."""
    folder = Path(ask.app.routes[-1].app.uploaded_file_dir)
    before = set(folder.rglob("*")) if folder.exists() else set()
    for path in (
        "/gradio_api/upload",
        "/gradio_api/upload/",
        "/gradio_api/process_recording",
        "/gradio_api/component_server",
    ):
        assert ask.post(path, files={"files": ("a.txt", b"a")}).status_code == 403, path
    assert ask.get("/gradio_api/deep_link", params={"session_hash": "x"}).status_code == 403
    assert (set(folder.rglob("*")) if folder.exists() else set()) == before


def test_a_large_request_is_refused(ask):
    """A body larger than an article and a reference can need is refused, whether its length is given or not."""
    assert ask.post("/gradio_api/queue/join", content=b"x" * (MAX_REQUEST + 1)).status_code == 413
    assert ask.post("/gradio_api/queue/join", content=iter([b"x" * 500_000] * 11)).status_code == 413


def test_an_article_is_answered_through_the_application(ask):
    """The button's request is answered with the methods' summaries as text."""
    config = ask.get("/config").json()
    run = next(each["id"] for each in config["dependencies"] if len(each["inputs"]) == 7)
    data = [ARTICLE, "", None, ["lead-3", "<b>mine</b>"], None, 1, 1]
    joined = ask.post("/gradio_api/queue/join", json={"data": data, "fn_index": run, "session_hash": "s"})
    assert joined.status_code == 200
    text = ask.get("/gradio_api/queue/data", params={"session_hash": "s"}).text
    assert "2 of 2 summaries written" in text and "It agreed to build a bridge" in text


def test_names_are_text_in_the_application(ask):
    """A suite's name, whatever it contains, is escaped in an HTML component; no component reads it as Markdown."""
    page, config = ask.get("/").text, ask.get("/config").json()
    named = [each for each in config["components"] if "alert(1)" in str(each["props"])]
    assert [each["type"] for each in named] == ["html"] and "<img src=x" not in named[0]["props"]["value"]
    assert "<script>alert(1)" not in page and "<img src=x" not in page
    assert not any(each["type"] == "markdown" for each in config["components"])


def test_the_comparison_is_made_once_and_links_to_what_is_there(playground, tmp_path, monkeypatch):
    """The second tab links exactly to the existing reports; a folder without results gives a message, and the result is
    kept."""
    playground.out = tmp_path
    comparison = comparison_of(playground)
    assert "message" in comparison() and "suite.json" in comparison()
    results = make_results()
    monkeypatch.setattr("triptych.use.page.read_results", lambda out, partial: results)
    (tmp_path / "report.pdf").write_text("pdf")
    shown = comparison()
    assert 'href="report.pdf"' in shown and "report.html" not in shown and shown.count("<svg") >= 2
    assert comparison() is shown


def test_reports_are_served_and_confined(playground, tmp_path):
    """Only reports of the results folder are served, by name, as pages without the right to make requests; a missing
    one, and a link out of the folder, are not."""
    pytest.importorskip("gradio", reason="the extra `play` is absent")
    testclient = pytest.importorskip("starlette.testclient", reason="it needs httpx")
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("<h1>Report</h1>")
    (tmp_path / "secret.pdf").write_text("secret")
    (out / "report.pdf").symlink_to(tmp_path / "secret.pdf")
    (out / "suite.json").write_text("{}")
    app = application(build_page(playground), "127.0.0.1", out)
    with testclient.TestClient(app, base_url="http://127.0.0.1:7860") as client:
        answer = client.get("/report.html")
        assert answer.text == "<h1>Report</h1>"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("sandbox ") and "default-src 'none'" in policy and "allow-same-origin" not in policy
        assert client.get("/report.pdf").status_code == 404
        assert "methods" not in client.get("/suite.json").text
        assert client.get("/report.html", headers={"host": "evil.example"}).status_code == 400


def test_the_application_names_no_other_machine(ask):
    """Neither the page nor its style loads a file from elsewhere; links that are only shown and namespaces do not
    count."""
    loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="([^"]*)"', ask.get("/").text)
    assert loaded and not [address for address in loaded if re.match(r"(https?:)?//", address)]
    assert "url(http" not in ask.get("/theme.css").text


@pytest.mark.parametrize(
    ("host", "there", "absent"),
    [
        ("127.0.0.1", ["localhost", "127.0.0.1", "[::1]"], [socket.gethostname()]),
        ("192.168.0.9", ["localhost", "192.168.0.9"], ["192.168.0.8"]),
        ("fe80::1", ["[fe80::1]"], ["fe80::1"]),
        ("Box.Example", ["box.example"], ["example"]),
        ("0.0.0.0", ["localhost", "127.0.0.1", socket.gethostname()], ["0.0.0.0", "evil.example"]),
        ("::", ["[::1]", socket.gethostname()], ["evil.example"]),
        ("*", ["localhost"], ["*"]),
    ],
)
def test_allowed_hosts_are_this_machines(host, there, absent):
    """They are its local names and the host given by the user; for all addresses, also the machine's name and
    addresses."""
    hosts = allowed_hosts(host)
    assert set(there) <= set(hosts) and not set(absent) & set(hosts)


def test_a_page_is_served_and_stops(playground):
    """The page answers at the given address, the port is free afterwards, and a port in use gives a message."""
    pytest.importorskip("gradio", reason="the extra `play` is absent")
    with serving(build_page(playground), "127.0.0.1", 0) as address:
        port = int(address.rpartition(":")[2])
        assert urlopen(address).status == 200
        with pytest.raises(ConfigError, match="--port"), serving(build_page(playground), "127.0.0.1", port):
            pass
    with socket.create_server(("127.0.0.1", port)):
        pass
