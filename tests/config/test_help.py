import re
from pathlib import Path

import pytest

from vdet_ssl.config import Key, add_keys, get_cfg
from vdet_ssl.config.help import format_keys, keys_page
from vdet_ssl.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_keys_is_the_one_that_the_command_writes():
    assert (ROOT / "docs/keys.md").read_text() == keys_page(), "python -m vdet_ssl.config.help > docs/keys.md"


def test_all_keys_that_have_an_entry_are_listed_with_default_values_and_meaning():
    text = format_keys()
    assert set(re.findall(r"^(\S+) = ", text, re.MULTILINE)) == set(get_cfg().record.keys)
    assert re.search(r"^INPUT.NUM_FRAMES = 8\n    T: frames of a clip; at least 1$", text, re.MULTILINE)


def test_a_prefix_selects_and_lists_detectron2s_keys_too():
    names = set(re.findall(r"^(\S+) = ", format_keys("INPUT.CROP"), re.MULTILINE))
    assert names == {f"INPUT.CROP.{name}" for name in ("TYPE", "SIZE", "AREA", "ASPECT_RATIO", "ENABLED")}
    assert "INPUT.CROP.ENABLED = False  (detectron2's)" in format_keys("INPUT.CROP")
    with pytest.raises(ConfigError, match="no key starts with INPUT.CRUP; the nearest one is INPUT.CROP"):
        format_keys("INPUT.CRUP")


def test_the_case_of_a_prefix_does_not_matter():
    assert format_keys("input.Crop") == format_keys("INPUT.CROP")


def test_a_projects_plain_keys_are_not_said_to_be_detectron2s():
    cfg = get_cfg()
    cfg.INPUT.CROP.MINE = 3
    text = format_keys("INPUT.CROP", cfg)
    assert "INPUT.CROP.MINE = 3  (a project's)" in text and "INPUT.CROP.ENABLED = False  (detectron2's)" in text


def test_a_projects_keys_are_listed_at_the_values_of_its_config():
    cfg = get_cfg()
    add_keys(cfg, [Key("MODEL.NEW.WIDTH", 1, "of the head", needs="MODEL.X y")])
    cfg.MODEL.NEW.WIDTH = 2
    assert format_keys("MODEL.NEW", cfg) == "MODEL.NEW.WIDTH = 2\n    of the head; needs MODEL.X y"
