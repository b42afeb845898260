"""A streamed answer: what cannot be answered has a status of its own, what breaks off later is an event.

The place at the engine is held from before the first byte until the stream ends, however that is.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from starlette.requests import Request as HttpRequest

from ownlm.server import sse
from ownlm.server.answering import Answering, Asked, unless_gone
from ownlm.server.errors import ApiError
from ownlm.server.principal import Principal
from ownlm.server.service import Service

Write = Callable[[Answering], AsyncGenerator[bytes]]
Failed = Callable[[ApiError], bytes]


async def streamed(
    http: HttpRequest,
    service: Service,
    asked: Asked,
    principal: Principal,
    write: Write,
    *,
    failed: Failed = lambda error: sse.event(error.openai()),
) -> sse.EventStream:
    """`write` makes events of an answer, `failed` the last one of an error in the middle."""
    events = _events(service, asked, principal, write, failed)
    try:
        first = await unless_gone(http, anext(events))
    except BaseException:
        await events.aclose()
        raise
    return sse.EventStream(first, events)


async def _events(
    service: Service, asked: Asked, principal: Principal, write: Write, failed: Failed
) -> AsyncGenerator[bytes]:
    begun = False
    try:
        async with service.answering(asked, principal) as answers, aclosing(write(answers)) as events:
            async for event in events:
                yield event
                begun = True
    except ApiError as error:
        if not begun:
            raise
        yield failed(error)
