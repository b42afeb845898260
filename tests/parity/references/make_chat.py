"""Write chat.json: what transformers makes of our exported tokenizer and chat template.

    python tests/parity/references/make_chat.py

Needs transformers. Beside the reference lies the tokenizer folder that it was made with.
"""

import json
from pathlib import Path

import transformers

from ownlm.tokenizer import train_tokenizer
from ownlm.tokenizer.compression import SAMPLES

HERE = Path(__file__).parent
CONVERSATIONS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello! How are you?"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What does len do?\n\n"},
        {"role": "assistant", "content": "\n\n    Counts.\n"},
        {"role": "user", "content": "\n  naïve 中文 🎹 \r\n"},
        {"role": "assistant", "content": " \n \tFür dich: 1984."},
    ],
    [
        {"role": "user", "content": "What is the weather?"},
        {"role": "tool", "content": '{"rain": true}'},
        {"role": "assistant", "content": ""},
    ],
]


def main() -> None:
    folder = HERE / "chat_tokenizer"
    train_tokenizer([*SAMPLES.values(), "user\nassistant\nsystem\ntool\n\n\n"] * 2, vocab_size=384).save(
        folder, chat=True
    )
    peer = transformers.AutoTokenizer.from_pretrained(folder)
    cases = []
    for messages in CONVERSATIONS:
        whole = peer.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        cases.append(
            {
                "messages": messages,
                "text": peer.apply_chat_template(messages, tokenize=False),
                "ids": whole["input_ids"],
                "trained": whole["assistant_masks"],
                "prompt_ids": peer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False),
            }
        )
    reference = {"transformers": transformers.__version__, "cases": cases}
    (HERE / "chat.json").write_text(json.dumps(reference, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
