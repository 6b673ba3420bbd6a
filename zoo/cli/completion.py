"""Completion of the console script ``zoo`` by the Tab key: a script for the shell, made from the tables of arguments."""

from collections.abc import Iterable

from zoo import registry, trained
from zoo.cli.arguments import Argument, Arguments
from zoo.cli.options import COMPARE, ENCODE, EVALUATE, FIT, SAMPLE, STUDY
from zoo.errors import ZooError

__all__ = ["completion"]

_BASH = """\
_zoo() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    if [ "$COMP_CWORD" = 1 ]; then COMPREPLY=($(compgen -W "{commands}" -- "$word")); return; fi
    case "$before" in
{values}
    esac
    case "${{COMP_WORDS[1]}}" in
{options}
    esac
}}
complete -F _zoo zoo"""


def completion(shell: str) -> str:
    """What ``eval "$(zoo --completion bash)"`` has a shell do; ZooError for another shell than ``bash`` and ``zsh``.

    Example:
        >>> "compgen" in completion("bash")
        True
    """
    if shell not in ("bash", "zsh"):
        raise ZooError(f"--completion {shell}: bash or zsh is accepted".replace("  ", " "))
    commands: tuple[Arguments, ...] = (FIT, SAMPLE, ENCODE, EVALUATE, COMPARE, STUDY)
    words = {each.command: " ".join(f"--{name}" for name in _names(each.table)) for each in commands}
    script = _BASH.format(
        commands=" ".join(words),
        values='        --model) local models="'
        + " ".join(registry.MODELS)
        + '"\n'
        + f'            if [ "${{COMP_WORDS[1]}}" != fit ]; then models="{" ".join(trained.names())}"; fi\n'
        + '            COMPREPLY=($(compgen -W "$models" -- "$word")); return;;\n'
        + "\n".join(
            f'        --{name}) COMPREPLY=($(compgen -W "{" ".join(known)}" -- "$word")); return;;'
            for name, known in (("data", registry.DATA), ("wandb", ("off", "offline", "online")))
        )
        + '\n        --config|--ckpt|--ckpt_path|--out) COMPREPLY=($(compgen -f -- "$word")); return;;',
        options="\n".join(
            f'        {name}) COMPREPLY=($(compgen -W "{each}" -- "$word"));;' for name, each in words.items()
        ),
    )
    return f"autoload -U +X bashcompinit && bashcompinit\n{script}" if shell == "zsh" else script


def _names(table: Iterable[Argument]) -> list[str]:
    return [each.name.removesuffix("OPTION") for each in table if each.help]
