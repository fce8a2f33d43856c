"""Completion for bash, zsh and fish, generated from the command's own parsers."""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stockworker.cli.commands import CommandParser, make_parser

_FILES = re.compile(r"PATH|FILE|FOLDER")
_WORDS: Final = {"JOB": "jobs", "TYPE": "types", "WORKER": "workers"}
"""The values that `stockworker words` lists, by the names that the help gives them."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option and its possible values.

    Attributes:
        name: with its dashes.
        meaning: one line.
        takes_value: whether a value follows it.
        choices: all possible values, if the parser lists them.
        takes_file: whether the value is a file.
        words: what `stockworker words` lists of its values; empty if it does not list them.
    """

    name: str
    meaning: str
    takes_value: bool
    choices: tuple[str, ...]
    takes_file: bool
    words: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or the program itself, and its possible arguments.

    Attributes:
        path: its name; both names for a subcommand; empty for the program.
        meaning: a few words of help.
        options: in the order of the parser.
        commands: the commands within it.
        choices: all values of its positional arguments, if the parser lists them.
        words: what `stockworker words` lists of these values; empty if it does not list them.
    """

    path: tuple[str, ...]
    meaning: str
    options: tuple[Option, ...]
    commands: tuple["Command", ...]
    choices: tuple[str, ...]
    words: str

    @property
    def identifier(self) -> str:
        """A name that is valid for a shell function."""
        return "_".join(("", "stockworker", *self.path)).replace("-", "_")

    def walk(self) -> Iterator["Command"]:
        """This command and all its subcommands."""
        yield self
        for command in self.commands:
            yield from command.walk()


def program() -> Command:
    """The program as its parsers define it."""
    parser, _ = make_parser()
    return _command(parser, (), "")


def _command(parser: argparse.ArgumentParser, path: tuple[str, ...], meaning: str) -> Command:
    if isinstance(parser, CommandParser):
        parser.complete()
    options: list[Option] = []
    commands: list[Command] = []
    choices: list[str] = []
    words = ""
    for action in parser._actions:  # noqa: SLF001 (argparse has no public way to ask)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 (as above)
            meanings = {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001 (as above)
            commands += [
                _command(action.choices[name], (*path, name), meaning)
                for name, meaning in meanings.items()  # no aliases
            ]
        elif action.option_strings:
            options.append(_option(action))
        else:
            choices += map(str, action.choices or ())
            words = words or _WORDS.get(str(action.metavar), "")
    return Command(path, meaning, tuple(options), tuple(commands), tuple(choices), words)


def _option(action: argparse.Action) -> Option:
    return Option(
        name=action.option_strings[-1],
        meaning=_one_line(action.help or ""),
        takes_value=action.nargs != 0,
        choices=tuple(map(str, action.choices or ())),
        takes_file=bool(_FILES.search(str(action.metavar))),
        words=_WORDS.get(str(action.metavar), ""),
    )


def _one_line(text: str) -> str:
    """The first sentence, without the characters that a shell would interpret."""
    short = re.split(r"[;:(]| \(default", text)[0]
    return re.sub(r"[^A-Za-z0-9 .,/_-]", "", short).strip()


def _name(command: Command) -> str:
    """The words of a command, with a space before each."""
    return "".join(f" {word}" for word in command.path)


# --- bash -------------------------------------------------------------------------------------------------------------


def bash(top: Command) -> str:
    """A script for the folder of bash-completion."""
    cases = "\n".join(_bash_case(command) for command in top.walk())
    return f"""\
# bash completion for stockworker, generated from its parsers

_stockworker() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command= word skip= typed
    local -a config=()
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        if [[ $skip ]]; then
            skip= config=(--config "$word")
        elif [[ $word == --config ]]; then
            skip=1
        elif [[ $word != -* ]]; then
            case "$command $word" in
{_bash_paths(top)}
            esac
        fi
    done
    COMPREPLY=()
    local words= values=
    case "$command" in
{cases}
    esac
    if [[ $values$words == @* ]]; then
        typed=${{COMP_LINE:0:COMP_POINT}} typed=${{typed##* }} # bash makes three words of the ID mary:7
        mapfile -t COMPREPLY < <(compgen -W "$(stockworker words "${{config[@]}}" "${{values:1}}${{words:1}}" 2>/dev/null)" -- "$typed")
        [[ $COMP_WORDBREAKS != *:* ]] || COMPREPLY=("${{COMPREPLY[@]#"${{typed%"${{typed##*:}}"}}"}}")
    elif [[ $values == FILES || -z $values$words ]]; then
        compopt -o default
    elif [[ $values != NONE ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${{values:-$words}}" -- "$current")
    fi
}}
complete -F _stockworker stockworker
"""


def _bash_paths(top: Command) -> str:
    names = [_name(command) for command in top.walk() if command.path]
    return "\n".join(f'                "{name}") command="{name}" ;;' for name in names)


def _bash_case(command: Command) -> str:
    lines = [f'        "{_name(command)}")', '            case "$previous" in']
    for option in command.options:
        if option.takes_value:
            other = "FILES" if option.takes_file else f"@{option.words}" if option.words else "NONE"
            values = " ".join(option.choices) or other
            lines.append(f'                {option.name}) values="{values}" ;;')
    below = " ".join([*(each.path[-1] for each in command.commands), *command.choices])
    below = below or (f"@{command.words}" if command.words else "")
    lines += [
        "            esac",
        f'            words="{below}"',
        "            if [[ $current == -* ]]; then",
        f'                words="{" ".join(option.name for option in command.options)}"',
        "            fi",
        "            ;;",
    ]
    return "\n".join(lines)


# --- zsh --------------------------------------------------------------------------------------------------------------


_ZSH_WORDS = """\
__stockworker_words() {
    local -a typed=(${(z)BUFFER}) config=()
    local place=${typed[(i)--config]}
    (( place < $#typed )) && config=(--config ${(Q)typed[place + 1]})
    local -a found=(${(f)"$(stockworker words $config $1 2>/dev/null)"})
    compadd -a found
}
"""


def zsh(top: Command) -> str:
    """A function for zsh's $fpath, in a file named `_stockworker`."""
    functions = "\n".join(_zsh_function(command) for command in top.walk())
    return f'#compdef stockworker\n\n{_ZSH_WORDS}{functions}\n_stockworker "$@"\n'


def _zsh_function(command: Command) -> str:
    lines = [f"{command.identifier}() {{"]
    arguments = [_zsh_option(option) for option in command.options]
    if command.commands:
        listed = " ".join(f"'{below.path[-1]}:{_one_line(below.meaning)}'" for below in command.commands)
        cases = "; ".join(f"{below.path[-1]}) {below.identifier} ;" for below in command.commands)
        lines += [
            "    local state line",
            f"    local -a commands=({listed})",
            f"    _arguments -C {' '.join(arguments)} '1:command:->command' '*::argument:->argument'",
            "    case $state in",
            "        command) _describe command commands ;;",
            f"        argument) case $line[1] in {cases}; esac ;;",
            "    esac",
        ]
    else:
        rest = _zsh_values(command.choices, command.words) or "_files"
        arguments.append(f"'*:argument:{rest}'")
        lines.append(f"    _arguments {' '.join(arguments)}")
    return "\n".join([*lines, "}"])


def _zsh_option(option: Option) -> str:
    if not option.takes_value:
        return f"'{option.name}[{option.meaning}]'"
    values = _zsh_values(option.choices, option.words) or ("_files" if option.takes_file else " ")
    return f"'*{option.name}=[{option.meaning}]:value:{values}'"


def _zsh_values(choices: tuple[str, ...], words: str) -> str:
    return f"({' '.join(choices)})" if choices else f"{{__stockworker_words {words}}}" if words else ""


# --- fish -------------------------------------------------------------------------------------------------------------


_FISH_FUNCTION = """\
# fish completion for stockworker, made from its parsers

function __stockworker_at --description 'Whether this command has been written'
    set -l written ''
    set -l skip false
    for word in (commandline -opc)[2..]
        if $skip
            set skip false
        else if test "$word" = --config
            set skip true
        else if contains -- "$written $word" NAMES
            set written "$written $word"
        end
    end
    test "$written" = "$argv[1]"
end
"""


_FISH_WORDS = """\
function __stockworker_words --description 'Jobs, types or workers of the fleet'
    set -l config
    set -l written (commandline -opc)
    if set -l place (contains -i -- --config $written)
        set config --config $written[(math $place + 1)]
    end
    stockworker words $config $argv[1] 2>/dev/null
end
"""


def fish(top: Command) -> str:
    """A script for fish's folder of completions."""
    names = " ".join(f"'{_name(command)}'" for command in top.walk() if command.path)
    lines = [_FISH_FUNCTION.replace("NAMES", names), _FISH_WORDS]
    for command in top.walk():
        condition = _fish_condition(command)
        for below in command.commands:
            meaning = _one_line(below.meaning)
            lines.append(f"complete -c stockworker -n '{condition}' -f -a {below.path[-1]} -d '{meaning}'")
        if values := _fish_values(command.choices, command.words):
            lines.append(f"complete -c stockworker -n '{condition}' -f -a '{values}'")
        lines += [_fish_option(option, condition) for option in command.options]
    return "\n".join(lines) + "\n"


def _fish_condition(command: Command) -> str:
    return f'__stockworker_at "{_name(command)}"'


def _fish_option(option: Option, condition: str) -> str:
    words = ["complete -c stockworker", f"-n '{condition}'"]
    words.append(f"-l {option.name.removeprefix('--')}" if option.name.startswith("--") else f"-s {option.name[1:]}")
    if option.takes_value:
        words.append("-r -F" if option.takes_file else "-x")
        if values := _fish_values(option.choices, option.words):
            words.append(f"-a '{values}'")
    return " ".join([*words, f"-d '{option.meaning}'"])


def _fish_values(choices: tuple[str, ...], words: str) -> str:
    return " ".join(choices) or (f"(__stockworker_words {words})" if words else "")
