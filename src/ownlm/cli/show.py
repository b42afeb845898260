"""`ownlm show`: what a model is, from its files alone."""

import sys
from json import dumps
from textwrap import wrap
from typing import Annotated, Any

from cyclopts import Parameter

from ownlm.cli.screen_text import safe_line


def show(
    model: str,
    *,
    tensors: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Family, shape, parameters, tokenizer, chat template, licence, card. Example: ownlm show smollm2

    Parameters
    ----------
    model
        A model folder, a run's folder, a .gguf file, a starter (smollm2), or hub:ORG/NAME.
    tensors
        List every tensor with its shape and how it is stored.
    json
        Print everything as one JSON object.
    """
    from ownlm.cli.open_model import locate_model
    from ownlm.cli.terminal import terminal_columns
    from ownlm.opened import describe, read_files, tensor_rows

    files = read_files(locate_model(model))
    facts = describe(files)
    if tensors:
        facts["tensors"] = tensor_rows(files)
    if json:
        sys.stdout.write(dumps(facts, indent=2) + "\n")
        return 0
    rows = _rows(facts)
    width = max(len(name) for name, _ in rows)
    columns = max(40, terminal_columns(sys.stdout) or 100)
    for name, value in rows:
        lines = wrap(safe_line(value), columns - width - 3, break_long_words=False) or [""]
        sys.stdout.write(f"\n{'':<{width}}  ".join([f"{name:<{width}}  {lines[0]}", *lines[1:]]) + "\n")
    if tensors:
        sys.stdout.write("\n")
        for row in facts["tensors"]:
            shape = " x ".join(map(str, row["shape"]))
            sys.stdout.write(f"{row['stored_as']:<6} {shape:>16}  {safe_line(row['name'])}\n")
    return 0


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    shape, parts, tokenizer = facts["shape"], facts["parameters"], facts["tokenizer"]
    heads = f"{shape['num_attention_heads']} heads of {shape['head_dim']}"
    if shape["num_key_value_heads"] != shape["num_attention_heads"]:
        heads += f", {shape['num_key_value_heads']} for keys and values"
    head = ", head tied to the embedding" if shape["tie_word_embeddings"] else ""
    named = ", ".join(
        f"{name.replace('_', ' ')} {_short(count)}" for name, count in parts.items() if count and name != "total"
    )
    rows = [
        ("name", facts["name"]),
        ("family", facts["family"]),
        ("shape", f"{shape['num_hidden_layers']} layers of width {shape['hidden_size']}, {heads}"),
        ("context", f"{shape['max_position_embeddings']:,} tokens"),
        ("parameters", f"{_short(parts['total'])}: {named}{head}"),
        (
            "stored as",
            ", ".join(f"{name} ({count})" for name, count in facts["stored_as"].items())
            + f"; {facts['bytes'] / 1e6:,.1f} MB",
        ),
        ("tokenizer", f"{tokenizer['kind']}, {tokenizer['vocab_size']:,} tokens; " + _ends(tokenizer)),
        (
            "chat template",
            f"yes, {facts['template_characters']:,} characters"
            if facts["template_characters"]
            else "none: it continues texts",
        ),
        ("licence", facts["licence"] or "not stated in its files"),
    ]
    if card := facts["card"]:
        rows.append(("card", f"{card['kind']}, made {card['created'][:10]}, content {card['content'][:16]}"))
    return rows


def _ends(tokenizer: dict[str, Any]) -> str:
    begins = f"begins with {' '.join(tokenizer['begins_with'])}, " if tokenizer["begins_with"] else ""
    return f"{begins}ends with {' '.join(tokenizer['ends_with']) or 'nothing'}"


def _short(count: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)
