"""The 32 special tokens: what text can never say.

In:  nothing; this is the list, in its fixed order.
Out: their names, for training, chat templates and saved configurations.

They stand after the ordinary tokens. The model inside the tokenizer then holds ordinary tokens only, so no text can
reach a special one, and an ordinary token's id is its rank among the merges, as tiktoken wants it. GGUF and Hugging
Face folders take either order; Qwen's own tokenizers have them last too. Look their ids up by name in
`Tokenizer.special`: the ids depend on how many ordinary tokens the training found.
"""

END_OF_TEXT = "<|endoftext|>"  # stands after each document
IM_START = "<|im_start|>"  # opens a chat message
IM_END = "<|im_end|>"  # closes a chat message
PAD = "<|pad|>"  # its own token: were it the end of text, masking the padding would mask the ending

FILL_IN_THE_MIDDLE = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
TOOLS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
THINKING = ("<think>", "</think>")

_NAMED = (END_OF_TEXT, IM_START, IM_END, PAD, *FILL_IN_THE_MIDDLE, *TOOLS, *THINKING)
SPECIAL_TOKENS: tuple[str, ...] = (*_NAMED, *(f"<|reserved_{n}|>" for n in range(32 - len(_NAMED))))
