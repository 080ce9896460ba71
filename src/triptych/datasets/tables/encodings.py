"""Decode UTF-8, and UTF-16 with a byte order mark; for other encodings, suggest a command that converts them."""

import codecs
import re
from collections.abc import Generator
from dataclasses import dataclass

from triptych.datasets.tables.sources import READ_ERRORS, File, open_bytes
from triptych.errors import DataError

MAX_LINE = 16 * 2**20  # characters; a longer line cannot be a table, and reading it would need unbounded memory
_CHUNK = 2**16
_SAMPLE = 2**18  # bytes examined for a guess
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_WESTERN = {
    "cp1252": "Windows-1252",
    "cp1250": "Windows-1250",
    "cp1254": "Windows-1254",
    "mac_roman": "Mac Roman",
    "cp850": "code page 850",
    "iso8859_2": "ISO-8859-2",
    "iso8859_15": "ISO-8859-15",
}
_ICONV = {
    "cp1252": "WINDOWS-1252",
    "cp1250": "WINDOWS-1250",
    "mac_roman": "MACINTOSH",
    "cp850": "CP850",
    "cp1251": "WINDOWS-1251",
    "cp1253": "WINDOWS-1253",
    "cp1254": "WINDOWS-1254",
    "cp1255": "WINDOWS-1255",
    "cp1256": "WINDOWS-1256",
    "koi8_r": "KOI8-R",
    "koi8_u": "KOI8-U",
    "gb18030": "GB18030",
    "gb2312": "GB18030",
    "gbk": "GB18030",
    "cp932": "CP932",
    "shift_jis": "CP932",
    "euc_jp": "EUC-JP",
    "euc_jis_2004": "EUC-JP",
    "cp949": "CP949",
    "euc_kr": "EUC-KR",
    "big5": "BIG5",
    "big5hkscs": "BIG5-HKSCS",
    "cp950": "CP950",
    "iso8859_2": "ISO-8859-2",
    "iso8859_15": "ISO-8859-15",
    "cp866": "CP866",
    "iso8859_5": "ISO-8859-5",
    "iso8859_7": "ISO-8859-7",
    "tis_620": "TIS-620",
    "cp874": "CP874",
}
_TITLES = {
    "cp932": "Shift JIS",
    "shift_jis": "Shift JIS",
    "euc_jis_2004": "EUC-JP",
    "gb18030": "GB18030 (GBK, GB2312)",
    "cp949": "EUC-KR (CP949)",
    "koi8_r": "KOI8-R",
    "koi8_u": "KOI8-U",
    "big5": "Big5",
}
_PACKED = {
    b"\x1f\x8b": "a gzip file: let its name end in .gz",
    b"PK\x03\x04": "a zip archive or an Excel workbook: name it .zip, or save each sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save each sheet as CSV UTF-8",
    b"PAR1": "a Parquet file: let its name end in .parquet",
    b"%PDF": "a PDF: save its text as UTF-8",
}  # by the first bytes of files that are not text
_MARKS = b"\x80\x85\x91-\x94\x96\x97\xa3"  # €, …, quotes, dashes and £ in Windows-1252, for a character class
_UNIT = re.compile(r"(?<![^\W\d_])[kcdm]?m[²³](?![^\W\d_])")  # a unit; in Windows-1250, ³ is a Polish letter
_KANA = re.compile("[\u3041-\u3096]")
_PUNCTUATION = frozenset("‘’“”„‚–—…•€£¥°§«»¿¡©®™·½¼¾ªº\xa0")


@dataclass(frozen=True, slots=True)
class Guess:
    """The likely encoding of some bytes.

    Attributes:
        codec: its name in Python.
        title: its usual name.
        iconv: its name for `iconv -f`.
    """

    codec: str
    title: str
    iconv: str


def read_text(file: File) -> Generator[str, None, None]:
    """Yield the text of a file in pieces, decompressed and without a byte order mark.

    Raises:
        DataError: the file is empty, unreadable, or neither UTF-8 nor UTF-16 with a byte order mark.
    """
    line, fed = 1, 0
    try:
        with open_bytes(file) as handle:
            chunk = handle.read(_CHUNK)
            if not chunk:
                raise DataError(f"{file} is empty.")
            codec = codec_of(chunk, str(file))
            decoder = codecs.getincrementaldecoder(codec)()
            while True:
                fed += len(chunk)
                try:
                    text = decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as error:
                    before = error.object[: error.start].decode(codec, "ignore").count("\n")
                    offset = fed - len(error.object)
                    where = f"{file}, line {line + before}"
                    raise DataError(
                        f"{where}: {explain(error.object + handle.read(_SAMPLE), error, offset, codec)}"
                    ) from None
                if "\0" in text:
                    where = f"{file}, line {line + text.count(chr(10), 0, text.index(chr(0)))}"
                    raise DataError(f"{where}: {_explain_nul(chunk, fed - len(chunk))}")
                yield text
                line += text.count("\n")
                if not chunk:
                    return
                chunk = handle.read(_CHUNK)
    except READ_ERRORS as error:
        where = f"{file}, line {line}" if fed else str(file)
        raise DataError(
            f"{where}: cannot be read: {error}. Check that it is whole, fetch it again, or unpack it."
        ) from None


def read_lines(file: File) -> Generator[str, None, None]:
    """Yield the lines of a file with their line breaks; only a line feed ends a line.

    Raises:
        DataError: as for `read_text`, or if a line is longer than `MAX_LINE`.
    """
    begun: list[str] = []
    size, number = 0, 1
    for text in read_text(file):
        *complete, rest = text.split("\n")
        for part in complete:
            if size + len(part) > MAX_LINE:
                break
            yield "".join([*begun, part, "\n"])
            begun, size = [], 0
            number += 1
        else:
            begun.append(rest)
            size += len(rest)
            if size <= MAX_LINE:
                continue
        raise DataError(
            f"{file}, line {number}: the line is longer than {MAX_LINE // 2**20} MiB. This does not look like a table."
        )
    if size:
        yield "".join(begun)


def codec_of(start: bytes, where: str) -> str:
    """`utf-8-sig`, or `utf-16` if a byte order mark says so.

    Raises:
        DataError: the byte order mark is that of UTF-32, or the file is compressed or binary.
    """
    for magic, kind in _PACKED.items():
        if start.startswith(magic):
            raise DataError(f"{where}: this is not text but {kind}.")
    if start.startswith(_UTF32):
        raise DataError(f"{where}: this is UTF-32, which is not read. {_convert('UTF-32')}")
    return "utf-16" if start.startswith(_UTF16) else "utf-8-sig"


def explain(content: bytes, error: UnicodeDecodeError, offset: int, codec: str = "utf-8-sig") -> str:
    """Explain why bytes could not be decoded, and how to convert them without loss.

    Args:
        content: the bytes that `error` refers to, and those that follow.
        error: the decoder's error.
        offset: the position of `content` in the file.
        codec: the codec that failed.
    """
    place = f"byte 0x{content[error.start]:02x} at byte offset {offset + error.start}"
    if codec == "utf-16":
        return f"the file begins as UTF-16 and is damaged at {place}: {error.reason}. Fetch it again."
    sample = content[:_SAMPLE]
    without_mark = _utf16_without_mark(sample)
    if without_mark:
        return f"not UTF-8: {place}. It looks like {without_mark} without a byte order mark. {_convert(without_mark)}"
    if _has_surrogates(sample):
        return (
            f"not UTF-8: {place} begins half of a character (CESU-8, as some exports of Java and MySQL have it). "
            "Convert it: python -c \"open('NEW', 'wb').write(open('OLD', 'rb').read().decode('utf-8', "
            "'surrogatepass').encode('utf-16', 'surrogatepass').decode('utf-16', 'replace').encode())\"."
        )
    if error.end == len(content) and error.reason == "unexpected end of data":
        return f"not UTF-8 to its end: the file stops inside a character ({place}). It was cut short: fetch it again."
    if _mostly_utf8(sample):
        return (
            f"not UTF-8 at one place: {place}, though the text around it is. A text was cut inside a character, or "
            "pasted in from another encoding: correct that line. To drop only the broken bytes: iconv -c -f UTF-8 -t "
            "UTF-8 OLD > NEW."
        )
    guess = guess_encoding(sample)
    if guess is None:
        return f"not UTF-8: {place}. Its encoding is unknown: save the file as UTF-8 in the program that wrote it."
    also = (
        " or Latin-1, which are the same here"
        if guess.codec == "cp1252" and not re.search(rb"[\x80-\x9f]", sample)
        else ""
    )
    text = content[max(0, error.start - 24) : error.start + 24].decode(guess.codec, "replace").strip("\ufffd")
    return (
        f"not UTF-8: {place}. It looks like {guess.title}{also}; read so, the place is {' '.join(text.split())!r}. "
        f"If that is right, convert it: {_iconv(guess.iconv)} If not, save it as UTF-8 in the program that wrote it."
    )


def guess_encoding(sample: bytes) -> Guess | None:
    """The most likely encoding of bytes that are not UTF-8; None if nothing fits.

    Two kinds are hard for a statistical detector. Japanese is recognized by its Hiragana. If words with non-ASCII
    characters are mostly ASCII, the encoding is a Western one: the one in which most of these characters are letters in
    words or punctuation, and on a tie the first in `_WESTERN`. Words whose only non-ASCII characters would be quotes,
    dashes and currency signs of Windows-1252 do not count. Everything else is left to charset_normalizer.
    """
    for codec in ("cp932", "euc_jp"):
        if _is_japanese(sample, codec):
            return Guess(codec, _TITLES.get(codec, _ICONV[codec]), _ICONV[codec])
    found_words = re.findall(rb"[A-Za-z\x80-\xff]{2,}", sample)
    words = b"".join(word for word in found_words if not re.fullmatch(rb"[\x00-\x7f" + _MARKS + rb"]+", word))
    if sum(byte >= 0x80 for byte in words) <= len(words) / 2:
        scores = {codec: _plausible(sample, codec) for codec in _WESTERN}
        best = max(scores, key=lambda codec: scores[codec])
        if scores[best] >= 0.5:
            return Guess(best, _WESTERN[best], _ICONV[best])
    from charset_normalizer import from_bytes  # imported here because it is needed only for files that cannot be read

    found = from_bytes(b" ".join(word for word in sample.split() if not word.isascii())).best()
    if found is None or found.encoding in ("ascii", "utf_8", "utf_16", "utf_32") or found.encoding not in _ICONV:
        return None
    iconv = _ICONV[found.encoding]
    return Guess(found.encoding, _TITLES.get(found.encoding, iconv.replace("WINDOWS", "Windows")), iconv)


def _is_japanese(sample: bytes, codec: str) -> bool:
    """Whether bytes decode with a Japanese codec, and more than a fifth of the non-ASCII characters are Hiragana."""
    try:
        text = codecs.getincrementaldecoder(codec)().decode(sample)
    except UnicodeDecodeError:
        return False
    return 5 * len(_KANA.findall(text)) > sum(character > "\x7f" for character in text)


def _has_surrogates(sample: bytes) -> bool:
    """Whether bytes are UTF-8 except for UTF-16 surrogates, each encoded as a character."""
    try:
        text = codecs.getincrementaldecoder("utf-8")("surrogatepass").decode(sample)
    except UnicodeDecodeError:
        return False
    return any("\ud800" <= character <= "\udfff" for character in text)


def _plausible(sample: bytes, codec: str) -> float:
    """The share of non-ASCII characters that are lower-case letters, initial capitals or punctuation in words."""
    try:
        text = sample.decode(codec)
    except UnicodeDecodeError:
        return 0.0
    units = {match.end() - 1 for match in _UNIT.finditer(text)}
    good = total = 0
    for match in re.finditer(r"[^\x00-\x7f]", text):
        at, character = match.start(), match[0]
        before, after = text[at - 1 : at], text[at + 1 : at + 2]
        total += 1
        if character in "ðþÞÐýÝ¨¸":  # Icelandic and Czech; usually a sign of another encoding
            continue
        if character in "’‘" or at in units:
            good += 1
        elif character in _PUNCTUATION:
            good += not (before.isalpha() and after.isalpha()) or character in "–—…"
        elif character.islower() or before.isupper() or after.isupper():
            good += character.isalpha() and (before.isalpha() or after.isalpha() or character in "àéèóáíúyñ")
        elif character.isupper():
            good += not before.isalpha() and not after.isdigit()  # `£5` would be `Ł5` in Windows-1250
    return good / total if total else 0.0


def _mostly_utf8(sample: bytes) -> bool:
    """Whether there are far more valid UTF-8 sequences than invalid bytes."""
    text = sample.decode("utf-8", "surrogateescape")
    broken = sum("\udc80" <= character <= "\udcff" for character in text)
    return sum(character > "\x7f" for character in text) - broken > 3 * broken


def _utf16_without_mark(sample: bytes) -> str | None:
    """The byte order of UTF-16 without a mark, or None: in Western text every other byte is NUL, and few others are."""
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if len(sample) < 8 or max(even, odd) * 4 < len(sample) or min(even, odd) * 20 > len(sample):
        return None
    return "UTF-16LE" if odd > even else "UTF-16BE"


def _explain_nul(chunk: bytes, offset: int) -> str:
    without_mark = _utf16_without_mark(chunk)
    if without_mark:
        return f"not UTF-8: it looks like {without_mark} without a byte order mark. {_convert(without_mark)}"
    return (
        f"a NUL byte at byte offset {offset + max(0, chunk.find(0))}. The file is damaged, or not UTF-8: fetch it "
        "again, or save it as UTF-8."
    )


def _convert(iconv: str) -> str:
    return f"Convert it: {_iconv(iconv)}"


def _iconv(name: str) -> str:
    return f"iconv -f {name} -t UTF-8 OLD > NEW."
