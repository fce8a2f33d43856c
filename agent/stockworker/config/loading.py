"""Finds the configuration files, merges them and reads the result."""

# The files, each of which overrides the ones before it:
#
#     /etc/stockworker/job_processor.yml         the main file
#     /etc/stockworker/job_processor.d/*.yml     drop-in files, in alphabetical order
#     /etc/stockworker/instances/INSTANCE.yml    the file of one worker instance
#
# Commands that connect as a client, and the Python API, read the file of `client_path` in place of the main file, if there
# is one: on a machine with a service, the main file usually has the service's certificate.
#
# Sections are merged key by key. Lists and values are replaced as a whole: a merged list could not be made shorter. A
# null in a later file resets a key or a section to its default. A section without any value is an error. The merge happens on trees, before any value
# is checked. So each value keeps its file and line, and an error names the file that must be corrected. The defaults
# that depend on the machine are entered last, as if a file had them, and only where the tree has no value.

import os
import pwd
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stockworker.config.document import (
    Node,
    Place,
    Problem,
    ScalarNode,
    TableNode,
    Unreadable,
    find,
    merge,
    quoted,
    read,
)
from stockworker.config.kinds import ID, Wrong
from stockworker.config.reader import EMPTY, is_null, read_config
from stockworker.config.rules import check
from stockworker.config.schema import Config
from stockworker.errors import ConfigError
from stockworker.protocol.suggestion import suggestion

DEFAULT_PATH = Path("/etc/stockworker/job_processor.yml")
CLIENT_PATH = Path("/etc/stockworker/client.yml")
"""The configuration of the commands of all users of this machine who have none of their own."""

VARIABLE = "STOCKWORKER_CONFIG"
ROOT_KEY = "job_processor"
_NOT_MEANT = re.compile(
    r"\..*|README.*|.*(~|\.(bak|disabled|example|md|off|old|orig|rej|save|swp|txt|(dpkg|rpm|ucf)[a-z-]*))"
)
"""Names of files that are not meant to be read: hidden ones, copies of editors and packages, notes."""
_DERIVED = Path("(derived)")  # never printed, because derived values are valid


def load(path: Path | None = None, instance: str | None = None) -> Config:
    """Read the configuration of one instance.

    Args:
        path: the main file or its folder; None means `DEFAULT_PATH`, which need not exist.
        instance: the `%i` of `stockworker@%i`; with None, `instances/` is not read.

    Raises:
        ConfigError: lists all errors, one per line.
    """
    return load_with_warnings(path, instance)[0]


def load_with_warnings(path: Path | None, instance: str | None) -> tuple[Config, list[Problem]]:
    """As `load`, and all warnings, ordered by file and line."""
    found: list[Problem] = []
    config = _read(path, instance, found)
    errors = sorted(problem for problem in found if problem.severity == "error")
    if config is None or errors:
        raise ConfigError("\n".join(problem.show() for problem in errors))
    return config, sorted(found)


def client_path() -> Path | None:
    """The configuration of this user's commands and programs; None means `DEFAULT_PATH`.

    The services never read it: they run as another user, with an identity of their own.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    return next((file for file in (*_own_files(), CLIENT_PATH) if not _is_absent(file)), None)


def client_places() -> str:
    """The places where `client_path` has looked, for an error; empty if one of them has a configuration."""
    if client_path() is not None or not _is_absent(DEFAULT_PATH):
        return ""
    return f"${VARIABLE} (not set), {_own_files()[0]}, {CLIENT_PATH}, {DEFAULT_PATH}"


def _own_files() -> tuple[Path, Path]:
    """The files of this user: the second one has the name that earlier versions read."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not folder.startswith("/"):
        folder = os.path.expanduser("~/.config")  # noqa: PTH111 (Path.expanduser raises for a user without a home)
    return Path(folder) / "stockworker/client.yml", Path(folder) / "stockworker/stockworker.yml"


def problems(path: Path | None = None, instance: str | None = None) -> list[Problem]:
    """All errors and warnings about the configuration, ordered by file and line."""
    found: list[Problem] = []
    _read(path, instance, found)
    return sorted(found)


def instances(path: Path | None = None) -> list[str]:
    """The names of the instances that have their own file."""
    try:
        files = (_main_file(path).parent / "instances").glob("*.yml")
        return sorted(file.stem for file in files if not file.name.startswith("."))
    except PermissionError:
        return []


def _read(path: Path | None, instance: str | None, found: list[Problem]) -> Config | None:
    main = _main_file(path)
    if instance is not None and not _is_id(instance):
        found.append(Problem(Place(main), "", f"the instance {quoted(instance)} is not {ID.meaning}"))
        return None
    tree: Node | None = TableNode(Place(main, 1))
    for file in _files(main, instance, found, must_exist=path is not None):
        try:
            tree = merge(tree, _root(file, found))
        except Unreadable as error:
            found.append(error.problem)
    if not isinstance(tree, TableNode):
        found.append(Problem(tree.place if tree else Place(main), ROOT_KEY, "must be a section with keys"))
        return None
    tree = _with_derived(tree, instance or "1")
    config = read_config(tree, found)
    if not any(problem.severity == "error" for problem in found):
        found.extend(check(config, tree))
    return config


def _main_file(path: Path | None) -> Path:
    path = path or DEFAULT_PATH
    return path / DEFAULT_PATH.name if os.path.isdir(path) else path  # noqa: PTH112 (Path.is_dir raises for a folder without access)


def _files(main: Path, instance: str | None, found: list[Problem], *, must_exist: bool) -> Iterator[Path]:
    """The files to read; later files override earlier ones."""
    if must_exist or not _is_absent(main):
        yield main
    folder = main.with_suffix(".d")
    try:
        yield from _listed(folder, found)
    except OSError as error:
        found.append(Problem(Place(folder), "", f"can't be read: {error.strerror}. Correct its mode or owner"))
    if instance is not None:
        own = main.parent / "instances" / f"{instance}.yml"
        with suppress(OSError):  # without the right to list the folder, its files may still be readable
            _listed(own.parent, found)
        if not _is_absent(own):
            yield own


def _listed(folder: Path, found: list[Problem]) -> list[Path]:
    """The configuration files in a folder, in order; a file with another name may be a mistake."""
    try:
        files = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    ignored = "is ignored: its name does not end in .yml"
    others = (file for file in files if not file.name.endswith(".yml") and not _NOT_MEANT.fullmatch(file.name))
    found.extend(Problem(Place(file), "", ignored, "warning") for file in others)
    # A hidden file belongs to an editor: Emacs locks site.yml by a dangling link .#site.yml.
    return [file for file in files if file.name.endswith(".yml") and not file.name.startswith(".")]


def _is_absent(file: Path) -> bool:
    """Whether the file does not exist. A file without access counts as existing: reading it gives the error."""
    try:
        file.lstat()  # a link to a missing file exists, too
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _root(file: Path, found: list[Problem]) -> Node | None:
    """The content of a file under `job_processor`."""
    document = read(file, found)
    if document is None:
        return None
    entries = document.entries if isinstance(document, TableNode) else {}
    if ROOT_KEY not in entries:
        near = next((name for name in entries if suggestion(name, (ROOT_KEY,))), None)
        hint = f"; is {quoted(near)} a misspelling?" if near else "; move all keys under it"
        raise Unreadable(document.place, f"has no key '{ROOT_KEY}'{hint}")
    for name, node in entries.items():
        if name != ROOT_KEY:
            text = f"is ignored; only keys under '{ROOT_KEY}' are read"
            found.append(Problem(node.place, quoted(name), text, "warning"))
    root = entries[ROOT_KEY]
    if not is_null(root):
        return root
    if not root.text:
        found.append(Problem(root.place, ROOT_KEY, EMPTY))
    return None


def default_worker_id(instance: str) -> str:
    """The ID of a worker on this machine, unless `worker.id` is another one."""
    return f"{_host()[: 63 - len(instance)]}-{instance}".lstrip("-")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename) or "localhost"


def _with_derived(tree: TableNode, instance: str) -> TableNode:
    """Add the defaults that depend on the machine, the instance or other keys."""
    derived = {
        "queue.mqtt.port": "1883" if find(tree, "tls") is None else "8883",
        "worker.id": default_worker_id(instance),
        "worker.journal": f"/var/lib/stockworker/{instance}/journal.sqlite3",
    }
    if find(tree, "tls.cert_file") is None:  # with a certificate, the client's ID is its common name
        derived["client.id"] = f"{_user()}-{_host()}"[:64]
    for path, text in derived.items():
        if find(tree, path) is None:
            tree = _with(tree, path.split("."), ScalarNode(Place(_DERIVED), text, "str"))
    return tree


def _with(tree: TableNode, path: list[str], value: ScalarNode) -> TableNode:
    """Set `value` at `path`, unless a section on the path is invalid."""
    key, *rest = path
    child: Node = value
    if rest:
        below = tree.entries.get(key)
        if below is None or (is_null(below) and below.text):
            below = TableNode(tree.place)
        child = _with(below, rest, value) if isinstance(below, TableNode) else below
    return TableNode(tree.place, {**tree.entries, key: child})


def _user() -> str:
    uid = os.getuid()
    try:
        return re.sub(r"[^A-Za-z0-9._-]", "-", pwd.getpwuid(uid).pw_name)
    except KeyError:  # in a container, a user ID may have no name
        return f"uid{uid}"


def _is_id(text: str) -> bool:
    try:
        ID.parse(text)
    except Wrong:
        return False
    return True
