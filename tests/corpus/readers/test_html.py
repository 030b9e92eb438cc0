from hypothesis import given
from hypothesis import strategies as st

from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.html import html_to_text, nesting, read_html
from corpusmith.corpus.readers.source import SourceFile

PAGE = """<!doctype html><html><head><title>Waves &mdash; My Site</title><style>p {}</style></head>
<body><nav>Home | About</nav><main><h1>Waves</h1><p>Sea&nbsp;waves are <b>surface</b>
waves&hellip;</p><h2>Speed</h2><ul><li>deep<li>shallow</ul><pre>a = 1
# b</pre><script>alert(1)</script><table><tr><td>1</td><td>2</td></tr></table>
<a href="../sound.html#x">sound</a></main><footer>Imprint</footer></body></html>"""


def test_main_text_with_headings_and_without_furniture():
    page = html_to_text(PAGE)
    assert page.title == "Waves"
    assert page.text == ("Sea waves are surface waves…\n\n## Speed\n\ndeep\nshallow\n\na = 1\n # b\n\n1 2\n\nsound")
    assert page.targets == ("../sound.html#x",)


def test_links_become_ids(tmp_path):
    (tmp_path / "waves.html").write_text(PAGE)
    (document,) = read_html(SourceFile(tmp_path / "waves.html", "physics/waves.html", 10_000), CorpusConfig())
    assert document.links == ("sound.html",)


def test_the_title_element_is_the_title_where_the_heading_says_something_else():
    page = html_to_text("<title>Real title</title><h1>Welcome</h1><p>text")
    assert page.title == "Real title"
    assert page.text == "# Welcome\n\ntext"


def test_a_short_article_element_does_not_hide_the_rest_of_the_page():
    page = html_to_text(f"<article>teaser</article><div>{'long text ' * 50}</div>")
    assert "long text" in page.text


def test_the_declared_encoding_is_used(tmp_path):
    (tmp_path / "a.html").write_bytes("<meta charset=koi8-r><p>щука и ёж</p>".encode("koi8_r"))
    (document,) = read_html(SourceFile(tmp_path / "a.html", "a.html", 10_000), CorpusConfig())
    assert document.text == "щука и ёж"


def test_nesting_that_no_browser_would_build_is_stripped_not_parsed():
    source = "<div><p>word &amp;</p>" * 100_000
    assert nesting(source) == 100_000
    assert html_to_text(source).text.startswith("word & word &")


@given(st.text(alphabet="<>/ab=\"'&;!-ph1 \n\x1c\x1d\x1e"))
def test_any_text_is_read_as_html(source):
    page = html_to_text(source)
    assert not any(mark in page.text for mark in "\x1c\x1d\x1e")
