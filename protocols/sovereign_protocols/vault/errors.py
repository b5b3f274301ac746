"""Errors of the stored formats."""

from sovereign_crypto.errors import FormatError


class ContentError(FormatError):
    """Authentic bytes whose content breaks the format: the writer was faulty or hostile.

    Args:
        what: the rule that was broken, for people.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
