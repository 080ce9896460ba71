"""Check the links of a built site without a network: files, anchors, and that nothing is loaded from elsewhere.

    python scripts/check_site.py build/site

The script prints what is wrong and exits with status 1 if anything is. Links to other sites are not followed.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}
NOT_LOADED = {"canonical", "prev", "next", "alternate"}


class Page(HTMLParser):
    """The links, loaded resources and anchors of a page.

    Attributes:
        links: targets of links and loaded resources, as written.
        loads: the targets that a browser fetches by itself.
        anchors: the ids of its elements.
    """

    def __init__(self, text: str):
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record what an element links to, and its id."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        for name in ("href", "src"):
            if name in given:
                self.links.add(given[name])
                if (tag, name) in LOADED and given.get("rel") not in NOT_LOADED:
                    self.loads.add(given[name])


def faults(site: Path) -> list[str]:
    """What is wrong with the links of a site, one sentence per problem.

    Args:
        site: the folder with its files.
    """
    site = site.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name} loads {link}" for link in sorted(page.loads) if urlsplit(link).netloc]
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            folder = site if parts.path.startswith("/") else path.parent
            target = (folder / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_relative_to(site) or not target.is_file():
                found.append(f"{name} links to {link}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{name} links to {link}, but that page has no such heading")
    return found


def main() -> int:
    """Check the site given on the command line."""
    site = Path(sys.argv[1])
    wrong = faults(site)
    print("\n".join(wrong) or f"{len(list(site.rglob('*.html')))} pages: every link leads somewhere.")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
