"""The page to try it: what it answers, and that what it shows is text. The browser's part is in
test_playground_browser.py."""

import re
import socket
import sys
import tracemalloc
from pathlib import Path
from urllib.request import urlopen

import pytest

from triptych import cli
from triptych.baselines.lead import Lead3
from triptych.config.schema import Suite
from triptych.errors import ConfigError
from triptych.metrics.text_shape import copied_spans
from triptych.run.entries import SuiteEntry
from triptych.use.page import build_page, show, show_message
from triptych.use.page_server import MAX_REQUEST, allowed_hosts, application, serving
from triptych.use.playground import MAX_CHARACTERS, Document, Playground, _most_words
from triptych.use.summarizers import TrainedBaseline

ARTICLE = "The council met on Monday. It agreed to build a bridge. Work begins in May. Nobody voted against the plan."
HOSTILE = "<script>alert(1)</script> ${alert(2)} {{alert(3)}} <img src=x onerror=alert(4)>. Second & last."


@pytest.fixture
def playground() -> Playground:
    """Two rows without a model."""
    rows = [SuiteEntry("lead-3", "lead-3", Lead3()), SuiteEntry("<b>mine</b>", "lead-3", Lead3())]
    loaded = [TrainedBaseline(row, Lead3(), Path("run"), Suite()) for row in rows]
    return Playground(loaded, [Document("d1", ARTICLE, "A bridge.")], "demo", synthetic=True)


def test_rows_answer_one_after_the_other(playground):
    """Every row stands there at once and is filled in when it is done, with seconds, words, ROUGE and what it
    copied."""
    states = list(playground.answer(ARTICLE, "The council agreed to build a bridge."))
    assert [sum(answer.text is not None for answer in state) for state in states] == [0, 1, 2]
    done = states[-1][0]
    assert done.label == "lead-3" and done.num_words == 15 and done.seconds >= 0
    assert done.scores["rouge1"] > 50 and [done.text[a:b] for a, b in done.copied] == [done.text.rstrip(".")]
    assert list(playground.answer(ARTICLE))[-1][0].scores is None


@pytest.mark.parametrize("text", ["", " \n", "a" * (MAX_CHARACTERS + 1), "a\0b", "a\ud800b"])
def test_what_is_no_article_is_met_with_a_message(playground, text):
    """Nothing, too much, or damaged text is refused before any row works, with words for its reader."""
    with pytest.raises(ConfigError, match=r"no article yet|is the most|is damaged"):
        next(playground.answer(text))


def test_whatever_was_generated_is_text(playground):
    """Markup in an article, a summary, a label or a message is shown, never interpreted."""
    page = show(list(playground.answer(HOSTILE))[-1]) + show_message(HOSTILE)
    tags = set(re.findall(r"<(\w+)", page))
    assert tags == {"ul", "li", "h2", "p", "mark", "span"} and "&lt;script&gt;" in page and "&lt;b&gt;mine" in page


def test_copied_spans_are_what_both_say():
    """A run of four words or more is marked from its first to its last letter, whatever the case; shorter ones are
    not."""
    text = "Today the Council MET on Monday, and it agreed."
    assert [text[a:b] for a, b in copied_spans(text, ARTICLE, 4)] == ["the Council MET on Monday"]
    assert copied_spans("İt agreed to build a bridge", ARTICLE, 4) == [(3, 27)]
    assert copied_spans("", ARTICLE, 4) == copied_spans("It agreed", ARTICLE, 4) == []


def test_without_gradio_the_extra_is_named(tmp_path, capsys, monkeypatch):
    """Where gradio is absent, `play` ends with status 2 and says how to get it."""
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["play", str(tmp_path)]) == 2
    assert "triptych[play]" in capsys.readouterr().err


def test_the_longest_texts_are_answered_without_scores():
    """Article and reference of the most characters, copied whole: an answer that says it is too long to score, and no
    table."""
    text = "word " * (MAX_CHARACTERS // 5)
    rows = [TrainedBaseline(SuiteEntry("lead-3", "lead-3", Lead3()), Lead3(), Path("run"), Suite())]
    tracemalloc.start()
    (answer,) = list(Playground(rows, [], "demo", synthetic=False).answer(text, text))[-1]
    assert answer.scores is None and "too long to score" in answer.notes and answer.num_words == 40_000
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


@pytest.mark.parametrize(("text", "words"), [("one two_three, 4", 4), ("日本語", 3), ("", 0), ("É a", 2)])
def test_words_are_counted_as_the_most_that_can_be(text, words):
    """Letters of scripts without spaces count as a word each: the bound holds for whatever splits them."""
    assert _most_words(text) == words


# The real application, asked without a browser


@pytest.fixture
def ask(playground):
    """A client of the page's application, with the address that a browser on this machine gives."""
    pytest.importorskip("gradio", reason="the extra `play` is absent")
    testclient = pytest.importorskip("starlette.testclient", reason="it needs httpx")
    playground.title = HOSTILE
    with testclient.TestClient(
        application(build_page(playground), "127.0.0.1"), base_url="http://127.0.0.1:7860"
    ) as client:
        yield client


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860"])
def test_the_page_answers_by_this_machines_names(ask, host):
    """Whoever calls it localhost, 127.0.0.1 or [::1] gets the page."""
    assert ask.get("/", headers={"host": host}).status_code == 200
    assert ask.get("/config", headers={"host": host, "origin": f"http://{host}".lower()}).status_code == 200


def test_all_that_the_page_asks_goes_through_the_queue(playground):
    """Whatever the page does is posted where the server accepts it: it posts to the queue alone."""
    pytest.importorskip("gradio", reason="the extra `play` is absent")
    functions = build_page(playground).fns.values()
    assert functions and all(function.queue for function in functions)


FOREIGN = ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "192.168.0.9", "localhost.", ""]


@pytest.mark.parametrize("host", FOREIGN)
def test_another_name_for_this_machine_is_refused(ask, host):
    """A foreign Host, as DNS rebinding has it, is told nothing: no page, no configuration, no leave for its origin."""
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
    """A script that another site sent may not ask, whichever of this machine's names it uses."""
    for method, path in (("GET", "/config"), ("POST", "/gradio_api/queue/join"), ("OPTIONS", "/config")):
        headers = {"host": host, "origin": origin, "access-control-request-method": "GET"}
        answer = ask.request(method, path, headers=headers)
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers, (method, path)


def test_nothing_is_uploaded_or_kept(ask):
    """Files of any size, recordings and links that would be stored are refused, and no folder of uploads comes to
    be."""
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
    """A body of more than an article and a reference can need is refused, with its length given or not."""
    assert ask.post("/gradio_api/queue/join", content=b"x" * (MAX_REQUEST + 1)).status_code == 413
    assert ask.post("/gradio_api/queue/join", content=iter([b"x" * 500_000] * 11)).status_code == 413


def test_an_article_is_answered_through_the_application(ask):
    """The button's request goes in, and the rows' summaries come out as text."""
    config = ask.get("/config").json()
    run = next(each["id"] for each in config["dependencies"] if len(each["inputs"]) == 3)
    joined = ask.post(
        "/gradio_api/queue/join", json={"data": [ARTICLE, "", None], "fn_index": run, "session_hash": "s"}
    )
    assert joined.status_code == 200
    text = ask.get("/gradio_api/queue/data", params={"session_hash": "s"}).text
    assert "2 of 2 summaries written" in text and "It agreed to build a bridge" in text


def test_names_are_text_in_the_application(ask):
    """A suite's name, whatever it holds, stands escaped in an HTML component; no component reads it as Markdown."""
    page, config = ask.get("/").text, ask.get("/config").json()
    named = [each for each in config["components"] if "alert(1)" in str(each["props"])]
    assert [each["type"] for each in named] == ["html"] and "<img src=x" not in named[0]["props"]["value"]
    assert "<script>alert(1)" not in page and "<img src=x" not in page
    assert not any(each["type"] == "markdown" for each in config["components"])


def test_the_application_names_no_other_machine(ask):
    """Neither the page nor its style loads a file from elsewhere; a link that is only shown or a namespace is not
    loaded."""
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
    """Its local names, and the host that the user named; for all addresses at once, the machine's own name and
    addresses."""
    hosts = allowed_hosts(host)
    assert set(there) <= set(hosts) and not set(absent) & set(hosts)


def test_a_page_is_served_and_stops(playground):
    """The page answers at the address given, the port is free afterwards, and one that is taken is a message."""
    pytest.importorskip("gradio", reason="the extra `play` is absent")
    with serving(build_page(playground), "127.0.0.1", 0) as address:
        port = int(address.rpartition(":")[2])
        assert urlopen(address).status == 200
        with pytest.raises(ConfigError, match="--port"), serving(build_page(playground), "127.0.0.1", port):
            pass
    with socket.create_server(("127.0.0.1", port)):
        pass
