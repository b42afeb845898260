"""A model that answers from a script, slowly: run as a program it opens our chat on it.

python fake_chat.py '{"delay": 0.02, "answers": ["Hello."], "options": {"seed": 1}}'
"""

import json
import re
import sys
import time
from types import SimpleNamespace

LOREM = (
    "# A heading\n\nThe quick brown fox jumps over the lazy dog while extraordinarily long words such as "
    "internationalization stand whole. `len(x)` gives a length and **bold words** stay bold; 2 ** 3 is 8.\n"
    "- an item that is long enough to be wrapped once or more on a screen of eighty columns, and hangs\n"
    "\n```python\nprint('code')\n```\nThe end."
)


class FakeStream:
    def __init__(self, model, text):
        self.model, self.text = model, text
        self.cancelled = False
        self.tokens = 0
        self.tokens_per_second = 12.5
        self.finish_reason = "stop"
        self.context_dropped = model.dropped

    def __iter__(self):
        for number, text in enumerate(re.findall(r"\s*\S{1,4}|\s+", self.text)):
            time.sleep(self.model.delay)
            if self.cancelled:
                self.finish_reason = "cancelled"
                return
            self.tokens += 1
            yield SimpleNamespace(text=text, token_ids=[number], probability=(0.99, 0.3, 0.05)[number % 3])

    def cancel(self):
        self.cancelled = True


class FakeModel:
    """Answers in turn from `answers`; {question} stands for the last question."""

    name = "fake-model"

    def __init__(self, answers=(LOREM,), delay=0.0, dropped=0):
        self.answers, self.delay, self.dropped = list(answers), delay, dropped
        self.calls = []

    def stream_chat(self, messages, **settings):
        self.calls.append((messages, settings))
        answer = self.answers[(len(self.calls) - 1) % len(self.answers)]
        return FakeStream(self, answer.replace("{question}", messages[-1]["content"]))


if __name__ == "__main__":
    from ownlm.cli.chat_loop import run_chat
    from ownlm.cli.chat_session import ChatOptions

    setup = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    options = ChatOptions(**setup.pop("options", {}))
    sys.exit(run_chat(FakeModel(**setup), options=options, stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr))
