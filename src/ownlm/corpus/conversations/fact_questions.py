"""How people ask what a name does: wordings that are trained, and wordings kept for the exam.

In:  a Fact and a random generator. Out: a question about it, its name spelled plainly, in backticks or with ().

Three groups that share no wording: TRAINED; HELD_OUT (exam kind "fact"); IN_SCOPE (exam kind "in_scope":
freer wordings still, where only a wrong refusal counts as a mistake).
"""

import random

from ownlm.corpus.conversations.facts import Fact
from ownlm.corpus.conversations.turns import Exchange, as_typed, dressed

TRAINED = (
    "What does {name} do?",
    "What does {name} do?",
    "What does {name} do in Python?",
    "What does the function {name} do?",
    "What is {name}?",
    "What is {name} for?",
    "What is {name} used for?",
    "What is {name} good for?",
    "What is the purpose of {name}?",
    "What is the meaning of {name}?",
    "What's {name}?",
    "What's {name} for?",
    "What can I do with {name}?",
    "What happens when I call {name}?",
    "What do you know about {name}?",
    "What will {name} do for me?",
    "Explain {name}.",
    "Explain {name} to me.",
    "Explain what {name} does.",
    "Please explain {name}.",
    "Can you explain {name}?",
    "Could you explain what {name} does?",
    "Describe {name}.",
    "Describe what {name} does.",
    "Tell me about {name}.",
    "Tell me what {name} does.",
    "Can you tell me what {name} does?",
    "How can I use {name}?",
    "How do I use {name}?",
    "How does {name} work?",
    "When do I use {name}?",
    "When should I use {name}?",
    "Why would I use {name}?",
    "Do you know {name}?",
    "Do you know what {name} does?",
    "I do not understand {name}.",
    "I want to know what {name} does.",
    "I need to know about {name}.",
    "In Python, what does {name} do?",
    "Give me a short description of {name}.",
    "Help me with {name}.",
    "Documentation of {name}?",
    "Define {name}.",
    "Meaning of {name}?",
    "{name}",
    "{name}?",
    "{name}: what is it?",
    "{name}, what does it do?",
    "{name} is new to me.",
    "I came across {name} today, what does it do?",
    "There is {name} in my code. What is it for?",
    "My friend uses {name}. What does it do?",
    "The book mentions {name}. What is it?",
    "I found {name} in a script, explain it.",
    "I have a question about {name}.",
    "I keep forgetting {name}, tell me again.",
    "Which task does {name} solve?",
    "What result does {name} give?",
    "What exactly is {name}?",
    "What should I know about {name}?",
    "What do people use {name} for?",
    "Is {name} useful, and for what?",
    "Somebody told me to use {name}, why?",
    "Why is {name} there?",
    "Any idea what {name} does?",
    "Would you explain {name}?",
    "A few words on {name}, please.",
    "Summary of {name}?",
    "Read me the documentation of {name}.",
    "How would a beginner use {name}?",
    "Are you able to explain {name}?",
    "Once more: what does {name} do?",
)
HELD_OUT = (
    "What does {name} actually do?",
    "Could you tell me what {name} is for?",
    "Please describe {name} for me.",
    "Say in one sentence what {name} does.",
    "I would like to understand {name}.",
    "What job does {name} have?",
    "So what is {name} about?",
    "Please tell me about {name}.",
    "What is {name} in Python?",
    "Can you describe {name}?",
    "How would you explain {name}?",
    "Show me the description of {name}.",
)
IN_SCOPE = (
    "I saw {name} in some code, what does it do?",
    "My teacher mentioned {name}. What is that?",
    "Remind me what {name} is.",
    "Quick question: what does {name} do?",
    "What would I need {name} for?",
    "Is {name} something you can explain?",
    "Someone wrote {name} here. Why?",
    "I forgot what {name} does, can you help?",
    "Summarise {name} for a beginner.",
    "What effect does {name} have?",
)


def spelled(name: str, rng: random.Random) -> str:
    """The name as people type it: len, `len`, len() or `len()`; a class or a bare constant keeps no ()."""
    roll = rng.random()
    called = not name.rpartition(".")[2][0].isupper()
    if roll < 0.5:
        return name
    if roll < 0.75:
        return f"`{name}`"
    if not called:
        return name
    return f"{name}()" if roll < 0.9 else f"`{name}()`"


def ask_name(name: str, wordings: tuple[str, ...], rng: random.Random) -> str:
    """A question about `name`, spelled, dressed and typed as people do; the exam's wordings stay as they are."""
    question = rng.choice(wordings).format(name=spelled(name, rng))
    if wordings is not TRAINED:
        return question
    # A question that begins with the name keeps the name's case.
    if not question.startswith((name, "`")):
        question = as_typed(question, rng)
    return dressed(question, rng)


def ask_fact(fact: Fact, wordings: tuple[str, ...], rng: random.Random) -> Exchange:
    """A question about `fact` in one of `wordings`, answered by its sentence."""
    return Exchange(question=ask_name(fact.name, wordings, rng), answer=fact.sentence, kind="fact")
