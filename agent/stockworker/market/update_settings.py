"""The settings of the job type ``price_update``."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated

from stockworker.adapters.http_hosts import Host, Hosts, Network
from stockworker.handlers.api import Json
from stockworker.handlers.kinds import HOSTS, NETWORKS, Checked, Custom
from stockworker.market.bars import DAY
from stockworker.market.interval import interval
from stockworker.market.pages import Pages
from stockworker.market.provider import HEADERS, RATE, Rate, check_template, host_of
from stockworker.market.source_format import FORMATS_KIND, OPTIONS_KIND
from stockworker.protocol.fields import FieldError, check_object, check_text
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.wire import Duration, Integer, Text, Wire


def _interval_names(value: Json) -> dict[str, str]:
    found = {}
    for name, theirs in check_object(value).items():
        try:
            found[interval(name).name] = check_text(theirs, 40)
        except FieldError as error:
            raise error.inside(str(name)[:40]) from None
    return found


INTERVAL_NAMES = Custom("object of texts", _interval_names)


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """The settings; `provider` is required."""

    provider: Annotated[
        str,
        Checked("address with `{symbol}` in it", check_template),
        Wire(
            "Address that answers with the bars of one symbol, such as "
            "`https://prices.example/daily/{symbol}.json?since={since}`. `{since}` is the first day that is needed, and "
            "`{until}` the day after today. `{since:%Y%m%d}` writes it with the codes of strftime, and `{since:epoch}` or "
            "`{since:epoch_ms}` as a number. `{interval}` is the interval. Characters of the symbol are percent-encoded."
        ),
    ]
    intervals: Annotated[
        Mapping[str, str] | None,
        INTERVAL_NAMES,
        Wire("How the provider writes intervals in the address if otherwise: `{5min: 5m, 1mo: 1M}`."),
    ] = None
    format: Annotated[
        str | None,
        Text(40),
        Wire("How the answers are written: the name of a [format](#formats), or of one in `formats`."),
    ] = None
    options: Annotated[
        Mapping[str, Json] | None,
        OPTIONS_KIND,
        Wire("Options that differ from those of `format`. `symbols` also gives the symbols in addresses."),
    ] = None
    formats: Annotated[
        Mapping[str, Mapping[str, Json]] | None,
        FORMATS_KIND,
        Wire(
            "Formats of your own by name; `like` in one is the name of a [format](#formats) whose options it changes."
        ),
    ] = None
    headers: Annotated[
        Mapping[str, str] | None,
        HEADERS,
        Wire(
            "Headers of each request, such as `Authorization`. Keep a token in `settings_file`, not in the configuration."
        ),
    ] = None
    redirect_hosts: Annotated[
        tuple[Host, ...], HOSTS, Wire("Other hosts that a redirect may lead to. They do not get `headers`.")
    ] = ()
    rate: Annotated[
        Rate | None,
        RATE,
        Wire(
            "Most requests in a time. All jobs with this provider and rate that use the same market-data store share it: "
            "those of one machine with SQLite, those of the fleet with PostgreSQL."
        ),
    ] = None
    requests: Annotated[int, Integer(1, 16), Wire("Requests of one job at the same time.")] = 1
    longest_wait_s: Annotated[
        float,
        Duration(0, 3600),
        Wire("How long a symbol may wait for a provider that answers 429 or 503, with `Retry-After` or without."),
    ] = 120.0
    first_day: Annotated[date, DAY, Wire("`{since}` for a symbol that has no bars.")] = date(1970, 1, 1)
    timeout_s: Annotated[float, Duration(0.1, 3600), Wire("Longest time for one answer.")] = 30.0
    limit_mib: Annotated[int, Integer(1, 1024), Wire("Largest answer, unpacked, in MiB (1,048,576 bytes).")] = 16
    next_page: Annotated[
        str | None,
        Text(200),
        Wire(
            "The way to the next page in JSON answers, such as `next_url`: its address, or its token if there is a "
            "`page_parameter`. An answer without it is the last page; a note in the result names the option if it was the first."
        ),
    ] = None
    page_parameter: Annotated[
        str | None,
        Text(60),
        Wire(
            "Name of the parameter in the address that holds the token of a page. Without `next_page`, it holds the number "
            "of the page, and pages are fetched until one is empty."
        ),
    ] = None
    first_page: Annotated[int, Integer(0, 1), Wire("Number of the first page, for `page_parameter`.")] = 1
    limit_pages: Annotated[int, Integer(1, 10_000), Wire("Most pages of one symbol.")] = 100
    limit_rows: Annotated[
        int, Integer(1, 1_000_000_000), Wire("Most rows of an answer. 100,000 days are nearly 400 years of trading.")
    ] = 100_000
    private_addresses: Annotated[
        tuple[Network, ...],
        NETWORKS,
        Wire(
            "The provider's name may lead to these addresses too, such as `10.1.0.0/16`. Otherwise it may lead to public "
            "addresses only."
        ),
    ] = ()

    @property
    def hosts(self) -> Hosts:
        """The hosts to ask."""
        return Hosts((host_of(self.provider), *self.redirect_hosts), self.private_addresses)

    @property
    def pages(self) -> Pages:
        """How the answers are divided."""
        return Pages(self.next_page, self.page_parameter, self.first_page)

    @property
    def limited(self) -> str:
        """What a rate is for: all jobs for which this is the same share it."""
        host, rate = host_of(self.provider), self.rate or Rate(0, 0)
        return f"{host.name}:{host.port or ''} {rate.count}/{rate.period_s:g}s"
