"""The generated parts of `docs/job-types.md`, made from the built-in job types and from a file of examples."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from stockworker.handlers import BUILT_IN_MEMORY
from stockworker.handlers.definition import COMMON_FAILURES, Definition, Failure
from stockworker.handlers.kinds import Written
from stockworker.market import data_import, price_update, technical_analysis
from stockworker.market.bar_fields import BAR_FIELDS
from stockworker.market.indicators.declaration import Indicator
from stockworker.market.indicators.table import INDICATORS
from stockworker.market.source_format import PROFILES, SourceFormat
from stockworker.protocol.ids import JobType
from stockworker.protocol.wire import REQUIRED, PlanField, plan_of
from stockworker.worker.leftovers import KEPT

DEFINITIONS: Final[Mapping[str, Definition]] = {
    "data_import": data_import.DEFINITION,
    "price_update": price_update.DEFINITION,
    "technical_analysis": technical_analysis.DEFINITION,
}


def sections(examples: Mapping[str, Any]) -> Mapping[str, str]:
    """Every generated part by its name; `examples` is the content of ``docs/job-types.yml``."""
    own = examples["own"]
    return {
        **{
            name: job_type(name, definition, BUILT_IN_MEMORY[JobType(name)], examples[name])
            for name, definition in DEFINITIONS.items()
        },
        "failures": _failures(COMMON_FAILURES),
        "bars": _table(
            ("Field", "Column names", "Value", "Meaning"),
            ((f"`{name}`", _code(each.columns), each.kind, each.meaning) for name, each in BAR_FIELDS.items()),
        ),
        "formats": _table(
            ("Format", "Options"),
            ((f"`{name}`", _options(options)) for name, options in PROFILES.items()),
        ),
        "options": _inputs("Option", SourceFormat),
        "indicators": _table(
            ("Indicator", "Parameters: default (bounds)", "Values", "Bars needed"),
            (_indicator(name, each) for name, each in INDICATORS.items()),
        ),
        "formulas": _table(
            ("Indicator", "Formula", "Source"),
            ((f"`{name}`", each.formula, each.source) for name, each in INDICATORS.items()),
        ),
        "differences": _table(
            ("Indicator", "Difference"),
            ((f"`{name}`", each.differs) for name, each in INDICATORS.items() if each.differs),
        ),
        "configuration": _block("yaml", own["configuration"]),
        "leftovers": _table(
            ("State of the process", "After a job that has changed it"),
            ((each.name, "restored" if each.is_restored else "the process ends") for each in KEPT),
        ),
        **{name: _own(own[name]) for name in ("python", "coroutine", "command")},
    }


def job_type(name: str, definition: Definition, memory_bytes: int, shown: Mapping[str, Any]) -> str:
    """The tables of a job type; `shown` has its settings and examples."""
    parts = ["### Payload\n\n", _inputs("Field", definition.payload)]
    parts += [
        "\n### Result\n\n",
        _results(definition.result),
    ]
    if definition.several is not None:
        parts += ["\nOf a job with `symbols`:\n\n", _results(definition.several)]
    if definition.settings is not None:
        parts += [f"\n### Settings\n\nUnder `handlers.{name}.settings`:\n\n", _inputs("Setting", definition.settings)]
    memory = f"{memory_bytes >> 20}M"
    parts.append(
        f"\n### Memory\n\nA job may use {memory} of memory by default. To change this, set `handlers.{name}.limits.memory`.\n"
    )
    parts += ["\n### Failures\n\n", _failures(definition.failures), "\n### Examples\n"]
    if "settings" in shown:
        parts += ["\nWith this configuration of the worker:\n", _settings(name, shown["settings"])]
    return "".join([*parts, *map(_example, shown["examples"])])


def _results(of: type) -> str:
    rows = ((f"`{path}`", each.kind.notation, each.meaning) for path, each in _outputs(of))
    return _table(("Field", "Value", "Meaning"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n" for cells in lines)


def _inputs(called: str, of: type) -> str:
    return _table(
        (called, "Value", "Default", "Meaning"),
        ((f"`{each.name}`", each.kind.notation, _default(each.absent), each.meaning) for each in plan_of(of).fields),
    )


def _default(absent: Any) -> str:
    match absent:
        case None:
            return ""
        case () | "":
            return "none"
        case tuple():
            return _code(str(each) or " " for each in absent)
        case bool():
            return f"`{str(absent).lower()}`"
        case float():
            return f"`{absent:g}`"
        case _:
            return "required" if absent is REQUIRED else f"`{absent}`"


def _outputs(of: type, prefix: str = "") -> Iterator[tuple[str, PlanField]]:
    """Every field of a result with its path, each before the fields of the objects inside it."""
    for each in plan_of(of).fields:
        yield prefix + each.name, each
        if isinstance(each.kind, Written):
            for part in each.kind.classes:
                yield from _outputs(part, f"{prefix}{each.name}{each.kind.place}.")


def _failures(failures: Iterable[Failure]) -> str:
    return _table(
        ("Error", "Cause", "Then"),
        ((f"`{_with_names(each.text)}`", each.cause, "retried" if each.retried else "permanent") for each in failures),
    )


def _with_names(text: str) -> str:
    return re.sub(r"\{(\w+)[^}]*\}", r"<\1>", text)


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`: `{json.dumps(value, ensure_ascii=False)}`" for name, value in options.items())


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _indicator(name: str, indicator: Indicator) -> tuple[str, ...]:
    parameters = ", ".join(
        f"`{each.name}` {each.default:g} ({each.lowest:g} to {each.highest:,g})" for each in indicator.parameters
    )
    needed = indicator.bars_needed(*(each.default for each in indicator.parameters))
    return f"`{name}`: {indicator.title}", parameters, _code(indicator.outputs) or "a number", str(needed)


def _settings(name: str, settings: Mapping[str, Any]) -> str:
    lines = ["job_processor:", "  handlers:", f"    {name}:", "      settings:"]
    for key, value in settings.items():
        lines.append(f"        {key}: [{', '.join(value)}]" if isinstance(value, list) else f'        {key}: "{value}"')
    return _block("yaml", "\n".join(lines))


def _own(example: Mapping[str, Any]) -> str:
    return "".join([f"`{example['file']}`:\n", _block("python", example["code"]), *map(_example, example["examples"])])


def _example(example: Mapping[str, Any]) -> str:
    parts = [f"\n**{example['title']}**\n"]
    if "stored" in example:
        parts.append(f"\nThe store has the prices of {' and '.join(example['stored'])} in `sample-data/`.\n")
    for name, content in example.get("files", {}).items():
        parts += [f"\n`{name}` contains:\n", _block("", content)]
    for name, content in example.get("answers", {}).items():
        parts += [f"\n`{name}` answers:\n", _block("", content)]
    parts += ["\nPayload:\n", _block("json", example["payload"])]
    name, language = ("result", "json") if "result" in example else ("error", "text")
    return "".join([*parts, f"\n{name.capitalize()}:\n", _block(language, example[name])])


def _block(language: str, text: str) -> str:
    return f"\n```{language}\n{text.rstrip()}\n```\n"
