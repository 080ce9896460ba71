"""Parse the author's own texts, `OUT/discussion.md` and `theory.md`, into plain blocks of text, tables and formulas.

Nothing in the files becomes markup of the report: the templates get their words as strings. Markdown is parsed by
markdown-it (CommonMark and tables, HTML off); formulas between `$` or `$$` are rendered by Matplotlib's mathtext, which
supports a subset of TeX and executes nothing.
"""

import base64
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import matplotlib
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.textpath import text_to_path
from PIL import Image

from triptych.errors import ResultsError, TriptychWarning, shorten

DISCUSSION, THEORY = "discussion.md", "theory.md"
_MOST_CHARACTERS = 200_000  # maximum per file: more is too long for a report
_MOST_IMAGE_BYTES = 10_000_000
_LONGEST_FORMULA = 2_000  # characters
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg"}
_WEB = ("https://", "http://", "mailto:")
_SIZE = 10  # points, the font size of formulas and of the text around them

Block = dict[str, Any]


@dataclass(frozen=True)
class AuthorsText:
    """What the author wrote.

    Attributes:
        discussion: blocks of `discussion.md`; empty if there is none.
        theory: blocks of `theory.md`, which replace the report's answers; empty if there is none.
        files: the files that were read: the texts and their figures.
    """

    discussion: Sequence[Block] = ()
    theory: Sequence[Block] = ()
    files: tuple[Path, ...] = ()


NOT_WRITTEN = AuthorsText()


def read_authors_text(folders: Sequence[Path]) -> AuthorsText:
    """Read the author's texts, each from the first of these folders that has it.

    A formula that cannot be rendered is shown as written, with a warning.

    Args:
        folders: where the files may be; figures they name must be in the same folder or its subfolders.

    Raises:
        ResultsError: a file is not UTF-8 text or too long, or a figure in it cannot be shown; the message says which.
    """
    found: dict[str, list[Block]] = {}
    files: list[Path] = []
    for name in (DISCUSSION, THEORY):
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is not None:
            found[name], figures = _parse(_text_of(path), path.parent, name)
            files += [path, *figures]
    return AuthorsText(found.get(DISCUSSION, ()), found.get(THEORY, ()), tuple(files))


def _text_of(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{str(path)!r} cannot be read as UTF-8 text: {error}. Save it as UTF-8.") from error
    if len(text) > _MOST_CHARACTERS:
        raise ResultsError(
            f"{str(path)!r} has {len(text):,} characters; it may have at most {_MOST_CHARACTERS:,}. Shorten it."
        )
    return text


def parse_text(text: str, folder: Path, name: str = DISCUSSION) -> list[Block]:
    """Parse Markdown into blocks; each is a dictionary with its `kind`.

    Args:
        text: Markdown; HTML in it is treated as text.
        folder: the folder that figure paths are relative to.
        name: the file's name, for messages.

    Raises:
        ResultsError: a figure is not a PNG or JPEG file in the folder or its subfolders.
    """
    return _parse(text, folder, name)[0]


def _parse(text: str, folder: Path, name: str) -> tuple[list[Block], list[Path]]:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.block.ruler.before("fence", "formula_block", _formula_block, {"alt": ["paragraph", "blockquote", "list"]})
    reader = _Reader(folder, name, iter(parser.parse(text)))
    blocks = reader.blocks()
    headings = [block for block in blocks if block["kind"] == "heading"]
    above = min((block["level"] for block in headings), default=1) - 1
    for block in headings:  # the text's top heading level becomes the one below the report's own heading
        block["level"] -= above
    return blocks, reader.figures


class _Reader:
    """Read the tokens of a text into blocks; `figures` lists the files it shows."""

    def __init__(self, folder: Path, name: str, tokens: Iterator[Token]) -> None:
        self.folder = folder
        self.name = name
        self.tokens = tokens
        self.figures: list[Path] = []
        self._line = 1  # the line being read

    def blocks(self, until: str | None = None) -> list[Block]:
        """The blocks up to the next token of type `until`."""
        found: list[Block] = []
        for token in self.tokens:
            if token.type == until:
                break
            found.extend(self._block(token))
        return found

    def _block(self, token: Token) -> list[Block]:
        self._at(token)
        match token.type:
            case "heading_open":
                return [{"kind": "heading", "level": min(int(token.tag[1:]), 3), "words": self._words("heading_close")}]
            case "paragraph_open":
                return self._paragraph(self._words("paragraph_close"))
            case "bullet_list_open" | "ordered_list_open":
                kind = token.type.removesuffix("_open")
                start = int(token.attrGet("start") or 1)
                return [{"kind": kind, "start": start, "items": self._items(f"{kind}_close")}]
            case "blockquote_open":
                return [{"kind": "quote", "blocks": self.blocks("blockquote_close")}]
            case "fence" | "code_block":
                return [{"kind": "code", "text": token.content.rstrip("\n")}]
            case "formula_block":
                return [self._formula(token.content)]
            case "table_open":
                return [self._table()]
            case "hr":
                return [{"kind": "rule"}]
        return []

    def _at(self, token: Token) -> None:
        if token.map is not None:
            self._line = token.map[0] + 1

    def _formula(self, source: str) -> Block:
        drawn = formula(source)
        if not drawn["svg"]:
            warnings.warn(
                f"{self.name}, line {self._line}: this formula is shown as it was written: {shorten(source)}",
                TriptychWarning,
                stacklevel=2,
            )
        return {"kind": "formula", **drawn}

    def _items(self, until: str) -> list[list[Block]]:
        items = []
        for token in self.tokens:
            if token.type == until:
                break
            items.append(self.blocks("list_item_close"))
        return items

    def _table(self) -> Block:
        lines: list[list[list[Block]]] = []
        aligned: list[str] = []
        for token in self.tokens:
            if token.type == "table_close":
                break
            if token.type == "tr_open":
                lines.append([])
            elif token.type in ("th_open", "td_open"):
                style = str(token.attrGet("style") or "")
                if token.type == "th_open":
                    aligned.append(style.removeprefix("text-align:") or "left")
                lines[-1].append(self._words(token.type.replace("open", "close")))
        return {"kind": "table", "align": aligned, "head": lines[0], "rows": lines[1:]}

    def _words(self, until: str) -> list[Block]:
        """The inline parts of a block up to its closing token."""
        found: list[Block] = []
        for token in self.tokens:
            if token.type == until:
                break
            self._at(token)
            found.extend(self._inline(iter(token.children or [])))
        return found

    def _inline(self, tokens: Iterator[Token], until: str | None = None) -> list[Block]:
        found: list[Block] = []
        for token in tokens:
            if token.type == until:
                break
            match token.type:
                case "text" | "text_special" | "html_inline":
                    found.append({"kind": "text", "text": token.content})
                case "softbreak":
                    found.append({"kind": "text", "text": " "})
                    self._line += 1
                case "hardbreak":
                    found.append({"kind": "break"})
                    self._line += 1
                case "code_inline":
                    found.append({"kind": "mono", "text": token.content})
                case "em_open" | "strong_open":
                    kind = token.type.removesuffix("_open")
                    found.append({"kind": kind, "words": self._inline(tokens, f"{kind}_close")})
                case "link_open":
                    address = str(token.attrGet("href") or "")
                    words = self._inline(tokens, "link_close")
                    known = address.startswith(_WEB)
                    found.extend([{"kind": "link", "address": address, "words": words}] if known else words)
                case "image":
                    found.append(self._figure(str(token.attrGet("src") or ""), token.content))
                case "formula":
                    found.append(self._formula(token.content))
                    self._line += token.content.count("\n")
        return found

    def _paragraph(self, words: list[Block]) -> list[Block]:
        """A paragraph; an image becomes a separate figure after the words before it."""
        found: list[Block] = []
        for word in words:
            if word["kind"] == "figure":
                found.append(word)
            elif found and found[-1]["kind"] == "paragraph":
                found[-1]["words"].append(word)
            elif word != {"kind": "text", "text": " "}:
                found.append({"kind": "paragraph", "words": [word]})
        return found

    def _figure(self, address: str, caption: str) -> Block:
        source = unquote(address)
        name = PurePosixPath(source)
        path = (self.folder / name).resolve()
        problem = f"{self.name} shows the figure {source!r}"
        if name.is_absolute() or ":" in source or self.folder.resolve() not in path.parents:
            raise ResultsError(f"{problem}: figures are files below the folder of {self.name}. Copy it there.")
        if not path.is_file():
            raise ResultsError(f"{problem}, and there is no such file in {str(self.folder)!r}.")
        if path.stat().st_size > _MOST_IMAGE_BYTES:
            raise ResultsError(f"{problem}, which is larger than {_MOST_IMAGE_BYTES // 10**6} MB. Save it smaller.")
        content = path.read_bytes()
        try:
            with Image.open(io.BytesIO(content), formats=list(_FORMATS)) as image:
                image.verify()
                (width, height), kind = image.size, str(image.format)
        except Exception as error:  # whatever Pillow raises on a file that is not an image
            raise ResultsError(f"{problem}, which is not a PNG or JPEG image. Save it as PNG.") from error
        self.figures.append(path)
        address = f"data:{_FORMATS[kind]};base64,{base64.b64encode(content).decode()}"
        return {
            "kind": "figure",
            "caption": caption,
            "address": address,
            "svg": f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}"><image width="{width}" height="{height}" href="{address}"/></svg>',
        }


def formula(source: str) -> dict[str, Any]:
    """A formula as an SVG drawing with its size in points; without a drawing if mathtext cannot parse it.

    Args:
        source: TeX, in the subset that mathtext supports.
    """
    plain = {"source": source, "svg": "", "height": 0.0, "depth": 0.0, "address": ""}
    tex = " ".join(source.split())
    if not tex or len(tex) > _LONGEST_FORMULA:
        return plain
    with matplotlib.rc_context({"mathtext.fontset": "stix", "text.usetex": False, "text.parse_math": True}):
        font = FontProperties(size=_SIZE)
        try:
            width, height, depth, _, _ = MathTextParser("path").parse(f"${tex}$", dpi=72, prop=font)
            points, codes = text_to_path.get_text_path(font, f"${tex}$", ismath=True)
        except Exception:  # pyparsing's errors, and too deep nesting: the formula is shown as written
            return plain
    scale = _SIZE / text_to_path.FONT_SCALE
    width, height, depth = float(width) + 1, float(height) + 1, float(depth) + 0.5
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.2f} {height + depth:.2f}" width="{width:.2f}" '
        f'height="{height + depth:.2f}"><path d="{_path(points, codes, scale, height)}"/></svg>'
    )
    address = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    return plain | {"svg": svg, "height": round(height + depth, 2), "depth": round(depth, 2), "address": address}


def _path(points: Any, codes: Any, scale: float, height: float) -> str:
    """Matplotlib's points and codes as an SVG path, where y grows downwards."""
    letters = {1: ("M", 1), 2: ("L", 1), 3: ("Q", 2), 4: ("C", 3), 79: ("Z", 1)}
    parts, place = [], 0
    while place < len(codes):
        letter, count = letters[int(codes[place])]
        ends = (
            ""
            if letter == "Z"
            else " ".join(f"{x * scale + 0.5:.2f} {height - y * scale:.2f}" for x, y in points[place : place + count])
        )
        parts.append(letter + ends)
        place += count
    return "".join(parts)


def _formula(state: StateInline, silent: bool) -> bool:
    """Inline rule: `$x^2$` without white space next to the signs and no digit after; `$5 and $6` is not a formula."""
    text, start = state.src, state.pos
    if text[start] != "$" or start + 2 >= state.posMax or text[start + 1] in " \t\n$":
        return False
    end = text.find("$", start + 1, state.posMax)
    if end < 0 or text[end - 1] in " \t\n\\" or text[end + 1 : end + 2].isdigit():
        return False
    if not silent:
        state.push("formula", "", 0).content = text[start + 1 : end]
    state.pos = end + 1
    return True


def _formula_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Block rule: a formula from `$$` at the beginning of a line to `$$` at the end of the same or a later line."""
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]].strip()
    if not first.startswith("$$"):
        return False
    lines, line = [first[2:]], start
    while not (lines[-1].rstrip().endswith("$$") and (len(lines) > 1 or lines[-1].strip() != "")):
        line += 1
        if line >= end or not state.src[state.bMarks[line] : state.eMarks[line]].strip():
            return False
        lines.append(state.src[state.bMarks[line] : state.eMarks[line]])
    if not silent:
        token = state.push("formula_block", "", 0)
        token.content = "\n".join(lines).rstrip().removesuffix("$$").strip()
        token.map = [start, line + 1]
        state.line = line + 1
    return True
