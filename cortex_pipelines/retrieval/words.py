"""Words of English text, by their stems: what a question, a requirement and a passage are compared by."""

import re
from functools import cache
from typing import Any

# What a question or a requirement has in common with any text.
_STOP = (
    "a an and any are as at be been by can could did do does for from had has have how i if in is it its "
    "may me must my not no of on or our shall should so than that the their them there these they this "
    "those to was we were what when where which who whom whose why will with would you your"
)
STOP = frozenset(_STOP.split())
WORD = re.compile(r"\w+")


def stems(text: str, drop: bool = False) -> list[str]:
    """The stems of a text's words, in order; `drop` leaves out those that any text has."""
    words = [word.lower() for word in WORD.findall(text)]
    found: list[str] = _stemmer().stemWords([word for word in words if not (drop and word in STOP)])
    return found


@cache
def _stemmer() -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer("english")
