"""The page `docs/job-types.md`, made from the definitions of the built-in job types and from a file of examples."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from stockworker.handlers import data_import, price_update, technical_analysis
from stockworker.handlers.api import Json
from stockworker.handlers.bar_formats import BAR_FIELDS
from stockworker.handlers.definition import COMMON_FAILURES, Definition, Description, Failure, described_fields
from stockworker.handlers.indicators import INDICATORS, Indicator
from stockworker.handlers.kinds import FieldKind

DEFINITIONS: Final[Mapping[str, Definition]] = {
    "data_import": data_import.DEFINITION,
    "price_update": price_update.DEFINITION,
    "technical_analysis": technical_analysis.DEFINITION,
}

_HEAD: Final = """\
# Job types

Every worker can run three job types for stock-market data: `data_import`, `price_update` and `technical_analysis`. They
share a [market-data store](configuration.md#market_data), an SQLite file or a PostgreSQL database. You can add
[job types of your own](#a-job-type-of-your-own).

This page is generated from the code. A test runs every example on it, and compares the result or the error.

- A **payload** is a JSON object. Null is the same as an absent field. A field that is unknown, missing, of the wrong kind
  or out of bounds fails the job. The error names the field, and what is accepted.
- **Settings** are configured on the worker, under `handlers.<type>.settings`. Keep API keys and passwords in a
  [`settings_file`](configuration.md#handlerstype), which only the worker can read.
- A **permanent** failure ends the job immediately. After a **retried** one the job runs again, as long as it has
  [attempts](configuration.md#dispatcherjob_defaults) left.
"""

_COMMON: Final = """\

## Failures of every built-in job type

"""

_BARS: Final = """\

## Bars

A bar is one trading day of one symbol. A source of bars is a CSV file with a header, or a JSON list of objects. The list
may be in an object, as `bars`. A file is UTF-8 text, packed with gzip or not. Columns are separated by commas,
semicolons or tabs.

A column name is recognised in upper and lower case, with spaces and punctuation or without: `Adj. Close`. Other columns
are ignored. Numbers use a decimal point.

| Field | Column names | Value | Meaning |
|---|---|---|---|
"""

_INDICATORS: Final = """\

## Indicators

A parameter is a whole number of days unless the table shows a fraction. An indicator has its first value on the day
that completes the bars that it needs; the table shows their number with the default parameters.

| Indicator | Parameters: default (bounds) | Outputs | Bars needed |
|---|---|---|---|
"""

_FORMULAS: Final = """\

### Formulas

C, H, L and V are close, high, low and volume of a day. n is the period. EMA, SMA, WMA, RSI and ATR are the indicators of
these names.

| Indicator | Formula | Source |
|---|---|---|
"""

_DIFFERENCES: Final = """\

### Differences from TA-Lib

The tests compare every indicator with TA-Lib on thirteen years of prices of five symbols. The values are equal to nine
digits, with these exceptions. Those at the beginning of a series fade out exponentially.

| Indicator | Difference |
|---|---|
"""

_OWN: Final = """\

## A job type of your own

A handler of your own is a Python function or any program. Name it in the configuration of the workers that will run it:
"""

_OWN_PYTHON: Final = """\

### A Python handler

A Python handler is a function `handle(job, context)`. It runs in a child process, and returns the result: any value that
JSON can hold, up to 256 KiB.

- `job` has `id`, `type`, `attempt` and `payload`. A job may run more than once: use `id` to make the handler idempotent.
- `context.settings` are the settings of the job type.
- `context.progress(fraction, message)` publishes the progress. `context.log` is a logger.
- `context.cancelled()` is true once the job must stop. A handler that ignores it is killed after a grace period.
- Raise `PermanentError` if a retry can't help. After any other exception the job is retried.

An installed package can offer a handler in the entry-point group `stockworker.handlers`: the name is the job type, the
value is `package.module:function`.
"""

_OWN_COMMAND: Final = """\

### A command

A command is a program in any language. The payload is on its standard input, and its standard output must be the result
in JSON.

- Exit status 0 completes the job. 65 is a permanent failure; after any other status the job is retried. The end of
  standard error is the text of the failure.
- The environment has `STOCKWORKER_JOB_ID`, `STOCKWORKER_JOB_TYPE` and `STOCKWORKER_ATTEMPT`. With settings, it has
  `STOCKWORKER_SETTINGS_FILE`, the name of a JSON file.
- To stop it, the worker sends SIGTERM, and SIGKILL after a grace period.
"""


def page(examples: Mapping[str, Any]) -> str:
    """The whole page; `examples` is the content of ``docs/job-types.yml``."""
    return "".join(
        (
            _HEAD,
            *(job_type(name, definition, examples[name]) for name, definition in DEFINITIONS.items()),
            _COMMON,
            _failures(COMMON_FAILURES),
            _BARS,
            *(_bar_field(name) for name in BAR_FIELDS),
            _INDICATORS,
            *(_indicator(name, each) for name, each in INDICATORS.items()),
            _FORMULAS,
            *(_row(f"`{name}`", each.formula, each.source) for name, each in INDICATORS.items()),
            _DIFFERENCES,
            *(_row(f"`{name}`", each.differs) for name, each in INDICATORS.items() if each.differs),
            _own(examples["own"]),
        )
    )


def job_type(name: str, definition: Definition, shown: Mapping[str, Any]) -> str:
    """The chapter of a job type; `shown` has its settings and examples."""
    parts = [f"\n## `{name}`\n\n{definition.summary}\n"]
    parts += ["\n### Payload\n\n", _inputs("Field", definition.payload)]
    parts += ["\n### Result\n\n", _outputs(definition.result)]
    if definition.settings is not None:
        parts += [f"\n### Settings\n\nUnder `handlers.{name}.settings`:\n\n", _inputs("Setting", definition.settings)]
    parts += ["\n### Failures\n\n", _failures(definition.failures)]
    parts += ["\n### Examples\n", _settings_block(name, shown), *map(_example, shown["examples"])]
    return "".join(parts)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _inputs(name_of_each: str, of: type) -> str:
    rows = [_row(name_of_each, "Value", "Default", "Meaning"), "|---|---|---|---|\n"]
    for name, description, each in described_fields(of):
        rows.append(_row(f"`{name}`", _accepted(description), _default(description, each), description.meaning))
    return "".join(rows)


def _accepted(description: Description) -> str:
    return description.kind.meaning if isinstance(description.kind, FieldKind) else description.kind


def _default(description: Description, each: "dataclasses.Field[Any]") -> str:
    if description.shown:
        return description.shown
    if each.default is dataclasses.MISSING:
        return "required" if each.default_factory is dataclasses.MISSING else ""
    if each.default is None:
        return ""
    return f"`{each.default:g}`" if isinstance(each.default, float) else f"`{each.default}`"


def _outputs(of: type) -> str:
    rows = [_row("Field", "Value", "Meaning"), "|---|---|---|\n"]
    rows += [_row(f"`{name}`", _accepted(description), description.meaning) for name, description in _output_fields(of)]
    return "".join(rows)


def _output_fields(of: type, prefix: str = "") -> Iterator[tuple[str, Description]]:
    """Every field of a result, each before the fields of the objects inside it."""
    for name, description, _ in described_fields(of):
        yield prefix + name, description
        for part in description.parts:
            yield from _output_fields(part, f"{prefix}{name}{description.place}.")


def _failures(failures: Iterable[Failure]) -> str:
    rows = [_row("Text", "Cause", "Then"), "|---|---|---|\n"]
    for failure in failures:
        text = re.sub(r"\{(\w+)[^}]*\}", r"<\1>", failure.text)
        rows.append(_row(f"`{text}`", failure.cause, "retried" if failure.retried else "permanent"))
    return "".join(rows)


def _bar_field(name: str) -> str:
    each = BAR_FIELDS[name]
    columns = ", ".join(f"`{column}`" for column in each.columns)
    return _row(f"`{name}`", columns, each.kind, each.meaning)


def _indicator(name: str, indicator: Indicator) -> str:
    parameters = ", ".join(
        f"`{each.name}` {each.default:g} ({each.lowest:g} to {each.highest:,g})" for each in indicator.parameters
    )
    outputs = ", ".join(f"`{output}`" for output in indicator.outputs) or "a number"
    needed = indicator.bars_needed(*(each.default for each in indicator.parameters))
    return _row(f"`{name}`: {indicator.title}", parameters, outputs, str(needed))


def _settings_block(name: str, shown: Mapping[str, Any]) -> str:
    if "settings" not in shown:
        return ""
    lines = ["job_processor:", "  handlers:", f"    {name}:", "      settings:"]
    lines += [f"        {key}: {_yaml(value)}" for key, value in shown["settings"].items()]
    return f"\nWith this configuration of the worker:\n{_block('yaml', chr(10).join(lines))}"


def _yaml(value: Json) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list) else f'"{value}"'


def _example(example: Mapping[str, Any]) -> str:
    parts = [f"\n**{example['title']}**\n"]
    for name, content in example.get("files", {}).items():
        parts.append(f"\n`{name}` contains:\n{_block('', content)}")
    for name, content in example.get("answers", {}).items():
        parts.append(f"\n`{name}` answers:\n{_block('', content)}")
    parts.append(f"\nPayload:\n{_block('json', example['payload'])}")
    if "result" in example:
        parts.append(f"\nResult:\n{_block('json', example['result'])}")
    else:
        parts.append(f"\nError:\n{_block('text', example['error'])}")
    return "".join(parts)


def _own(own: Mapping[str, Any]) -> str:
    parts = [_OWN, _block("yaml", own["configuration"])]
    for introduction, example in ((_OWN_PYTHON, own["python"]), (_OWN_COMMAND, own["command"])):
        parts += [introduction, f"\n`{example['file']}`:\n", _block("python", example["code"])]
        for shown in example["examples"]:
            parts.append(_example(shown))
    return "".join(parts)


def _block(language: str, text: str) -> str:
    return f"\n```{language}\n{text.rstrip()}\n```\n"
