"""The command completion: the script that makes a shell complete jouletune's commands, options and suites."""

from __future__ import annotations

import click

from bench import text

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_JOULETUNE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for a shell that completes commands, options and names of suites.

    \b
    bash:  jouletune completion bash > ~/.local/share/bash-completion/completions/jouletune
    zsh:   jouletune completion zsh > ~/.zfunc/_jouletune     (with ~/.zfunc in fpath)
    fish:  jouletune completion fish > ~/.config/fish/completions/jouletune.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, f"click knows {shell}"
    made = kind(context.find_root().command, {}, "jouletune", VARIABLE)
    text.echo(*(made.source_template % made.source_vars()).splitlines())
