"""A guard model asked whether a text is safe: Llama Guard, Granite Guardian or any that answers in a word.

    texts ─▶ a conversation, or the policy's own question ─▶ the model ─▶ "unsafe\\nS1" ─▶ unsafe

The model stands behind a URL that the policy names (OpenAI's chat completions; no redirect is followed), or is one that
is served here. An answer that is neither word, none in time, or none at all is a failure, and the rule says what then.
"""

import asyncio
import http.client
import json
import os
import re
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

from ownlm.engine import Request, Sampling
from ownlm.errors import OwnlmError
from ownlm.server.errors import ApiError
from ownlm.server.guard.policy import GuardModel
from ownlm.server.hosted import Hosted
from ownlm.server.messages import prompt_ids

# Questions to one guard model at a time; tokens of its answer; bytes of it.
_AT_ONCE, _TOKENS, _BYTES = 16, 64, 256 * 2**10
_THOUGHT = re.compile(r"<think>.*?</think>|<[^<>]{0,64}>", re.DOTALL)

Messages = list[dict[str, Any]]


class JudgeFailed(Exception):
    """It has not said whether the text is safe."""


class Judge:
    """`find`: a model that is served here, by its name; it is pinned, for every request needs it."""

    def __init__(self, asked: GuardModel, find: Callable[[str], Hosted | None]) -> None:
        self._asked, self._find = asked, find
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._key: str | None = None
        if asked.url is not None:
            self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ownlm-guard")
            if asked.key_from is not None:
                self._key = os.environ.get(asked.key_from)
                if not self._key or not self._key.isascii() or not self._key.isprintable():
                    raise OwnlmError(f"guard_model.key_from names {asked.key_from!r}, which no variable holds a key in")
        elif find(asked.model) is None:
            raise OwnlmError(f"guard_model.model is {asked.model!r}, which is not served here; serve it, or give a url")

    async def is_unsafe(self, asked: str, said: str | None) -> bool:
        """Of a prompt, or of what was said to it. JudgeFailed where nobody knows."""
        messages = self._messages(asked, said)
        try:
            # Whoever waits for others waits no longer than for the answer.
            async with asyncio.timeout(self._asked.seconds), self._places:
                answer = await (self._here(messages) if self._asked.url is None else self._there(messages))
        except TimeoutError:
            raise JudgeFailed("no answer in time") from None
        return self._read(answer)

    def _messages(self, asked: str, said: str | None) -> Messages:
        question = self._asked.prompt
        if question is not None:
            put = {"text": asked if said is None else said, "asked": asked}
            written = re.sub(r"\{(text|asked)\}", lambda name: put[name[1]], question)
            return [{"role": "user", "content": written}]
        # Llama Guard judges the last message of a conversation.
        return [{"role": "user", "content": asked}] + ([] if said is None else [{"role": "assistant", "content": said}])

    def _read(self, answer: str) -> bool:
        said = _THOUGHT.sub(" ", answer).strip().casefold()
        # "unsafe" before "safe", whichever of a policy's two words begins with the other.
        words = sorted([(self._asked.unsafe, True), (self._asked.safe, False)], key=lambda one: -len(one[0]))
        for word, unsafe in words:
            if re.match(re.escape(word.casefold()) + r"(?!\w)", said):
                return unsafe
        raise JudgeFailed("an answer that is neither word")

    async def _here(self, messages: Messages) -> str:
        hosted = self._find(self._asked.model)
        if hosted is None:
            raise JudgeFailed("the model is not there")
        try:
            prompt = await asyncio.to_thread(prompt_ids, hosted.files, messages)
            sampling = Sampling(temperature=0.0, max_tokens=min(_TOKENS, max(1, hosted.context - len(prompt))))
            answer = hosted.submit(Request(prompt=prompt, sampling=sampling, cache_salt="guard"))
            try:
                async with aclosing(aiter(answer)) as pieces:
                    return "".join([piece.text async for piece in pieces])
            finally:
                answer.cancel()
        except (OwnlmError, ApiError) as error:
            raise JudgeFailed("the model could not be asked") from error

    async def _there(self, messages: Messages) -> str:
        body = {"model": self._asked.model, "messages": messages, "temperature": 0, "max_tokens": _TOKENS}
        until = time.monotonic() + self._asked.seconds
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, json.dumps(body).encode(), until)
        try:
            said: str = json.loads(await work)["choices"][0]["message"]["content"]
            return said if isinstance(said, str) else ""
        except (
            OSError,
            http.client.HTTPException,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            RecursionError,
        ) as error:
            raise JudgeFailed("no answer that can be read") from error

    def _fetch(self, body: bytes, until: float) -> bytes:
        assert self._asked.url is not None
        url = urlsplit(self._asked.url)
        seconds = max(0.05, until - time.monotonic())
        if url.scheme == "https":
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                url.netloc, timeout=seconds, context=context
            )
        else:
            connection = http.client.HTTPConnection(url.netloc, timeout=seconds)
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {self._key}"} if self._key else {})
        try:
            path = f"{url.path.rstrip('/')}/chat/completions" + (f"?{url.query}" if url.query else "")
            connection.request("POST", path, body, headers)
            with connection.getresponse() as answer:
                if answer.status != 200:
                    raise ValueError(f"status {answer.status}")
                found = b""
                while part := answer.read1(16 * 2**10):
                    found += part
                    if len(found) > _BYTES or time.monotonic() > until:
                        raise ValueError("too long")
                return found
        finally:
            connection.close()

    def close(self) -> None:
        if self._asked.url is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def judges_of(rules: Sequence[Any], find: Callable[[str], Hosted | None]) -> dict[str, Judge]:
    """By the rule's name."""
    found: dict[str, Judge] = {}
    for rule in rules:
        if rule.judge is not None:
            try:
                found[rule.name] = Judge(rule.judge, find)
            except OwnlmError as error:
                raise OwnlmError(f"the policy's rule {rule.name!r}: {error}") from None
    return found
