import json
import re

import pytest
from selectolax.lexbor import LexborHTMLParser

from corpusmith.errors import MachineError
from corpusmith.report.html import render, write_report

HOSTILE = "<script>alert(1)</script> \"'> &amp; {{ 7*7 }} [bold]x[/bold] \x1b[31m \x00 \u202e \ud800"
SHOWN = "<script>alert(1)</script> \"'> &amp; {{ 7*7 }} [bold]x[/bold] \\x1b[31m \\x00 \\u202e \\ud800"


def text_of(html: str) -> str:
    body = LexborHTMLParser(html).body
    assert body is not None
    return re.sub(r"\s+", " ", body.text())


def test_a_whole_summary_shows_every_part(summary, tmp_path):
    write_report(summary, tmp_path / "report.html")
    text = text_of((tmp_path / "report.html").read_text(encoding="utf-8"))
    for part in (
        "0.753",  # the mean of what was built
        "0.723–0.783",  # its interval
        "+0.029, better",
        "95% interval +0.009 to +0.049, p = 0.004",
        "300 queries, 1 seed",
        "won 90, lost 60, tied 150",
        "not found",  # the example's rank before
        "Fusion weight of BM25's partner: 0.5",
        "621 TFLOP",
        "step 100 was kept",
        "fewer than 5 words",
        "Epidemic influenza and vitamin D",
        "1 min 58 s",
        "2 min 48 s",  # the chain's total
    ):
        assert part in text


def test_the_summary_survives_json_and_gives_the_same_page(summary):
    assert render(json.loads(json.dumps(summary))) == render(summary)


def test_a_difference_that_is_not_significant_is_never_called_better(summary, evaluation):
    for comparison in [*evaluation["comparisons"], evaluation["alone"]]:
        comparison["p_adjusted"] = 0.2
    page = LexborHTMLParser(render(summary))
    findings = [node.text(strip=True) for node in page.css("td.finding > span")]
    assert findings == ["not distinguishable"] * 5
    headline = page.css_first(".headline b")
    assert headline is not None
    assert headline.text() == "+0.029, not distinguishable"


def test_the_trained_model_alone_stands_apart_beside_the_base_as_it_was(summary, evaluation):
    row = LexborHTMLParser(render(summary)).css_first("tbody.alone tr:last-child")
    assert row is not None
    assert " ".join(row.text(separator=" ").split()).startswith(
        "adapted model +0.086 +0.066 to +0.106 better p < 0.001"
    )
    assert "from base model (all-MiniLM-L6-v2) as it was" in text_of(render(summary))
    del evaluation["alone"]
    assert "What start and training gave" not in text_of(render(summary))


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("evaluations", "nothing is claimed about its quality"),
        ("choices", "Nothing was left to choose"),
        ("training", "Nothing was trained"),
        ("searches", "No searches were run"),
        ("chain", "names no artefacts"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(summary, part, sentence):
    summary[part] = []
    assert sentence in text_of(render(summary))
    del summary[part]
    assert sentence in text_of(render(summary))


def test_a_stage_that_took_no_step_says_why_and_shows_no_zeros(summary):
    summary["training"] = [summary["training"][0] | {"note": "No time is left.", "steps": 0, "loss": []}]
    text = text_of(render(summary))
    assert "1. contrastive No time is left." in text
    assert "tokens a second" not in text


def test_a_clean_corpus_says_that_nothing_was_dropped(summary):
    summary["corpus"]["dropped"] = {}
    assert "No document was dropped." in text_of(render(summary))


def test_an_evaluation_without_comparisons_shows_its_measures(summary, evaluation):
    evaluation["systems"] = evaluation["systems"][:1]
    evaluation["comparisons"] = []
    del evaluation["examples"]
    text = text_of(render(summary))
    assert "0.679" in text
    assert "Difference in" not in text


def test_hostile_text_is_shown_and_not_obeyed(summary, evaluation):
    summary["title"] = summary["machine"] = summary["dropped_file"] = HOSTILE
    summary["verdict"] = [HOSTILE]
    summary["versions"] = {HOSTILE: HOSTILE}
    summary["corpus"]["dropped"] = {HOSTILE: 1}
    evaluation["name"] = evaluation["note"] = HOSTILE
    evaluation["systems"][0]["name"] = HOSTILE
    evaluation["examples"][0]["query"] = evaluation["examples"][0]["document"] = HOSTILE
    summary["choices"][0]["reason"] = summary["choices"][0]["chosen"] = HOSTILE
    summary["training"][0]["objective"] = HOSTILE
    summary["searches"][0]["query"] = HOSTILE
    summary["searches"][0]["results"][0] |= {"title": HOSTILE, "snippet": HOSTILE, "document_id": HOSTILE}
    summary["chain"][0] |= {"name": HOSTILE, "parents": {HOSTILE: HOSTILE}}
    html = render(summary)
    page = LexborHTMLParser(html)
    assert not page.css("script, iframe, object, embed, img, base, form")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", html)
    assert {node.text() for node in page.css("h1, .hits h4, .query, .verdict li")} == {SHOWN}
    assert page.css_first("title").text() == f"{SHOWN}: corpusmith report"
    for node in page.css("*"):
        assert not any(name.startswith("on") for name in node.attributes)


def test_the_page_needs_nothing_from_anywhere(summary):
    html = render(summary)
    assert not re.search(r"https?:|//|@import|url\(|src=", html.replace("<!doctype", ""))
    assert "default-src 'none'" in html
    links = [node.attributes["href"] for node in LexborHTMLParser(html).css("a")]
    assert all(
        link.startswith("#") or link in ("summary.json", "recipe.toml", summary["dropped_file"]) for link in links
    )


def test_every_link_within_the_page_has_its_target(summary):
    page = LexborHTMLParser(render(summary))
    for node in page.css('a[href^="#"]'):
        assert page.css(f'[id="{node.attributes["href"][1:]}"]'), node.attributes["href"]


def test_tables_and_plots_speak_to_a_screen_reader(summary):
    page = LexborHTMLParser(render(summary))
    for table in page.css("table"):
        assert table.css("caption")
        assert all(cell.text(strip=True) for cell in table.css("thead th"))
        assert all("scope" in cell.attributes for cell in table.css("thead th, tbody th"))
    plots = page.css("svg")
    assert plots
    for plot in plots:
        assert plot.attributes.get("aria-hidden") == "true" or plot.attributes.get("aria-label")


def test_a_report_that_cannot_be_written_says_why(summary, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="part of that path is a file"):
        write_report(summary, tmp_path / "file" / "report.html")
