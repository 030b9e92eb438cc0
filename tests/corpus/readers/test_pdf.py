import importlib.util
import io

import pypdf
import pytest

from corpusmith.corpus.readers.pdf import pdf_to_text, require_pypdf
from corpusmith.corpus.readers.source import Unreadable
from corpusmith.errors import CorpusError


def pdf_of(*lines: str, title: str = "") -> bytes:
    """A PDF of one page, written by hand as the format's specification has it."""
    content = b"BT /F1 12 Tf 72 720 Td 14 TL " + b" ".join(f"({line}) Tj T*".encode() for line in lines) + b" ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Title(%s)>>" % title.encode(),
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer<</Size 7/Root 1 0 R/Info 6 0 R>>\nstartxref\n%d\n%%%%EOF" % len(data)
    return data + b"xref\n0 7\n0000000000 65535 f \n" + table + trailer


def test_text_and_title_are_read_and_hyphenation_is_undone():
    title, text = pdf_to_text(pdf_of("The sea is a moun-", "tain range.", title="On Waves"), 10_000)
    assert title == "On Waves"
    assert "mountain range." in text


def test_the_name_of_a_word_file_is_no_title():
    assert pdf_to_text(pdf_of("text", title="Microsoft Word - draft.doc"), 10_000)[0] == ""


def test_pages_without_text_layer_and_encrypted_files_are_unreadable():
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    scan, locked = io.BytesIO(), io.BytesIO()
    writer.write(scan)
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(locked)
    with pytest.raises(Unreadable, match="no text layer"):
        pdf_to_text(scan.getvalue(), 10_000)
    with pytest.raises(Unreadable, match="encrypted"):
        pdf_to_text(locked.getvalue(), 10_000)


@pytest.mark.parametrize("cut", [20, 200, 400])
def test_a_damaged_pdf_is_unreadable_or_read_but_never_a_crash(cut):
    try:
        text = pdf_to_text(pdf_of("some text")[:-cut], 10_000)[1]
    except Unreadable:
        return
    assert "some text" in text


def test_a_missing_pypdf_is_one_sentence_with_the_command(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pypdf" else find_spec(name))
    with pytest.raises(CorpusError, match=r"pip install 'corpusmith\[pdf\]'"):
        require_pypdf()
