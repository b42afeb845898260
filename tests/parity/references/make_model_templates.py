"""Write model_templates.json: what transformers makes of chat templates in other models' manner.

    PYTHONPATH=tests python tests/parity/references/make_model_templates.py

Needs transformers. Beside the reference lies the tokenizer that it was made with. The templates are our own; published
ones are compared live (tests/parity/test_model_templates.py).
"""

import json
from pathlib import Path
from typing import Any

import transformers

import foreign_tokenizers

HERE = Path(__file__).parent
TOOLS = """\
{%- if tools %}
<|user|>Tools:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}<|end|>
{% endif %}
{%- for message in messages %}
    {%- if message.role == "assistant" and message.tool_calls %}
<|assistant|>
        {%- for call in message.tool_calls %}
            {%- set call = call.function if call.function else call %}
{{ '{"name": "' + call.name + '", "arguments": ' + (call.arguments | tojson) + '}' }}
        {%- endfor %}<|end|>
    {%- elif message.role == "tool" %}
        {%- if loop.first or messages[loop.index0 - 1].role != "tool" %}<|user|>{% endif %}
<tool>{{ message.content }}</tool>
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}<|end|>{% endif %}
    {%- else %}
<|{{ message.role }}|>{{ message.content | trim }}<|end|>
    {%- endif %}
{% endfor %}
{%- if add_generation_prompt %}
<|assistant|>
{%- endif %}"""
ALTERNATING = """\
{{ bos_token }}
{%- set ns = namespace(expect='user', system='') %}
{%- for message in messages %}
{%- if message['role'] == 'system' %}
{%- if not loop.first %}{{ raise_exception('a system message comes first') }}{% endif %}
{%- set ns.system = message['content'] | trim %}
{%- continue %}
{%- endif %}
{%- if message['role'] != ns.expect %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- if message['role'] == 'user' %}
{{- '<|user|>' + (ns.system ~ '\\n\\n' if ns.system else '') + message['content'] + '<|end|>' -}}
{%- set ns.expect = 'assistant' %}{% set ns.system = '' %}
{%- else %}
{{- '<|assistant|> ' ~ message['content'] | trim ~ eos_token -}}
{%- set ns.expect = 'user' %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""
MARKED = """\
{{- bos_token }}
{%- macro text_of(content) -%}
{%- if content is string -%}{{ content }}
{%- else -%}{%- for part in content if part.type == 'text' -%}{{ part.text }}{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{{- '<|' ~ message.role ~ '|>' }}
{%- if message.role == 'assistant' -%}
{%- generation -%}
{%- if message.reasoning_content is defined %}{{ '<think>' + message.reasoning_content + '</think>' }}{% endif -%}
{{- text_of(message.content) + '<|end|>' -}}
{%- endgeneration -%}
{%- else -%}
{{- text_of(message.content) + '<|end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"""
TEMPLATES = {"tools": TOOLS, "alternating": ALTERNATING, "marked": MARKED}
CALL = {"id": "1", "type": "function", "function": {"name": "now", "arguments": {"zone": "Göteborg", "n": 1}}}
SCHEMA = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
TALKS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello! 👩‍👩‍👧"}]},
    {
        "messages": [
            {"role": "system", "content": "Be brief.\n"},
            {"role": "user", "content": "  naïve 中文 \r\n"},
            {"role": "assistant", "content": " Yes.\n", "reasoning": "hm"},
            {"role": "user", "content": "def f(x):\n\n    return x < 3"},
            {"role": "assistant", "content": ""},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "What time is it?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
            {"role": "tool", "content": "12:00"},
            {"role": "tool", "content": '{"a": [1]}'},
            {"role": "assistant", "content": "Noon."},
        ],
        "tools": [SCHEMA],
        "only": ["tools"],
    },
    {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "c"}]},
        ],
        "only": ["marked"],
    },
]


def main() -> None:
    folder = HERE / "foreign_tokenizer"
    config = {**foreign_tokenizers.CONFIG, "add_bos_token": True}
    foreign_tokenizers.write_folder(folder, foreign_tokenizers.byte_level(), tokenizer_config=config)
    peer = transformers.AutoTokenizer.from_pretrained(folder)
    cases = []
    for name, template in TEMPLATES.items():
        for talk in TALKS:
            if name not in talk.get("only", TEMPLATES):
                continue
            given = {"messages": talk["messages"], "tools": talk.get("tools")}
            call = {"conversation": given["messages"], "tools": given["tools"], "chat_template": template}
            case = {
                "template": template,
                **given,
                "text": peer.apply_chat_template(**call, tokenize=False),
                "ids": peer.apply_chat_template(**call, return_dict=False),
                "prompt_ids": peer.apply_chat_template(**call, add_generation_prompt=True, return_dict=False),
            }
            if name == "marked":
                masked = peer.apply_chat_template(**call, return_dict=True, return_assistant_tokens_mask=True)
                case["trained"] = masked["assistant_masks"]
            cases.append(case)
    content = {"transformers": transformers.__version__, "cases": cases}
    (HERE / "model_templates.json").write_text(
        json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
