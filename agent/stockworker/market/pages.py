"""The pages of a provider's answer: the address of the next one. Pure."""

import io
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from stockworker.market.json_records import ABSENT, NotRecords, read_value
from stockworker.protocol.frozen import dataclass

_LONGEST_ADDRESS: Final = 8_000


@dataclass(frozen=True, slots=True)
class Pages:
    """How a provider divides long answers.

    Attributes:
        next_page: the way to the next page in each answer: its address, or its token if there is a `parameter`.
        parameter: what the address of a page contains: its token, or its number if there is no `next_page`.
        first: the number of the first page.
    """

    next_page: str | None = None
    parameter: str | None = None
    first: int = 1

    @property
    def counted(self) -> bool:
        """Whether pages have numbers, and the last one is empty."""
        return self.next_page is None and self.parameter is not None

    def begin(self, url: str) -> str:
        """The address of the first page."""
        return self._with(url, str(self.first)) if self.counted else url

    def after(self, first: str, url: str, body: bytes, number: int) -> str | None:
        """The address of the next page; None if this is the last one.

        Args:
            first: the address of the first page.
            url: the address of this page.
            body: its content.
            number: how many pages were read.

        Raises:
            NotRecords: the page is not JSON, or its way to the next page is not valid.
        """
        if self.counted:
            return self._with(first, str(self.first + number))
        found = None if self.next_page is None else _value(body, self.next_page)
        if found is None:
            return None
        if self.parameter is not None:
            return self._with(first, found)
        try:
            return urljoin(url, found)
        except ValueError as error:
            raise NotRecords("the value of next_page is not a valid address") from error

    def misses_next(self, body: bytes) -> bool:
        """Whether a page has nothing at `next_page`, not even null: it may be the only one, or the option is misspelt."""
        return self.next_page is not None and _read(body, self.next_page) is ABSENT

    def _with(self, url: str, value: str) -> str:
        parts = urlsplit(url)
        others = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != self.parameter]
        query = urlencode([*others, (self.parameter or "", value)], quote_via=quote)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def _read(body: bytes, path: str) -> Any:
    try:
        return read_value(io.TextIOWrapper(io.BytesIO(body), "utf-8-sig"), path)
    except UnicodeError as error:
        raise NotRecords("is not JSON in UTF-8") from error


def _value(body: bytes, path: str) -> str | None:
    """A text or a number in a JSON text; None if it is missing, null or empty.

    Raises:
        NotRecords: the text is not JSON, or the value is something else.
    """
    found = _read(body, path)
    if found is ABSENT or found is None or found == "":
        return None
    if isinstance(found, bool) or not isinstance(found, str | int) or len(str(found)) > _LONGEST_ADDRESS:
        raise NotRecords(f"the value of next_page, {path}, is neither an address nor a token")
    return str(found)
