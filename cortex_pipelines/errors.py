"""The root of every typed error: what is wrong, where, and what to do, in one line."""


class CortexError(Exception):
    """An error whose text is written for the person who has to act on it."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
