from hypothesis import given
from hypothesis import strategies as st

from corpusmith.corpus.readers.restructured import restructured_to_text

NUMPYDOC = """Singular Value Decomposition.

When `a` is a 2D array, then :func:`~numpy.linalg.qr` and ``a @ b``
are related [1]_.

.. versionadded:: 1.8

Parameters
----------
a : (..., M, N) array_like
    A real or complex array
    with ``a.ndim >= 2``.
full_matrices : bool, optional
    If True (default), all of it.

Empty Section
-------------

Examples
--------
>>> import numpy as np
>>> np.ones(2)
array([1., 1.])

Afterwards.
"""


def test_numpydoc_becomes_paragraphs_and_headings():
    assert restructured_to_text(NUMPYDOC) == (
        "Singular Value Decomposition.\n\n"
        "When a is a 2D array, then numpy.linalg.qr and a @ b are related.\n\n"
        "# Parameters\n\n"
        "a : (..., M, N) array_like. A real or complex array with a.ndim >= 2.\n\n"
        "full_matrices : bool, optional. If True (default), all of it.\n\n"
        "# Examples\n\nAfterwards."
    )


def test_google_sections_and_admonitions():
    source = (
        "Sum it.\n\nArgs:\n    x (Tensor): the input\n        tensor.\n    dim (int): where.\n\n"
        ".. note::\n    Mind this.\n"
    )
    assert restructured_to_text(source) == (
        "Sum it.\n\n# Parameters\n\nx (Tensor): the input tensor.\n\ndim (int): where.\n\nNote: Mind this."
    )


def test_field_lists_become_sentences():
    assert restructured_to_text(":param x: the thing\n:returns: another\n") == "x: the thing\n\nReturns: another"


def test_a_role_at_the_start_of_a_line_is_no_field():
    assert restructured_to_text("given :attr:`probs` or\n:attr:`logits` here") == "given probs or logits here"


def test_names_with_a_trailing_underscore_keep_it():
    assert restructured_to_text("The method requires_grad_ and ``coef_`` stay.") == (
        "The method requires_grad_ and coef_ stay."
    )


def test_code_goes_from_docstrings_and_stays_in_files():
    source = "Run it::\n\n    # comment\n    x = 1\n\nDone.\n"
    assert restructured_to_text(source) == "Run it:\n\nDone."
    assert restructured_to_text(source, keep_code=True) == "Run it:\n\n # comment\nx = 1\n\nDone."


def test_levels_follow_the_order_of_underlines():
    assert restructured_to_text("Top\n===\n\nSub\n---\n\nText.\n\nNext\n====\n\nText.") == (
        "# Top\n\n## Sub\n\nText.\n\n# Next\n\nText."
    )


@given(st.text(alphabet="ab:`*.-=#>\n _|\\"))
def test_any_text_is_read(source):
    restructured_to_text(source)
    restructured_to_text(source, keep_code=True)
