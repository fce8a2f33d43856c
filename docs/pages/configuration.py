"""The reference page and the sample file, generated from the schema."""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stockworker.config.key import Key, keys
from stockworker.config.kinds import AnyKind, Each, ListOf, Section, ValueKind
from stockworker.config.schema import Config

INTRODUCTION = """\
# Configuration

The configuration is the section `job_processor` of YAML files, which are read in this order:

1. `/etc/stockworker/job_processor.yml`.
2. All `.yml` files in `/etc/stockworker/job_processor.d/`, in the order of their names. Files whose names begin with a
   dot are not read. `stockworker check` warns of other names, such as `site.yaml`.
3. `/etc/stockworker/instances/<instance>.yml`, only for this instance: only `stockworker@2.service` reads
   `instances/2.yml`.

Commands such as `stockworker submit`, and programs that use `Client.from_config()`, read the first of these:

1. The file that the option `--config` names, else the environment variable `STOCKWORKER_CONFIG`.
2. `~/.config/stockworker/client.yml` (below `$XDG_CONFIG_HOME` if that is set). Earlier versions called it
   `stockworker.yml`, and it is read under that name, too.
3. `/etc/stockworker/client.yml`, for all users of the machine.
4. `/etc/stockworker/job_processor.yml`, as the services do.

So an operator's commands use the operator's certificate, even on a machine with services. The services never read the
files 1 to 3. `stockworker check` shows which file is in use.

Later files override earlier ones. Sections are merged key by key. A list or a single value replaces the earlier one, and
`null` restores the default. A section whose line is followed by no keys is an error: if you comment out its keys, comment
out its own line too.

- A **duration** is a number of seconds, or a number with `ms`, `s`, `m`, `h` or `d`: `30`, `30s`, `1.5h`.
- A **size** is a number of bytes, or a number with `K`, `M`, `G` or `T` (powers of 1024): `512M`.
- An **ID** has 1 to 64 of the characters `A-Z a-z 0-9 . _ -`.
- Text needs no quotes, even if it looks like a number: `password: 0123` is a text of four characters. Only in `settings`
  of a handler it does: YAML reads `12:30`, `0123`, `0x1F` and `1_000` as numbers. They are errors: write `"12:30"`.
- If the unit passes a copy of a secret file as a systemd credential (`LoadCredential=`, with the name of the file), the
  copy is read. The units do this for `/etc/stockworker/tls/<hostname>-<instance>.key` and `dispatcher.key`.
- The files, and the files that they name, must belong to root or to the user of the program. No other user may be able to
  write them: `chmod go-w FILE`.
- Aliases (`*name`), merge keys (`<<`) and tags (`!name`) are not supported.

Editors complete and check the keys with the JSON Schema `/usr/share/doc/stockworker/job_processor.schema.json`. Editors with
the YAML language server read it if this is the first line of a file:

    # yaml-language-server: $schema=/usr/share/doc/stockworker/job_processor.schema.json

Run `stockworker check` before you start or reload a service. It lists all errors with file and line.

A file for the `database`, `redis` or `rabbitmq` backend needs one change: set `backend: mqtt`, and configure the broker
under `mqtt`. The sections of the other backends may stay; they are ignored.
"""

_SAMPLE_INTRODUCTION = """\
# Configuration of stockworker. All keys and their defaults: /usr/share/doc/stockworker/configuration.md
# Check a change before you restart a service: stockworker check
# With several workers on this machine, put their differences into instances/<instance>.yml beside this file.
"""

# Keys that most installations set: path, value, and whether the sample sets the key or only shows it in a comment.
_SAMPLE = (
    ("queue.backend", "mqtt", True),
    ("queue.mqtt.host", "localhost", True),
    ("tls.ca_file", "/etc/stockworker/tls/ca.crt", False),
    ("tls.cert_file", "/etc/stockworker/tls/worker.crt", False),
    ("tls.key_file", "/etc/stockworker/tls/worker.key", False),
    ("worker.max_concurrent_jobs", "5", True),
    ("worker.tags", "[ssd, eu]", False),
    ("handlers.resize_chart.command", "[php, /opt/jobs/resize_chart.php]", False),
    ("handlers.resize_chart.limits.memory", "512M", False),
)


def reference() -> str:
    """The page `docs/configuration.md`."""
    return f"{INTRODUCTION}{''.join(map(_table, chapters()))}"


def sample() -> str:
    """The file `etc/stockworker/job_processor.yml`."""
    lines = [_SAMPLE_INTRODUCTION, "job_processor:"]
    written: set[str] = set()
    for path, value, _ in _SAMPLE:
        names = path.split(".")
        for depth in range(1, len(names)):
            if (section := ".".join(names[:depth])) not in written:
                lines += [""] * (depth == 1) + [_line(names[:depth])]
                written.add(section)
        lines += [f"{_line(names)} {value}  # {_first_sentence(path)}"]
    return "\n".join(lines) + "\n"


def _line(names: list[str]) -> str:
    """The line of a key. A key that is only shown becomes a comment with the same indentation."""
    is_set = {path.rsplit(".", up)[0] for path, _, is_set in _SAMPLE if is_set for up in range(path.count(".") + 1)}
    prefixes = [".".join(names[:depth]) for depth in range(1, len(names) + 1)]
    live = sum(prefix in is_set for prefix in prefixes)
    if live == len(names):
        return f"{'  ' * live}{names[-1]}:"
    return f"{'  ' * (live + 1)}# {'  ' * (len(names) - live - 1)}{names[-1]}:"


def _first_sentence(path: str) -> str:
    section, _, name = path.rpartition(".")
    of = next(each.of for each in chapters() if re.fullmatch(each.path.replace("<type>", "[^.]+"), section))
    meaning = next(key.meaning for each, key, _ in keys(of) if each == name)
    return meaning.partition(". ")[0].partition(":")[0].removesuffix(".")


@dataclass(frozen=True, slots=True)
class Chapter:
    """A section of the configuration: its path, its dataclass and its meaning."""

    path: str
    of: type
    meaning: str


def chapters(of: type = Config, prefix: str = "") -> Iterator[Chapter]:
    """All sections, each before its subsections."""
    for name, key, _ in keys(of):
        match key.kind:
            case Section(of=inner):
                chapter = Chapter(f"{prefix}{name}", inner, key.meaning)
            case Each(of=inner, shown=shown):
                chapter = Chapter(f"{prefix}{name}.{shown}", inner, key.meaning)
            case _:
                continue
        yield chapter
        yield from chapters(inner, f"{chapter.path}.")


@dataclass(frozen=True, slots=True)
class Row:
    """A key: its name, and in Markdown its allowed values, its default (empty if it has none) and its meaning."""

    name: str
    allowed: str
    default: str
    meaning: str


def rows(chapter: Chapter) -> list[Row]:
    """The keys of a section, without its subsections."""
    return [
        Row(name, _allowed(key.kind), _default(key, field), key.meaning)
        for name, key, field in keys(chapter.of)
        if not isinstance(key.kind, Section | Each)
    ]


def _table(chapter: Chapter) -> str:
    lines = [f"| `{row.name}` | {row.allowed} | {row.default} | {row.meaning} |\n" for row in rows(chapter)]
    head = "\n| Key | Value | Default | Meaning |\n|---|---|---|---|\n" if lines else ""
    return f"\n## `{chapter.path}`\n\n{chapter.meaning}\n{head}{''.join(lines)}"


def _allowed(kind: AnyKind) -> str:
    match kind:
        case ValueKind():
            return kind.meaning
        case ListOf(example=example):
            return f"a list, such as `{example}`"
        case _:
            return "a section"


def _default(key: Key, field: "dataclasses.Field[Any]") -> str:
    if key.shown:
        return key.shown
    if field.default is None or field.default is dataclasses.MISSING:
        return ""
    return f"`{key.kind.show(field.default)}`" if isinstance(key.kind, ValueKind) else ""
