"""Griffe's extension for mkdocs.yml: our docstrings have no blank line between their sections, its parser wants one."""

import re
from typing import Any

from griffe import Extension, Object

_SECTION = re.compile(r"(?<=\S)\n(?=(?:Args|Attributes|Raises|Returns|Yields):\n)")


class SeparateSections(Extension):
    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _SECTION.sub("\n\n", obj.docstring.value)
