"""Label maps: the pbtxt files that list the actions of AVA and of data sets like it.

Read strictly: what is not understood is refused, since a class that is passed over shifts all that follow.
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from vdet_ssl.errors import AvaFormatError
from vdet_ssl.structures.ava_csv import FilePath, errors_named

_AVA_LEFT_OUT = {2, 16, 18, 19, 21, 23, 25, 31, 32, 33, 35, 39, 40, 42, 44, 50, 53, 55, 71, 75}  # of 80, in evaluation
_TEXT_FIELD = r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'"""
_BLANK = " \t\r\n,;"

logger = logging.getLogger(__name__)


def read_label_map(path: FilePath) -> dict[int, str]:
    """Read an action list (pbtxt with blocks of name and id or label_id) as a dict id -> name in the file's order.

    Raises:
        AvaFormatError: no class, a class without name or id, two of one name or id, or anything beside the classes.
    """
    with errors_named(path):
        text = Path(path).read_text(encoding="utf-8-sig")
    _refuse_other_formats(path, text)
    text = re.sub(rf"({_TEXT_FIELD})|#[^\n]*", lambda match: match[1] or "", text)  # without comments
    names: dict[int, str] = {}
    end = 0
    for block in [*re.finditer(rf"\w+\s*:?\s*\{{((?:[^{{}}\"']|{_TEXT_FIELD})*)\}}", text), None]:
        between = text[end : block.start() if block else None]
        line = text.count("\n", 0, end + len(between) - len(between.lstrip(_BLANK))) + 1
        if between.strip(_BLANK):
            what = between.strip(_BLANK).splitlines()[0][:60]
            raise AvaFormatError(path, line, f'{what!r} is not a class: item {{ name: "walk" id: 14 }}')
        if block:
            action_id, name = _parse_class(path, line, block[1])
            if action_id in names or name in names.values():
                reason = f"class {action_id} {name!r} has the id or the name of an earlier class"
                raise AvaFormatError(path, line, reason)
            names[action_id] = name
            end = block.end()
    if not names:
        raise AvaFormatError(path, 1, 'no class found; expected blocks like item { name: "walk" id: 14 }')
    _name_gaps(path, names)
    return names


def _refuse_other_formats(path: FilePath, text: str) -> None:
    """Name the format of a file that is a list of classes, but not a pbtxt."""
    kinds = {
        r"\s*[\[{]": "json",
        r"\s*(\d+\s*[,;:\t]|.*[,;\t]\s*\d+\s*$)": "csv",
        r"\s*\d+ |\s*[\w ()/]+\s*$": "a text list",
    }
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    found = next((kind for start, kind in kinds.items() if re.match(start, first)), "")
    if found and not re.search(r"\w\s*:?\s*\{", text[:10_000]):
        reason = f'this looks like {found}; classes have to be a pbtxt with blocks like item {{ name: "walk" id: 14 }}'
        raise AvaFormatError(path, 1, reason)


def _parse_class(path: FilePath, line: int, block: str) -> tuple[int, str]:
    """Return id and name from what is between the braces of a class."""
    fields: dict[str, str] = {}
    field = re.compile(rf"[\s,;]*(?:(\w+)\s*:\s*({_TEXT_FIELD}|[\w.+-]+)(?=[\s,;]|$)|$)")
    end = 0
    while end < len(block):
        match = field.match(block, end)
        if match is None or match[1] in fields:
            raise AvaFormatError(path, line, f"a class has {block[end:].strip().splitlines()[0][:60]!r} in it")
        if match[1]:
            fields[match[1]] = match[2]
        end = match.end()
    name, action_id = fields.get("name", ""), fields.get("id", fields.get("label_id", ""))
    if not (re.fullmatch(_TEXT_FIELD, name) and re.fullmatch(r"[0-9]{1,9}", action_id)) or {"id", "label_id"} <= set(
        fields
    ):
        raise AvaFormatError(path, line, 'a class needs name: "..." and id: N (or label_id: N)')
    name = re.sub(r"\\(.)", r"\1", name[1:-1])
    if not name.strip() or not name.isprintable():
        raise AvaFormatError(path, line, f"the name {name!r} is empty, or has characters that cannot be printed")
    return int(action_id), name


def _name_gaps(path: FilePath, names: Iterable[int]) -> None:
    """Warn of ids that are left out, unless these are the 20 that AVA's evaluation leaves out."""
    gaps = sorted(set(range(1, min(max(names), 1000))) - set(names))
    if gaps and not set(gaps) <= _AVA_LEFT_OUT:
        some = ", ".join(map(str, gaps[:10])) + (", ..." if len(gaps) > 10 else "")
        logger.warning(f"{path}: its {len(list(names))} classes leave out the ids {some}; boxes of these have no class")
