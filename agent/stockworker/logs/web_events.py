"""The catalogue of log events, continued: the events of the web page. PURE."""

from stockworker.logs.event import LogEvent, LogLevel, peer
from stockworker.logs.event import declare as _event


@_event(
    LogLevel.INFO,
    peer("address"),
    "a person signed in",
    "An attempt to sign in to the web page. `accepted` is false for a wrong name or password: many of them from one "
    "`address` are an attack, or a program with an old password.",
)
class WebSignIn(LogEvent):
    account: str
    address: str
    accepted: bool


@_event(
    LogLevel.INFO,
    peer("account"),
    "an operator gave an order",
    "An order that was given on the web page: `order` names it, `target` is the job, worker or type, `account` who gave it. "
    "`status` is what the dispatcher answered.",
)
class WebOrder(LogEvent):
    order: str
    target: str
    account: str
    status: str
