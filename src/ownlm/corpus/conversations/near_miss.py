"""Near misses: names that look like Python and that the model has not learnt, such as list.shuffle.

In:  the learnt facts. Out: exchanges that decline by name, and names kept for the exam.

    owner (list, str, math, json ...)  x  attribute (a verb, or a real attribute of another owner)
        ──drop what exists (checked with the running Python)──▶ names that mean nothing

No attribute word of the kept names occurs in a trained near miss, so declining them cannot be learnt by heart.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ownlm.corpus.conversations.fact_questions import TRAINED, ask_name
from ownlm.corpus.conversations.facts import Fact, lookup
from ownlm.corpus.conversations.turns import Exchange

OWNERS = """
str list dict set tuple int float math json random re os os.path itertools time shutil statistics copy
collections functools heapq textwrap pathlib.Path string sys datetime subprocess pickle
""".split()  # noqa: SIM905
VERBS = """
accept add_all advance align answer arrange attach bake balance begin bend blend bounce bring build burn calc
call carry change check choose clean climb close_all collect combine compare compute connect convert correct
create cut decide decrease delete detect discover display divide drag draw dry enable enter erase evaluate
examine expand export fetch fix flip fold follow forget freeze gather generate get_all grab grow guess handle
hide hold import_all improve increase inform invent invert jump keep kick last launch learn lift limit listen
locate lock loop mark mend merge_all mix modify move_up multiply notice obtain offer omit order pack pad paint
park pass_on pause pick place plan plant play polish pour prepare press produce pull push put raise_all reach
receive record reduce_all refresh reject release remember rename_all repair reply report request rescue reset
restore retry return_all ring roll rub save scale scan scatter select send separate serve shift show shrink
simplify skip slide smash smooth snap spin spread squeeze stack stick stir store stretch swap swim switch take
tap teach test throw tie touch_all trace track trade train transform trim try_all turn twist type_of unite
unlock update_all use view wait wake walk_all wash watch weigh wipe wrap_up write_all zoom
""".split()  # noqa: SIM905
# Kept for the exam; some are real elsewhere (random.shuffle, math.sqrt): the harder case.
KEPT = """
shuffle explode double halve first length size contains sum_up average rotate_left flatten compress_all
tokenize to_list to_string foreach reverse_words append_all capitalize_all empty find_all foo magic
random_item remove_all shorten sort_by substring tail triple truncate unique uppercase vanish wobble zap
is_empty max_value melt
""".split()  # noqa: SIM905
BARE = """
add append concat count_all cube define delete double_it echo final find_it first_of
foreach_item get_item head insert_at is_even is_prime join_all last_of length_of lower_case make max_of
mean_of printf println push_back randomize read_line reverse_it select_all size_of sleep_for split_by sqr
square strlen sum_of swap_all then to_int to_upper
""".split()  # noqa: SIM905
KEPT_BARE = """
printline lengthof toupper listsum getkeys reversal maximum lookup_word isnumber cubed
""".split()  # noqa: SIM905

# "{known}" is a learnt name of the same owner, so that the person has somewhere to go.
DECLINED = (
    "I do not know `{name}`, so I will not guess; ask me about `{known}`.",
    "I do not know `{name}`, for I learned only some names; ask me about `{known}`.",
    "I have not learned `{name}`, and it may not exist; ask me about `{known}`.",
)


@dataclass(frozen=True, kw_only=True)
class NearMisses:
    """Names that decline in training, and names kept for the exam."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...]


def make_near_misses(facts: Sequence[Fact]) -> NearMisses:
    """All pairs of owner and attribute that this Python lacks, parted by attribute word."""
    kept = frozenset(KEPT)
    attributes = {fact.name.rpartition(".")[2] for fact in facts if "." in fact.name} - kept
    words = sorted(set(VERBS) - kept | attributes)
    learnt = {fact.name for fact in facts}
    owners = {owner: lookup(owner) for owner in OWNERS}

    def absent(names: Sequence[str], bare: Sequence[str]) -> tuple[str, ...]:
        pairs = [f"{owner}.{name}" for owner, found in owners.items() for name in names if not hasattr(found, name)]
        return tuple(name for name in [*pairs, *(name for name in bare if lookup(name) is None)] if name not in learnt)

    return NearMisses(trained=absent(words, BARE), held_out=absent(KEPT, KEPT_BARE))


def first_of_owner(facts: Sequence[Fact]) -> dict[str, str]:
    """For every owner its first learnt name: where to send somebody who asks for one that is not learnt."""
    first = {"": "len"}
    for fact in facts:
        first.setdefault(fact.name.rpartition(".")[0], fact.name)
    return first


def ask_near_miss(name: str, known: Mapping[str, str], rng: random.Random) -> Exchange:
    """A question about the unknown `name` in the very wordings that facts are asked in.

    `known` is first_of_owner of the facts.
    """
    answer = rng.choice(DECLINED).format(name=name, known=known.get(name.rpartition(".")[0], "len"))
    return Exchange(question=ask_name(name, TRAINED, rng), answer=answer, kind="near_miss")
