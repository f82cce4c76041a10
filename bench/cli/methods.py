"""The command that lists the methods which a suite can name."""

from __future__ import annotations

import click

from bench import text
from bench.errors import RequestError


@click.command()
@click.argument("name", required=False)
def methods(name: str | None) -> None:
    """List what a suite can name under `methods:`, what each needs, its options with their defaults and its source;
    with NAME, what the options of that one mean.
    """
    from bench.catalog.methods import load_method, method_names

    if name is not None:
        from bench.suite.json_schema import meanings

        kind = load_method(name).method.options
        text.echo(*_lines(name, 0))
        for option, meaning in meanings(kind).items():
            text.echo(f"  {option}: {meaning}")
        return
    width = max(map(len, method_names()))
    for known in method_names():
        try:
            text.echo(*_lines(known, width))
        except RequestError as error:  # a package that cannot be used; the others can
            text.echo(f"{known:{width}}  cannot be used: {error}")


def _lines(name: str, width: int) -> list[str]:
    """Two lines on a method."""
    from bench.catalog.methods import load_method
    from bench.suite.arm import as_written

    loaded = load_method(name)
    method, package = loaded.method, loaded.package
    options = (f"{key}: {as_written(field.default)}" for key, field in method.options.model_fields.items())
    needs = [*(["labels"] if method.labels == "needed" else []), *method.needs]
    needs += [f"the source model's {fact}" for fact in method.source_facts]
    facts = [f"needs {', '.join(needs) or 'nothing'}", ", ".join(options), method.cite]
    facts += [package] if package != "jouletune" else []
    return [f"{name:{width}}  {method.about}", f"{'':{width}}  {'; '.join(filter(None, facts))}"]
