"""Label maps are read strictly: all classes as they are written, or an error with file and line."""

import pytest

from vdet_ssl.errors import AvaFormatError
from vdet_ssl.structures.label_map import read_label_map

WALK, SIT = 'item {\n  name: "walk"\n  id: 1\n}\n', 'item {\n  name: "sit (down)"\n  id: 2\n}\n'


@pytest.mark.parametrize(
    "text",
    [
        WALK + SIT,
        "\ufeff" + WALK + SIT,
        (WALK + SIT).replace("\n", "\r\n"),
        "label { name: 'walk', label_id: 1, label_type: PERSON_MOVEMENT } item: { id: 2 name: \"sit (down)\" }",
        f"# two classes {{\n{WALK}# item {{\n#   name: 'old'\n#   id: 7\n# }}\n{SIT}",
    ],
)
def test_healthy_label_maps(tmp_path, text):
    (tmp_path / "l.pbtxt").write_text(text, newline="")
    assert read_label_map(tmp_path / "l.pbtxt") == {1: "walk", 2: "sit (down)"}


def test_a_number_sign_and_braces_in_a_name_are_of_the_name(tmp_path):
    (tmp_path / "l.pbtxt").write_text('item { name: "take #1 {once}" id: 1 }')
    assert read_label_map(tmp_path / "l.pbtxt") == {1: "take #1 {once}"}


@pytest.mark.parametrize(
    "text, line, reason",
    [
        (WALK + SIT[:-2], 5, "'item {' is not a class"),
        (WALK + "itm\n" + SIT, 5, "'itm' is not a class"),
        (WALK + SIT + "id: 3 }", 9, "'id: 3 }' is not a class"),
        (WALK + SIT.replace("id: 2", "id: 2x"), 5, "needs name"),
        (WALK + SIT.replace("id: 2", "id: 2\n  id: 3"), 5, "'id: 3' in it"),
        (WALK + SIT.replace("name: ", "nam: "), 5, "needs name"),
        (WALK + SIT.replace("id: 2", "\0\0id: 2"), 5, "in it"),
        (WALK + SIT.replace("sit", "s\x07it"), 5, "cannot be printed"),
        (WALK + SIT.replace("id: 2", "id: 1"), 5, "earlier class"),
        (WALK + SIT.replace("sit (down)", "walk"), 5, "earlier class"),
        ("", 1, "no class found"),
        ("# item { name: 'walk' id: 1 }", 1, "no class found"),
        ('{"1": "walk"}', 1, "looks like json"),
        ("1,walk\n2,sit\n", 1, "looks like csv"),
        ("walk\nsit\n", 1, "looks like a text list"),
        ("1 walk\n2 sit\n", 1, "looks like a text list"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_line(tmp_path, text, line, reason):
    (tmp_path / "l.pbtxt").write_text(text)
    with pytest.raises(AvaFormatError, match=rf"l\.pbtxt:{line}: .*{reason}"):
        read_label_map(tmp_path / "l.pbtxt")


def test_ids_that_are_left_out_are_named(tmp_path, caplog):
    (tmp_path / "l.pbtxt").write_text(WALK + SIT.replace("id: 2", "id: 5"))
    read_label_map(tmp_path / "l.pbtxt")
    assert "its 2 classes leave out the ids 2, 3, 4" in caplog.text
    caplog.clear()
    (tmp_path / "l.pbtxt").write_text(WALK + SIT.replace("id: 2", "id: 3"))  # AVA's evaluation has no class 2
    read_label_map(tmp_path / "l.pbtxt")
    assert not caplog.text
