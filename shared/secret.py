"""A password or code on its way through the program (design idea 8, D12)."""

from typing import NoReturn


class Secret:
    """Text that shows as `***` wherever it is printed, formatted, logged or put in an exception."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give the text, to hash it or to put it in the message to its owner; nothing else."""
        return self._text

    def __len__(self) -> int:
        return len(self._text)

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled or copied")
