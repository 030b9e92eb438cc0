"""PDF through the optional pypdf: the text layer, page after page.

PDF has no paragraphs and no reading order, only glyphs at places; pypdf's order is good for one column and fair for
two. Words hyphenated at line ends are joined. Scanned pages have no text layer: such files are dropped with that
reason.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import re
from collections.abc import Iterator

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.source import SourceFile, Unreadable, too_large
from corpusmith.errors import CorpusError

_HYPHENATED = re.compile(r"(\w)[-\u00ad]\n(?=[a-zà-öø-ÿ])")
_NO_TITLE = re.compile(
    r"^(microsoft word|untitled|powerpoint|slide \d|document\d*$)|\.(docx?|pdf|tex|dvi|indd|qxd|pptx?)$", re.IGNORECASE
)


def require_pypdf() -> None:
    """Raise CorpusError where the optional PDF reader is missing."""
    if importlib.util.find_spec("pypdf") is None:
        raise CorpusError(
            "there are PDF files but no reader for them: pip install 'corpusmith[pdf]', "
            "or leave them out with corpus.exclude = ['*.pdf']"
        )


def read_pdf(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """The file as one document; its title is that of the PDF's own metadata, where it is one."""
    require_pypdf()
    data, damage = file.whole()
    if damage:
        raise damage
    title, text = pdf_to_text(data, file.limit)
    yield Document(id=file.id, title=title, text=text, metadata={"path": file.id})


def pdf_to_text(data: bytes, limit: int) -> tuple[str, str]:
    """(title, text) of a PDF. Raises Unreadable where it is damaged, encrypted, without text or longer than `limit`."""
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of every oddity, and each is dealt with or a reason
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("the PDF is encrypted")
        pages: list[str] = []
        size = 0
        for page in reader.pages:
            pages.append(page.extract_text())
            size += len(pages[-1])
            if size > limit:
                raise Unreadable(too_large(limit))
        title = str((reader.metadata and reader.metadata.title) or "").strip()
    except Unreadable:
        raise
    except Exception as error:  # pypdf meets damaged files with exceptions of any kind, KeyError and AssertionError too
        raise Unreadable(f"the PDF cannot be read: {type(error).__name__}: {str(error)[:200]}") from None
    text = "\n\n".join(page.strip() for page in pages if page.strip())
    if not text:
        raise Unreadable("the PDF has no text layer (a scan needs OCR first)")
    return ("" if _NO_TITLE.search(title) else title), _HYPHENATED.sub(r"\1", text)
