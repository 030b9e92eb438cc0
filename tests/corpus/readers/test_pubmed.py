import gzip

import pytest

from corpusmith.corpus.base import Document
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.pubmed import read_pubmed
from corpusmith.corpus.readers.source import SourceFile, Unreadable

ARTICLE = """<PubmedArticle><MedlineCitation><PMID Version="1">{pmid}</PMID><Article>
<Journal><JournalIssue><PubDate><Year>2001</Year></PubDate></JournalIssue><Title>J Waves</Title></Journal>
<ArticleTitle>A <i>study</i> of waves.</ArticleTitle><Abstract>
<AbstractText Label="BACKGROUND">H<sub>2</sub>O has &#945; waves.</AbstractText>
<AbstractText Label="METHODS">We looked.</AbstractText></Abstract></Article></MedlineCitation>
<PubmedData><ArticleIdList><ArticleId IdType="pubmed">{pmid}</ArticleId></ArticleIdList><ReferenceList><Reference>
<ArticleIdList><ArticleId IdType="pubmed">99</ArticleId><ArticleId IdType="doi">10.1/x</ArticleId></ArticleIdList>
</Reference></ReferenceList></PubmedData></PubmedArticle>"""
BOOK = """<PubmedBookArticle><BookDocument><PMID>55</PMID><Book><BookTitle>Reviews</BookTitle><PubDate><Year>1999</Year>
</PubDate></Book><ArticleTitle>A Chapter</ArticleTitle><Abstract><AbstractText>On tides.</AbstractText></Abstract>
</BookDocument></PubmedBookArticle>"""
JATS = """<article xmlns="http://jats.nlm.nih.gov"><front><journal-meta><journal-title-group><journal-title>PLoS</journal-title>
</journal-title-group></journal-meta><article-meta><article-id pub-id-type="pmid">7</article-id><title-group>
<article-title>Tides</article-title></title-group><pub-date><year>2010</year></pub-date><abstract><p>Abstract.</p></abstract>
</article-meta></front><body><sec><title>Intro</title><p>One <tex-math>\\frac</tex-math>two.</p><sec><title>Part</title>
<p>Three.</p></sec></sec></body><back><ref-list><ref><element-citation><pub-id pub-id-type="pmid">8</pub-id>
</element-citation></ref></ref-list></back></article>"""


def read_xml(folder, text, name="a.xml", limit=100_000):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_pubmed(SourceFile(path, name, limit), CorpusConfig()))


def article_set(*articles):
    return f"<PubmedArticleSet>{''.join(articles)}</PubmedArticleSet>"


def test_articles_have_sections_metadata_and_references(tmp_path):
    article, book = read_xml(tmp_path, article_set(ARTICLE.format(pmid=12), BOOK))
    assert article == Document(
        "12",
        "A study of waves",
        "# Background\n\nH2O has α waves.\n\n# Methods\n\nWe looked.",
        {"pmid": "12", "journal": "J Waves", "year": "2001", "path": "a.xml"},
        ("99",),
    )
    assert (book.id, book.title, book.text) == ("55", "A Chapter", "On tides.")
    assert book.metadata["year"] == "1999"


def test_jats_full_text_keeps_its_sections_whatever_its_namespace(tmp_path):
    (document,) = read_xml(tmp_path, JATS)
    assert document.title == "Tides"
    assert document.text == "Abstract.\n\n# Intro\n\nOne two.\n\n## Part\n\nThree."
    assert document.links == ("8",)
    assert document.metadata["journal"] == "PLoS"


def test_articles_without_any_id_are_numbered(tmp_path):
    (document,) = read_xml(tmp_path, JATS.replace('pub-id-type="pmid">7<', 'pub-id-type="other">7<'))
    assert document.id == "a.xml#1"


def test_what_comes_before_damage_is_kept(tmp_path):
    path = tmp_path / "a.xml.gz"
    path.write_bytes(gzip.compress(article_set(ARTICLE.format(pmid=1), ARTICLE.format(pmid=2)).encode()[:-60]))
    documents = read_pubmed(SourceFile(path, "a.xml.gz", 100_000), CorpusConfig())
    assert next(documents).id == "1"
    with pytest.raises(Unreadable, match=r"damaged XML: .* the 1 articles before it are kept"):
        next(documents)


def test_entities_are_neither_expanded_nor_fetched(tmp_path):
    (tmp_path / "secret").write_text("SECRET")
    doctype = f'<!DOCTYPE x [<!ENTITY a "{"A" * 1000}"><!ENTITY f SYSTEM "file://{tmp_path}/secret">]>'
    (document,) = read_xml(tmp_path, doctype + article_set(ARTICLE.format(pmid=1).replace("We looked", "&a; &f;")))
    assert "AAAA" not in document.text
    assert "SECRET" not in document.text


def test_an_element_beyond_the_limit_stops_the_file(tmp_path):
    with pytest.raises(Unreadable, match="larger than 2,000 bytes"):
        read_xml(tmp_path, article_set(ARTICLE.format(pmid=1).replace("We looked", "word " * 100_000)), limit=2000)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<rss><item/></rss>", "<rss>"),
        ("<article><p>not JATS</p></article>", "<article>"),
        ("no xml", "damaged XML"),
        ("<a>" * 50_000, "damaged XML"),
        ("", "empty"),
    ],
)
def test_other_xml_is_refused_with_its_kind(tmp_path, text, reason):
    with pytest.raises(Unreadable, match=reason):
        read_xml(tmp_path, text, limit=1_000_000)


def test_a_record_that_is_none_is_named_beside_one_that_is(tmp_path):
    broken = "<PubmedArticle><MedlineCitation><PMID>3</PMID></MedlineCitation></PubmedArticle>"
    first, document, last = read_xml(tmp_path, article_set(broken, ARTICLE.format(pmid=12), broken))
    assert document.id == "12"
    assert first.reason == last.reason == "<PubmedArticle> without MedlineCitation with Article"
    document, dropped = read_xml(tmp_path, f"<set>{JATS}<article><p>other</p></article></set>")
    assert (document.title, dropped.reason) == ("Tides", "<article> without front with article-meta")
