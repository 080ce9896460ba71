"""Encodings: which are read, how unsupported ones are named, and that the suggested remedy loses nothing."""

import codecs
import gzip
import re
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.datasets.tables import Tables
from triptych.datasets.tables.encodings import guess_encoding
from triptych.errors import DataError
from triptych.use import documents

ENGLISH = "The council’s vote was “close” on Monday, and the café stays – for 5 €. "
FRENCH = "Le conseil a voté à Noël. Ça va déjà, où est passé l'été ? "
GERMAN = "Über die Straße läuft ein schöner Hund. "
POLISH = "Został zbudowany nowy most, który będzie otwarty we środę, żeby. "
RUSSIAN = "Совет города проголосовал в понедельник за новый мост. "
CHINESE = "市议会星期一投票决定修建一座新桥。大雨下了三天，两条道路被封闭。"
JAPANESE = "市議会は月曜日に新しい橋の建設を可決した。雨が三日間降り続いた。"
KOREAN = "시의회는 월요일에 새 다리를 건설하기로 의결했다. "
TURKISH = "Belediye meclisi pazartesi günü yeni köprü için oy kullandı. Şehir içinde değişiklik. "
GREEK = "Το δημοτικό συμβούλιο ψήφισε τη Δευτέρα για μια νέα γέφυρα. "
PLAIN = "A line of plain text about the town and its river. "
CASES = [
    ("cp1252", ENGLISH, "Windows-1252"),
    ("cp1252", PLAIN * 200 + ENGLISH, "Windows-1252"),
    (
        "cp1252",
        "The café at no. 5 was sold for £250,000 – ‘a lot’, “he said”. ",
        "Windows-1252",
    ),
    ("cp1252", "It cost £5–£10 a head: “‘Too much,’” he said, and £3bn in all. ", "Windows-1252"),
    ("cp1252", "The tank holds 40 m³ of water and takes up 9 m². ", "Windows-1252"),
    ("latin-1", FRENCH, "Windows-1252 or Latin-1"),
    ("latin-1", GERMAN, "Windows-1252 or Latin-1"),
    ("latin-1", PLAIN * 200 + FRENCH, "Windows-1252 or Latin-1"),
    ("mac_roman", ENGLISH, "Mac Roman"),
    ("cp1250", POLISH, "Windows-1250"),
    ("cp1254", TURKISH, "Windows-1254"),
    ("iso8859-2", POLISH, "ISO-8859-2"),
    ("iso8859-15", "Le coût est de 5 € à Noël, et le cœur y est. ", "ISO-8859-15"),
    ("cp1251", RUSSIAN, "Windows-1251"),
    ("cp1253", GREEK, "Windows-1253"),
    ("cp1251", PLAIN * 200 + RUSSIAN, "Windows-1251"),
    ("koi8-r", RUSSIAN, "KOI8-R"),
    ("gb18030", CHINESE, "GB18030"),
    ("shift_jis", JAPANESE, "Shift JIS"),
    ("shift_jis", "市議会1は月曜日に開かれ、新しい橋の計画を承認した。" * 3, "Shift JIS"),
    ("euc_jp", JAPANESE, "EUC-JP"),
    ("big5", "市議會星期一投票決定修建一座新橋。大雨下了三天。", "Big5"),
    ("euc_kr", KOREAN, "EUC-KR"),
    ("utf-32", FRENCH, "UTF-32"),
    ("utf-16-le", PLAIN, "UTF-16LE without a byte order mark"),
    ("utf-16-be", PLAIN + FRENCH, "UTF-16BE without a byte order mark"),
]


def content(text: str, encoding: str) -> bytes:
    """A table of three rows."""
    return ("document,summary\n" + f'"{text}","{text[:30]}"\n' * 3).encode(encoding)


def refusal(path) -> str:
    """The message about a file that is not read."""
    with pytest.raises(DataError) as caught:
        list(Tables(path=path).examples("all"))
    return str(caught.value)


@pytest.mark.parametrize(("encoding", "text", "title"), CASES)
def test_encodings_are_named_with_a_remedy_that_loses_nothing(tmp_path, encoding, text, title):
    """An unsupported encoding is named, and the command in the message converts the file exactly to UTF-8."""
    file = tmp_path / "train.csv"
    file.write_bytes(content(text, encoding))
    said = refusal(file)
    assert title in said, said
    command = re.search(r"iconv -f (\S+) -t UTF-8 OLD > NEW", said)
    assert command, said
    if shutil.which("iconv") is None:
        pytest.skip("there is no iconv here")
    made = subprocess.run(["iconv", "-f", command[1], "-t", "UTF-8", file], capture_output=True, check=True).stdout
    assert made.decode("utf-8-sig") == content(text, encoding).decode(encoding)
    file.write_bytes(made)
    assert len(list(Tables(path=file).examples("all"))) == 3


@pytest.mark.parametrize("text", [ENGLISH, RUSSIAN, CHINESE, "𝄞 surrogate pairs"])
@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_utf_16_with_a_byte_order_mark_is_read(tmp_path, text, mark):
    """UTF-16 with a byte order mark is read in tables and in plain text: nothing about it is in doubt."""
    encoding = "utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be"
    file = tmp_path / "train.tsv"
    file.write_bytes(mark + f"document\tsummary\n{text * 3000}\t{text}\n".encode(encoding))
    (example,) = Tables(path=file).examples("all")
    assert (example.document, example.summary) == (text * 3000, text)
    (tmp_path / "a.txt").write_bytes(mark + text.encode(encoding))
    assert list(documents.read_documents(str(tmp_path / "a.txt"))) == [("a.txt", text)]


def test_damage_is_told_from_another_encoding(tmp_path):
    """A file cut inside a character, or with a few broken bytes, is not mistaken for a file in another encoding."""
    file = tmp_path / "train.csv"
    file.write_bytes(content(GERMAN, "utf-8").rstrip(b'"\n') + "é".encode()[:1])
    assert "the file stops inside a character" in refusal(file) and "iconv" not in refusal(file)
    file.write_bytes(content(GERMAN, "utf-8") + b"bad \xe9 here,x\n" + content(GERMAN, "utf-8"))
    said = refusal(file)
    assert "line 5: not UTF-8 at one place: byte 0xe9" in said and "iconv -c -f UTF-8" in said
    file.write_bytes(content(PLAIN, "utf-16")[:-1])
    assert "begins as UTF-16 and is damaged" in refusal(file)


def test_halves_of_characters_are_told_with_a_remedy_that_mends_them(tmp_path):
    """Text in which each half of an emoji is written as a character is recognized, and the command in the message joins
    them."""
    units = "Rain 😀 again at the café. ".encode("utf-16-le")
    halves = "".join(chr(units[i] + 256 * units[i + 1]) for i in range(0, len(units), 2))
    file = tmp_path / "train.csv"
    file.write_bytes(f"document,summary\n{halves * 9},Rain\n".encode("utf-8", "surrogatepass"))
    command = re.search(r'python -c "(.*)"\.', refusal(file))
    assert command
    code = command[1].replace("OLD", str(file)).replace("NEW", str(tmp_path / "new.csv"))
    subprocess.run([sys.executable, "-c", code], check=True)
    (example,) = Tables(path=tmp_path / "new.csv").examples("all")
    assert example.document == "Rain 😀 again at the café. " * 9


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (gzip.compress(b"document,summary\n", mtime=0), "name end in .gz"),
        (b"PK\x03\x04\x14\0", "Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel workbook"),
        (b"PAR1\x15\4", ".parquet"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
    ],
)
def test_a_packed_file_under_a_table_s_name_is_told(tmp_path, start, said):
    """A compressed file, a workbook or a PDF named like a table is called what it is, not another encoding."""
    for name in ("train.csv", "train.jsonl"):
        (tmp_path / name).write_bytes(start)
        assert said in refusal(tmp_path / name) and "encoding" not in refusal(tmp_path / name)


def test_a_plain_text_is_told_its_encoding_too(tmp_path):
    """A text to summarize in another encoding is named like a table's; one with NUL bytes is called binary."""
    (tmp_path / "a.txt").write_bytes((ENGLISH * 3).encode("cp1252"))
    with pytest.raises(DataError, match="iconv -f WINDOWS-1252"):
        documents.read_documents(str(tmp_path / "a.txt"))
    (tmp_path / "a.txt").write_bytes(b"\x7fELF\xff\0\0\1")
    with pytest.raises(DataError, match="is binary"):
        documents.read_documents(str(tmp_path / "a.txt"))


@pytest.mark.parametrize("text", [RUSSIAN, CHINESE, JAPANESE, FRENCH])
def test_the_place_is_shown_as_it_would_read(tmp_path, text):
    """The message shows the text as decoded under the guess, so a wrong guess can be seen."""
    encoding = {RUSSIAN: "koi8-r", CHINESE: "gb18030", JAPANESE: "shift_jis", FRENCH: "latin-1"}[text]
    (tmp_path / "train.csv").write_bytes(content(text, encoding))
    said = refusal(tmp_path / "train.csv")
    assert text[:8] in said and "If not, save it as UTF-8" in said


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_get_a_guess_or_none(sample):
    """Whatever the bytes, a guess is an encoding known to Python, or none."""
    guess = guess_encoding(sample)
    assert guess is None or codecs.lookup(guess.codec)


def test_lines_end_where_they_end_whatever_the_pieces(tmp_path):
    """Characters and line breaks on the boundary between two pieces of a file are read correctly."""
    for shift in range(4):
        text = "x" * (2**16 - 20 + shift) + "é\r\n𝄞"
        (tmp_path / "train.csv").write_bytes(f'document,summary\n"{text}",s\nlast,t\n'.encode())
        first, last = Tables(path=tmp_path / "train.csv").examples("all")
        assert first.document == text and (last.document, last.summary) == ("last", "t")
