"""What a folder or a tar file holds beside its videos: counted and said, so that nobody misses any."""

import os
from collections import Counter
from collections.abc import Iterable


def count_endings(names: Iterable[str]) -> Counter[str]:
    """Return the endings (".txt", in lower case; "" for none) of files and how many have each; hidden files do not count."""
    visible = (name for name in map(os.path.basename, names) if not name.startswith("."))
    return Counter(os.path.splitext(name)[1].lower() for name in visible)


def describe_left_out(endings: Counter[str]) -> str:
    """Say how many files are left out, by their endings, the most frequent ones first; "" where there are none."""
    if not endings:
        return ""
    parts = [f"{count} {ending or 'without one'}" for ending, count in endings.most_common(8)]
    more = ["..."] if len(endings) > 8 else []
    return f"{endings.total()} files are left out by their ending: {', '.join(parts + more)}"
