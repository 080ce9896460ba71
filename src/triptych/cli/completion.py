"""`triptych --completion SHELL`: a script with which a shell completes commands, options, keys and names."""

import argparse

SHELLS = ("bash", "zsh")
SCRIPT = """# Completion of triptych for {shell}: {how}
{begin}_triptych() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="" option="" i
  local words="" chosen=""
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "${{COMP_WORDS[i]}}" in
      -*) option="${{COMP_WORDS[i]}}" ;;
      *) [ -z "$command" ] && command="${{COMP_WORDS[i]}}" ;;
    esac
  done
  COMPREPLY=()
  case "$before" in
{values}
  esac
  chosen="$words"
  if [ -z "$words" ] && [ "$option" = --set ] && [ "${{word#-}}" = "$word" ]; then
    words="{keys}"
    compopt -o nospace 2>/dev/null
  fi
  if [ -z "$words" ]; then
    case "$command" in
      "") words="{commands} --help --version --completion" ;;
{options}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  [ -n "$command" ] && [ -z "$chosen" ] && [ "${{word#-}}" = "$word" ] && COMPREPLY+=($(compgen -f -- "$word"))
}}
complete -o filenames -o bashdefault -F _triptych triptych
"""
HOW = {
    "bash": 'eval "$(triptych --completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(triptych --completion zsh)" in ~/.zshrc',
}
BEGIN = {"bash": "", "zsh": "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n"}


class PrintCompletion(argparse.Action):
    """Print the script for a shell, and exit."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, option: object = None
    ) -> None:
        """Print it."""
        from triptych import api

        print(completion_script(str(values), parser, [key.name for key in api.list_keys()]), end="")
        parser.exit()


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add `--completion` to the parser of the whole command line."""
    use = "; ".join(f"{shell}: {how}" for shell, how in HOW.items())
    parser.add_argument(
        "--completion",
        choices=SHELLS,
        action=PrintCompletion,
        help=f"print a script that makes a shell complete commands, options and keys ({use})",
    )


def completion_script(shell: str, parser: argparse.ArgumentParser, keys: list[str]) -> str:
    """The completion script for a shell.

    Args:
        shell: one of `SHELLS`.
        parser: the parser of the whole command line.
        keys: the keys of a suite file, with the options of methods.
    """
    (actions,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    commands: dict[str, argparse.ArgumentParser] = dict(actions.choices)
    values = {"--methods": _methods(), "--preset": _presets(), "--completion": list(SHELLS), "list": ["data", "keys"]}
    for command in commands.values():
        for action in command._actions:
            if action.choices and action.option_strings:
                values |= {name: list(map(str, action.choices)) for name in action.option_strings}
    return SCRIPT.format(
        shell=shell,
        how=HOW[shell],
        begin=BEGIN[shell],
        values="\n".join(f'    {name}) words="{" ".join(words)}" ;;' for name, words in values.items()),
        keys=" ".join(f"{name}=" for name in keys),
        commands=" ".join(commands),
        options="\n".join(f'      {name}) words="{" ".join(_options(each))}" ;;' for name, each in commands.items()),
    )


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings if name.startswith("--")]


def _methods() -> list[str]:
    from triptych.contracts import Baseline, Method
    from triptych.registry import registered
    from triptych.run.entries import VARIANTS

    return sorted({**registered(Method), **registered(Baseline), **VARIANTS})


def _presets() -> list[str]:
    from triptych.config.reading import presets

    return list(presets())
