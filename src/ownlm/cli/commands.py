"""The commands: names, one line of help each, and where their functions are.

In:  nothing; a command's module is named here, not imported. Out: COMMANDS, which main.py gives to cyclopts, and
`overview`, the page of `ownlm` and `ownlm --help`, for which cyclopts need not be loaded: a quarter of a second less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PURPOSE = "Grow, run and own your language model. Begin with: ownlm quickstart"


@dataclass(frozen=True, kw_only=True)
class Command:
    """`function` is "module:name"; without one it is a group of the commands in `below`. With both it is a command
    with further ones below, and its module is imported with the table: it must be light.
    """

    help: str
    function: str = ""
    below: Mapping[str, "Command"] = field(default_factory=dict)


COMMANDS = {
    "quickstart": Command(help="The whole journey, then a chat.", function="ownlm.cli.quickstart:quickstart"),
    "corpus": Command(
        help="Text into documents, tokens and conversations; look inside.",
        below={
            "build": Command(help="Gather, clean, deduplicate and hold out text.", function="ownlm.cli.corpus:build"),
            "show": Command(help="What a corpus holds, and where it came from.", function="ownlm.cli.corpus:show"),
            "tokenize": Command(
                help="Documents into token shards, which training reads.", function="ownlm.cli.corpus:tokenize"
            ),
            "conversations": Command(
                help="Conversations to tune on, and an exam.", function="ownlm.cli.corpus:conversations"
            ),
            "parallel": Command(help="Translations into lines to tune on.", function="ownlm.cli.corpus:parallel"),
        },
    ),
    "tokenizer": Command(
        help="Train a tokenizer, see how it cuts.",
        below={
            "train": Command(help="Learn a vocabulary from a corpus.", function="ownlm.cli.tokenizer:train"),
            "show": Command(
                help="Vocabulary, and bytes per token by kind of text.", function="ownlm.cli.tokenizer:show"
            ),
            "encode": Command(help="Cut a text into tokens.", function="ownlm.cli.tokenizer:encode"),
            "add": Command(help="A model with new special tokens.", function="ownlm.cli.tokenizer:add"),
        },
    ),
    "pretrain": Command(help="Tokens into a base model, by a recipe.", function="ownlm.cli.pretrain:pretrain"),
    "finetune": Command(help="A base model into one that chats, by a recipe.", function="ownlm.cli.finetune:finetune"),
    "generate": Command(help="Continue a text.", function="ownlm.cli.generate:generate"),
    "chat": Command(help="A conversation in the terminal.", function="ownlm.cli.chat:chat"),
    "serve": Command(
        help="An API for programs and people.",
        function="ownlm.cli.serve:serve",
        below={
            "keys": Command(
                help="Who may ask a server: add, list, revoke.",
                below={
                    "add": Command(help="A new key, shown once.", function="ownlm.cli.serve_keys:add"),
                    "list": Command(help="The keys, and what they used today.", function="ownlm.cli.serve_keys:list_"),
                    "revoke": Command(help="End a key at once.", function="ownlm.cli.serve_keys:revoke"),
                },
            ),
            "verify-log": Command(
                help="Is the policy's log of decisions what was written?", function="ownlm.cli.serve_log:verify_log"
            ),
            "data": Command(
                help="What clients have stored: export, delete.",
                below={
                    "export": Command(help="All of it, as JSON lines.", function="ownlm.cli.serve_data:export"),
                    "delete": Command(help="A key's, or all of it.", function="ownlm.cli.serve_data:delete"),
                },
            ),
        },
    ),
    "evaluate": Command(help="How good a model is, alone or against another.", function="ownlm.cli.evaluate:evaluate"),
    "ask": Command(help="What your documents say, in their words.", function="ownlm.cli.ask:ask"),
    "show": Command(help="What a model is: family, shape, tokenizer, licence.", function="ownlm.cli.show:show"),
    "convert": Command(help="A model from one format to another, compared.", function="ownlm.cli.convert:convert"),
    "export-deploy": Command(
        help="A model in a folder for vLLM, SGLang, llama.cpp or Ollama.", function="ownlm.cli.export:export_deploy"
    ),
    "report": Command(help="Write a run's report.html anew.", function="ownlm.cli.report:report"),
    "starter": Command(
        help="Small open models to begin with: fetch, list, remove.",
        below={
            "get": Command(help="Fetch a starter, such as smollm2.", function="ownlm.cli.starter:get"),
            "list": Command(help="The starters there are, and which are here.", function="ownlm.cli.starter:list_"),
            "remove": Command(help="Take a starter off this machine.", function="ownlm.cli.starter:remove"),
        },
    ),
    "doctor": Command(help="What this machine can do, and what is missing.", function="ownlm.cli.doctor:doctor"),
}


def overview(arguments: Sequence[str]) -> str | None:
    """The help page, where `arguments` ask for that of all commands or of a group, and for nothing else."""
    names, commands, purpose, does = ["ownlm"], COMMANDS, PURPOSE, False
    for argument in arguments:
        if argument in ("--help", "-h"):
            break
        if argument not in commands or not commands[argument].below:
            return None
        names.append(argument)
        purpose, does = commands[argument].help, bool(commands[argument].function)
        commands = dict(commands[argument].below)
    if does:
        return None  # a command's own page has its options too
    width = max(map(len, commands))
    rows = [f"  {name:<{width}}  {command.help}" for name, command in commands.items()]
    usage = f"Usage: {' '.join(names)} COMMAND"
    return "\n".join([usage, "", purpose, "", *rows, "", f"{' '.join(names)} COMMAND --help says more."]) + "\n"
