"""Shell completion: scripts written from the parser, so that they never lag behind it."""

from __future__ import annotations

import argparse


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script of a shell (bash, zsh or fish): commands, their options, and files otherwise."""
    commands = _commands(parser)
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


_Options = list[argparse.Action]


def _commands(parser: argparse.ArgumentParser) -> dict[str, tuple[str, _Options]]:
    """Every command with its help and its options."""
    found: dict[str, tuple[str, _Options]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {a.dest: a.help or "" for a in action._choices_actions}
            for name, inner in action.choices.items():
                found[name] = (helps.get(name, ""), inner._actions)
    return found


def _words(action: argparse.Action) -> list[str]:
    return [str(choice) for choice in action.choices or ()]


def _bash(commands: dict[str, tuple[str, _Options]]) -> str:
    cases = []
    for name, (_, options) in commands.items():
        flags = [flag for option in options for flag in option.option_strings]
        flags += [
            word for option in options if not option.option_strings for word in _words(option)
        ]
        values = "".join(
            f'      {"|".join(option.option_strings)}) words="{" ".join(_words(option))}" ;;\n'
            for option in options
            if option.option_strings and option.choices
        )
        chosen = f'    case "$previous" in\n{values}    esac\n' if values else ""
        cases.append(f'  {name})\n    words="{" ".join(flags)}"\n{chosen}    ;;\n')
    return (
        "_graphc() {\n"
        '  local word="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" words\n'
        '  case "${COMP_CWORD}:${COMP_WORDS[1]}" in\n'
        f'  1:*) words="{" ".join(commands)} --help --version" ;;\n'
        "  *)\n"
        '  case "${COMP_WORDS[1]}" in\n' + "".join(cases) + "  esac\n"
        "  ;;\n"
        "  esac\n"
        '  COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))\n'
        "}\n"
        "complete -o filenames -F _graphc graphc\n"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("%(default)s", "").replace("'", "'\\''") + "'"


def _zsh(commands: dict[str, tuple[str, _Options]]) -> str:
    described = "\n".join(f"    {_quoted(f'{n}:{h}')}" for n, (h, _) in commands.items())
    cases = []
    for name, (_, options) in commands.items():
        specs = [_zsh_option(option) for option in options if option.option_strings]
        rest = next((_words(o) for o in options if not o.option_strings and o.choices), None)
        specs.append(_quoted("*:value:(" + " ".join(rest) + ")" if rest else "*:model:_files"))
        cases.append(f"    {name}) _arguments " + " ".join(specs) + " ;;\n")
    return (
        "#compdef graphc\n_graphc() {\n  local -a commands=(\n" + described + "\n  )\n"
        "  if (( CURRENT == 2 )); then _describe command commands; return; fi\n"
        "  shift words; (( CURRENT-- ))\n"
        '  case "$words[1]" in\n' + "".join(cases) + "  esac\n}\n"
        "compdef _graphc graphc\n"
    )


def _zsh_option(option: argparse.Action) -> str:
    value = ""
    if option.nargs != 0:
        value = ":value:(" + " ".join(_words(option)) + ")" if option.choices else ":value:_files"
    return " ".join(_quoted(f"*{flag}{value}") for flag in option.option_strings)


def _fish(commands: dict[str, tuple[str, _Options]]) -> str:
    lines = []
    for name, (text, options) in commands.items():
        lines.append(f"complete -c graphc -n __fish_use_subcommand -f -a {name} -d {_quoted(text)}")
        for option in options:
            flags = "".join(
                f" -l {flag[2:]}" if flag.startswith("--") else f" -s {flag[1:]}"
                for flag in option.option_strings
            )
            words = f" -x -a {_quoted(' '.join(_words(option)))}" if option.choices else ""
            takes = " -r" if option.nargs != 0 and option.option_strings and not words else ""
            if flags or words:
                lines.append(
                    f"complete -c graphc -n '__fish_seen_subcommand_from {name}'"
                    f"{flags}{words}{takes} -d {_quoted(option.help or '')}"
                )
    return "\n".join(lines) + "\n"
