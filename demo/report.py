"""The tables that the demo prints at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

from stockworker.market.bars import Bar
from stockworker.protocol.ids import JobId
from stockworker.protocol.views import JobView


def jobs_table(views: Sequence[JobView], symbols: Mapping[JobId, str]) -> str:
    """Show the state of each job, and the seconds from its receipt to its completion."""
    head = ("JOB", "TYPE", "SYMBOL", "PRIORITY", "STATE", "ATTEMPTS", "WORKER", "SECONDS")
    rows = [
        (
            view.job_id,
            view.type,
            symbols[view.job_id],
            view.priority.label,
            view.state,
            str(view.attempt),
            view.worker or "-",
            "-" if view.ended_at is None else f"{view.ended_at - view.submitted_at:.2f}",
        )
        for view in views
    ]
    return _table([head, *rows], numbers={"ATTEMPTS", "SECONDS"})


def indicators_table(analyses: Mapping[str, tuple[Sequence[Bar], Mapping[str, Any]]]) -> str:
    """Show the latest values of each symbol, from its bars and the result of its analysis."""
    head = ("SYMBOL", "DAY", "CLOSE", "SMA 50", "BOLLINGER 20", "RSI 14", "MACD", "ATR 14")
    rows = []
    for symbol, (bars, result) in analyses.items():
        latest = {label: values[-1]["value"] for label, values in result["indicators"].items()}
        bands = latest["bollinger_20_2"]
        rows.append(
            (
                symbol,
                result["as_of"],
                f"{bars[-1].close:.2f}",
                f"{latest['sma_50']:.2f}",
                f"{bands['lower']:.2f} - {bands['upper']:.2f}",
                f"{latest['rsi_14']:.1f}",
                f"{latest['macd_12_26_9']['macd']:.2f}",
                f"{latest['atr_14']:.2f}",
            )
        )
    return _table([head, *rows], numbers=set(head) - {"SYMBOL", "DAY"})


def _table(rows: Sequence[tuple[str, ...]], numbers: set[str]) -> str:
    """Align the columns, those of numbers to the right; the first row is the head."""
    columns = [
        [cell.rjust(width) if column[0] in numbers else cell.ljust(width) for cell in column]
        for column in zip(*rows, strict=True)
        for width in [max(map(len, column))]
    ]
    return "\n".join("   " + "  ".join(cells).rstrip() for cells in zip(*columns, strict=True))
