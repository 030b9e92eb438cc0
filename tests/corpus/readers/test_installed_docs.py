import pytest

from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.docstrings import Docstring
from corpusmith.corpus.readers.installed_docs import (
    demonstration_queries,
    document_of,
    locate,
    mask,
    read_installed_docs,
    split_see_also,
    without_name,
)
from corpusmith.errors import CorpusError

PACKAGES = ("numpy", "networkx")


@pytest.fixture(scope="module")
def documents():
    return list(read_installed_docs(CorpusConfig(source="installed-docs", packages=PACKAGES)))


def test_thousands_of_documents_under_public_names(documents):
    ids = {document.id for document in documents}
    assert len(ids) == len(documents) > 1000
    assert {"numpy.linalg.svd", "numpy.sum", "numpy.array", "numpy.ndarray.partition", "networkx.shortest_path"} <= ids
    assert not any(part.startswith("_") for id in ids for part in id.split("."))


def test_documents_are_prose_with_headings_and_metadata(documents):
    svd = next(document for document in documents if document.id == "numpy.linalg.svd")
    assert svd.title == "numpy.linalg.svd"
    assert svd.metadata["summary"] == "Singular Value Decomposition."
    assert svd.metadata["package"] == "numpy"
    assert svd.metadata["kind"] == "function"
    assert "\n# Parameters\n\na : (..., M, N) array_like. " in svd.text
    for noise in (">>>", ":func:`", "``", "\n---", "See Also", ".. "):
        assert noise not in svd.text


def test_links_are_ids_of_documents(documents):
    ids = {document.id for document in documents}
    assert all(link in ids and link != document.id for document in documents for link in document.links)
    assert sum(len(document.links) >= 2 for document in documents) > 200


def test_a_draw_is_always_the_same_and_keeps_related_documents_together(documents):
    config = CorpusConfig(source="installed-docs", packages=("networkx",), maximum_documents=300)
    drawn = list(read_installed_docs(config))
    assert len(drawn) == 300
    assert [document.id for document in drawn] == [document.id for document in read_installed_docs(config)]
    assert sum(bool(document.links) for document in drawn) > 100


def test_see_also_sections_of_every_style_are_taken_out():
    numpydoc = (
        "Text.\n\nSee Also\n--------\neig, np.qr : Both.\nlong_name\n    Its description, here.\n\nNotes\n-----\nKept."
    )
    assert split_see_also(numpydoc) == ("Text.\n\nNotes\n-----\nKept.", ["eig", "np.qr", "long_name"])
    directive = "Text.\n\n.. seealso::\n\n    :func:`torch.linalg.eigh` and :class:`~torch.nn.Linear`\n\nKept."
    assert split_see_also(directive) == ("Text.\n\nKept.", ["torch.linalg.eigh", "torch.nn.Linear"])


def test_short_docstrings_are_no_documents_and_signatures_are_left_out():
    assert document_of(Docstring("a.f", "function", "Too short."), "a") is None
    text = "f(x, /, out=None) -> Tensor\n\nComputes something of use. " + "More words follow here. " * 10
    document = document_of(Docstring("a.f", "function", text), "a")
    assert document is not None
    assert document.metadata["summary"] == "Computes something of use."


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Use svd or numpy.linalg.svd().", "Use or."),
        ("The SVD, not svds or my_svd.", "The, not svds or my_svd."),
    ],
)
def test_a_name_is_removed_as_a_word_in_any_case_and_with_its_path(text, left):
    assert without_name(text, "numpy.linalg.svd") == left


def test_masked_documents_hold_neither_summary_nor_name_nor_links(documents):
    found = demonstration_queries(documents, seed=1, number=40, number_see_also=20)
    texts = {document.id: document.text for document in documents}
    for query_id, query in found.queries.items():
        id = query_id.partition(":")[2]
        masked = found.masked[id]
        name = id.rpartition(".")[2].lower()
        assert (masked.title, masked.links) == ("", ())
        assert set(masked.metadata) == {"package", "kind"}
        assert query in texts[id]
        assert query.lower() not in masked.text.lower()
        assert name not in "".join(c if c.isalnum() or c == "_" else " " for c in masked.text.lower()).split()
        assert name not in query.lower().split()


def test_queries_of_both_kinds_name_documents_that_exist(documents):
    found = demonstration_queries(documents, seed=1, number=40, number_see_also=20)
    ids = {document.id for document in documents}
    assert list(found.kinds.values()).count("known-item") == 40
    assert list(found.kinds.values()).count("see-also") == 20
    for query_id, kind in found.kinds.items():
        id = query_id.partition(":")[2]
        relevant = found.qrels[query_id]
        assert len(found.queries[query_id].split()) >= 5
        assert relevant.keys() <= ids
        if kind == "known-item":
            assert (relevant, found.excluded[query_id]) == ({id: 1}, ())
        else:
            assert len(relevant) >= 2
            assert found.excluded[query_id] == (id,)
            assert id not in relevant


def test_the_draw_depends_on_the_seed_alone(documents):
    first = demonstration_queries(documents, seed=1, number=40)
    assert demonstration_queries(list(reversed(documents)), seed=1, number=40).queries == first.queries
    assert demonstration_queries(documents, seed=2, number=40).queries != first.queries


def test_summaries_that_describe_two_objects_make_no_query():
    text = "Return the mean along the given axis.\n\n" + " ".join(f"word{number}" for number in range(40))
    one, two = (document_of(Docstring(f"a.{name}", "function", text), "a") for name in ("f", "g"))
    assert one is not None
    assert two is not None
    assert demonstration_queries([one], seed=0).queries == {"known-item:a.f": "Return the mean along the given axis"}
    assert demonstration_queries([one, two], seed=0).queries == {}
    assert mask(one).text.startswith("word0 word1")


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(CorpusError, match="package 'no_such_package' is not installed here"):
        list(read_installed_docs(CorpusConfig(source="installed-docs", packages=("no_such_package",))))


def test_the_standard_library_is_found_module_by_module():
    modules = {module: path for _, module, path in locate(("stdlib",))}
    assert modules["json"].is_dir()
    assert modules["random"].name == "random.py"
    assert "_strptime" not in modules
    assert "test" not in modules
