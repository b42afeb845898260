"""Text and tokens, both ways: /tokenize, /detokenize, /tokenizer_info, /apply-template, as vLLM and llama.cpp do."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from ownlm.server.errors import bad
from ownlm.server.fields import Body
from ownlm.server.hosted import Served
from ownlm.server.messages import check_tools, prompt_ids
from ownlm.server.principal import Principal
from ownlm.server.service import Service, principal_of, service_of

router = APIRouter()


class TokenizeBody(Body):
    """`prompt` (vLLM) and `content` (llama.cpp) are the same; or messages, by the chat template.

    In both servers a special token's name in the text is that token, and lm-eval asks for its end token so. Here it is
    so as well unless parse_special is false; a prompt that is sent as text is never read so.
    """

    model: str | None = None
    prompt: str | None = None
    content: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    add_special: bool | None = None
    parse_special: bool | None = None
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None
    with_pieces: bool | None = None


class DetokenizeBody(Body):
    model: str | None = None
    tokens: list[int]


class TemplateBody(Body):
    model: str | None = None
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


@router.post("/tokenize")
async def tokenize(
    body: TokenizeBody,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> dict[str, Any]:
    served = only(body.model, service, principal)
    model = served.hosted.files
    given = [one for one in (body.prompt, body.content, body.messages) if one is not None]
    if len(given) != 1:
        raise bad("give one of prompt, content and messages", "prompt")
    if body.messages is not None:
        ids = prompt_ids(model, body.messages, tools=check_tools(body.tools or []))
    else:
        text = str(given[0])
        special = body.add_special_tokens if body.add_special_tokens is not None else body.add_special
        # llama.cpp adds none unless asked, vLLM does.
        special = special if special is not None else body.prompt is not None
        ids = model.tokenizer.encode(text, parse_special=body.parse_special is not False)
        if special and text:
            ids = [*model.tokenizer.prefix_ids, *ids]
    found: dict[str, Any] = {"count": len(ids), "max_model_len": served.hosted.context, "tokens": ids}
    if body.return_token_strs:
        found["token_strs"] = [model.tokenizer.token_bytes(id).decode("utf-8", "replace") for id in ids]
    if body.with_pieces:
        found["tokens"] = [{"id": id, "piece": _piece(model.tokenizer.token_bytes(id))} for id in ids]
    return found


@router.post("/detokenize")
async def detokenize(
    body: DetokenizeBody,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> dict[str, Any]:
    tokenizer = only(body.model, service, principal).hosted.files.tokenizer
    if wrong := [id for id in body.tokens if not 0 <= id < tokenizer.vocab_size]:
        raise bad(f"tokens holds {wrong[0]}, the vocabulary ends at {tokenizer.vocab_size - 1}", "tokens")
    text = tokenizer.decode(body.tokens)
    return {"prompt": text, "content": text}


@router.get("/tokenizer_info")
async def tokenizer_info(
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
    model: str | None = None,
) -> dict[str, Any]:
    served = only(model, service, principal)
    opened = served.hosted.files
    names = opened.tokenizer.names
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "vocab_size": opened.tokenizer.vocab_size,
        "model_max_length": served.hosted.context,
        "chat_template": None if opened.template is None else opened.template.jinja,
        "bos_token": names.get("bos_token"),
        "eos_token": names.get("eos_token"),
        "pad_token": names.get("pad_token"),
    }


@router.post("/apply-template")
async def apply_template(
    body: TemplateBody,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> dict[str, Any]:
    model = only(body.model, service, principal).hosted.files
    tools = check_tools(body.tools or [])
    ids = prompt_ids(model, body.messages, tools=tools, variables=body.chat_template_kwargs)
    return {"prompt": model.tokenizer.decode(ids), "tokens": ids}


def only(model: str | None, service: Service, principal: Principal) -> Served:
    """The model that is named, or the one there is."""
    if model is not None:
        return service.find(model, principal)
    names = [name for name in service.hosted if principal.may_use(name)]
    if len(names) != 1:
        raise bad("name one of the models that are served, as model", "model")
    return service.find(names[0], principal)


def _piece(spelled: bytes) -> str | list[int]:
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return list(spelled)
