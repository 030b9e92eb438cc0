import pytest

from corpusmith.corpus.readers.plain import split_title


def test_a_short_first_line_that_stands_alone_is_the_title():
    assert split_title("On Waves\n\nThe sea is never still.") == ("On Waves", "The sea is never still.")
    assert split_title("On Waves\n========\nThe sea.") == ("On Waves", "The sea.")


@pytest.mark.parametrize(
    "text",
    [
        "A sentence that ends here.\n\nAnother one.",
        "one line only",
        "two lines\nwithout a gap\n\nmore",
        "123\n\nmore text",
        "word " * 20 + "\n\nmore text",
    ],
)
def test_otherwise_there_is_no_title_and_the_text_is_whole(text):
    assert split_title(text) == ("", text)
