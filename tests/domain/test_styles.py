"""Styles of the WebUI's styles.csv (specification 1.1, 5.2)."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbrush.domain.styles import Style, apply_styles, lift_styles, read_styles

PHOTO = Style("photo", "photo of {prompt}, sharp", "drawing")
WARM = Style("warm", "warm light")
PLAIN = Style("plain", "", "busy, {prompt}")


@pytest.mark.parametrize(
    ("styles", "prompt", "negative", "expected"),
    [
        ([PHOTO], "a cat", "dog", ("photo of a cat, sharp", "dog, drawing")),
        ([WARM], "a cat ", "", ("a cat, warm light", "")),
        ([WARM], "", "", ("warm light", "")),
        ([PHOTO, WARM], "a cat", "", ("photo of a cat, sharp, warm light", "drawing")),
        ([WARM, PHOTO], "a cat", "", ("photo of a cat, warm light, sharp", "drawing")),
        ([PLAIN], "a cat", "dog", ("a cat", "busy, dog")),
        ([Style("twice", "{prompt} and {prompt}")], "x", "", ("x and x", "")),
        ([], " a cat ", " dog ", (" a cat ", " dog ")),
    ],
)
def test_styles_are_applied_from_left_to_right(
    styles: list[Style], prompt: str, negative: str, expected: tuple[str, str]
) -> None:
    """`{prompt}` is substituted, anything else appended with a comma."""
    assert apply_styles(styles, prompt, negative) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name,prompt,negative_prompt\nphoto,"photo of {prompt}, sharp",drawing\n', [PHOTO]),
        ("\ufeffname,prompt,negative_prompt\r\nwarm,warm light,\r\n", [WARM]),
        ("name,text\nwarm, warm light\n", [WARM]),  # before there were negative prompts
        ('negative_prompt,name,prompt\n"busy, {prompt}",plain,\n', [PLAIN]),
        ("name,prompt\nwarm,cold\nwarm,warm light", [WARM]),
        ("name,prompt\nwarm\n,x\n\n", [Style("warm")]),
        ("prompt\nx\n", []),
        ("", []),
        ('name,prompt,negative_prompt\nlines,"a\nb","say ""hi"""\n', [Style("lines", "a\nb", 'say "hi"')]),
    ],
)
def test_a_styles_file_is_read(text: str, expected: list[Style]) -> None:
    assert read_styles(text) == expected


CELLS = st.text(
    alphabet=st.characters(exclude_characters="\x00\ufeff", exclude_categories=["Cs"]), max_size=30
)
STYLES = st.lists(
    st.builds(Style, CELLS.filter(lambda name: name != name[:0] and not name.startswith(" ")), CELLS, CELLS),
    max_size=4,
    unique_by=lambda style: style.name,
)


@given(STYLES)
def test_what_a_csv_writer_wrote_is_read(styles: list[Style]) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerow(["name", "prompt", "negative_prompt"])
    writer.writerows([style.name, style.prompt, style.negative_prompt] for style in styles)
    assert read_styles(file.getvalue()) == styles


@given(st.text(max_size=200), STYLES)
def test_no_text_breaks_them(text: str, styles: list[Style]) -> None:
    read_styles(text)
    apply_styles(styles, text, text)
    names, _, _ = lift_styles(styles, text, text)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("styles", [[PHOTO], [WARM], [PHOTO, WARM], [WARM, PHOTO], [PHOTO, PLAIN], []])
def test_styles_are_lifted_out_of_what_they_were_applied_to(styles: list[Style]) -> None:
    """Specification 5.2: recognised in a pasted infotext."""
    painted = apply_styles(styles, "a cat", "dog")
    assert lift_styles([PLAIN, WARM, PHOTO], *painted) == ([style.name for style in styles], "a cat", "dog")


@pytest.mark.parametrize("styles", [[PLAIN, PHOTO], [PHOTO, WARM, PLAIN]])
def test_where_the_order_cannot_be_told_the_same_prompts_come_of_it(styles: list[Style]) -> None:
    painted = apply_styles(styles, "a cat", "dog")
    names, *prompts = lift_styles([PLAIN, WARM, PHOTO], *painted)
    by_name = {style.name: style for style in styles}
    assert apply_styles([by_name[name] for name in names], *prompts) == painted


def test_a_style_is_lifted_only_whole() -> None:
    assert lift_styles([PHOTO], "photo of a cat, sharp", "") == ([], "photo of a cat, sharp", "")
    assert lift_styles([Style("both", "aba{prompt}bab")], "abab", "") == ([], "abab", "")
    assert lift_styles([Style("nothing")], "a cat", "") == ([], "a cat", "")
