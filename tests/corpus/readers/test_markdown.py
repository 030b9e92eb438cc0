from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.markdown import LONGEST_PARAGRAPH, markdown_to_text, read_markdown, split_front_matter
from corpusmith.corpus.readers.source import SourceFile


def read_text(folder, text, id="guide/a.md"):
    path = folder / "a.md"
    path.write_text(text)
    (document,) = read_markdown(SourceFile(path, id, 10_000_000), CorpusConfig())
    return document


def test_markup_goes_and_headings_stay():
    title, text, _, _ = markdown_to_text(
        "# Title\n\nSome *emphasis*, **strong**, `code` and a [link](x.md).\n\n"
        "Section\n-------\n\n- one\n- two\n\n> quoted\n"
    )
    assert title == "Title"
    assert text == "Some emphasis, strong, code and a link.\n\n## Section\n\none\ntwo\n\nquoted"


def test_a_comment_in_code_does_not_pass_for_a_heading():
    _, text, _, _ = markdown_to_text("```python\n# not a heading\nx = 1\n```\n")
    assert text.split("\n") == [" # not a heading", "x = 1"]


def test_tables_and_html_blocks_become_lines():
    _, text, _, _ = markdown_to_text("| a | b |\n|---|---|\n| 1 | 2 |\n\n<div>an &amp; b</div>\n")
    assert text == "a | b\n1 | 2\n\nan & b"


def test_front_matter_gives_the_title_and_leaves_the_text():
    assert split_front_matter('---\ntags: [a]\ntitle: "The Title"\n---\nbody') == ("The Title", "body")
    assert split_front_matter("+++\ntitle = 'T'\n+++\nbody") == ("T", "body")
    assert split_front_matter("---\nno end") == ("", "---\nno end")


def test_relative_links_become_ids_and_wiki_links_titles(tmp_path):
    document = read_text(
        tmp_path, "[a](b.md#part) [up](../c%20d.md) [web](https://x.y/z) [out](../../e.md) [self](a.md) [[Page|shown]]"
    )
    assert document.links == ("guide/b.md", "c d.md", "Page")
    assert document.text.endswith("shown")


def test_a_file_without_heading_has_no_title(tmp_path):
    assert read_text(tmp_path, "just text").title == ""


def test_paragraphs_too_long_to_parse_are_taken_as_they_stand(tmp_path):
    source = "![[](" * (LONGEST_PARAGRAPH // 4)
    assert read_text(tmp_path, source).text == source
