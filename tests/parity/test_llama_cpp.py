"""llama.cpp opens the GGUF files that we write, and computes from them what transformers computes from the model.

Where llama-cpp-python is not installed, what it once computed stands in references/llama_cpp.json.
"""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.artefact.gguf_header import read_gguf
from ownlm.model.formats.gguf_checkpoint import gguf_checkpoint
from ownlm.model.formats.gguf_write import write_gguf

REFERENCES = Path(__file__).parent / "references"
REFERENCE = json.loads((REFERENCES / "llama_cpp.json").read_text(encoding="utf-8"))
NOT_INSTALLED = "announced: llama-cpp-python is not installed; references/llama_cpp.json stands for it"
NO_GGUF = "announced: OWNLM_TEST_GGUF names no folder with SmolLM2's GGUF file"
# llama.cpp reads GELU from a table of float16 arguments.
TABLED = ("gemma2", "gemma3_text", "gpt2", "gpt_neox", "gpt_neox, one after the other")


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_llama_cpp", REFERENCES / "make_llama_cpp.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = maker()
installed = pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason=NOT_INSTALLED)


def test_the_reference_has_every_case() -> None:
    assert REFERENCE["cases"].keys() == MAKER.CASES.keys()


@pytest.mark.parametrize("case", MAKER.CASES)
def test_the_file_that_llama_cpp_read_is_the_one_that_we_write(tmp_path: Path, case: str) -> None:
    """After a change that is meant: run make_llama_cpp.py, and see that the next test holds still."""
    assert MAKER.write(case, tmp_path / "x.gguf") == REFERENCE["cases"][case]["sha256"]


@pytest.mark.peers
@pytest.mark.parametrize("case", MAKER.CASES)
def test_llama_cpp_computed_what_transformers_computes(case: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    checkpoint = MAKER.checkpoint(case)
    left_out = ("dtype", "torch_dtype", "rope_scaling")
    config = AutoConfig.for_model(**{name: value for name, value in checkpoint.fields.items() if name not in left_out})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    weights = as_in_memory({name: tensor.read() for name, tensor in checkpoint.tensors.items()})
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    with torch.inference_mode():
        logits = model(torch.tensor([MAKER.IDS])).logits[0][MAKER.KEPT]
    assert_close(logits, case)


def as_in_memory(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names in files as transformers 5 has them in memory: experts stacked, one name for all heads."""
    experts = sorted({name.rpartition(".experts.")[0] for name in weights if ".experts." in name})
    for stem in experts:
        gate, up, down = (
            torch.stack([weights.pop(f"{stem}.experts.{number}.{what}_proj.weight") for number in range(4)])
            for what in ("gate", "up", "down")
        )
        weights |= {f"{stem}.experts.gate_up_proj": torch.cat((gate, up), dim=1), f"{stem}.experts.down_proj": down}
    return {name.replace("embed_out", "lm_head"): tensor for name, tensor in weights.items()}


def assert_close(logits: torch.Tensor, case: str) -> None:
    expected = torch.tensor(REFERENCE["cases"][case]["logits"])
    assert logits.shape == expected.shape and expected.std() > 0.1
    difference = ((logits - expected).abs().max() / expected.std()).item()
    assert difference < (1e-2 if case in TABLED else 2e-4), difference


@installed
@pytest.mark.peers
@pytest.mark.parametrize("case", MAKER.CASES)
def test_llama_cpp_still_computes_the_reference(tmp_path: Path, case: str) -> None:
    MAKER.write(case, tmp_path / "x.gguf")
    assert_close(torch.from_numpy(MAKER.llama_cpp_logits(tmp_path / "x.gguf", MAKER.IDS)[MAKER.KEPT]), case)


@installed
@pytest.mark.peers
def test_smollm2_in_each_type(tmp_path: Path) -> None:
    """From the file of Q4_1 to F32 and on: F16 loses nearly nothing, Q8_0 as little as eight bits can."""
    folder = os.environ.get("OWNLM_TEST_GGUF")
    source = Path(folder or "") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if folder is None or not source.is_file():
        pytest.skip(NO_GGUF)
    file = read_gguf(source)
    checkpoint = gguf_checkpoint(file)
    tokenizer = {key: value for key, value in file.metadata.items() if key.startswith("tokenizer.")}
    ids = [1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198]
    found = {}
    for kind in ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q4_1", "Q4_0"):
        path = tmp_path / f"{kind}.gguf"
        write_gguf(path, checkpoint, quantization=kind, tokenizer_metadata=tokenizer)
        found[kind] = torch.from_numpy(MAKER.llama_cpp_logits(path, ids))
        path.unlink()
    exact = found.pop("F32")
    rms = {kind: (logits - exact).pow(2).mean().sqrt() for kind, logits in found.items()}
    assert rms["F16"] < 0.05 and rms["BF16"] < 0.2 and rms["Q8_0"] < 0.6, rms
    # A file of Q4_1 goes back into Q4_1 without loss, but for the int8 that activations become.
    assert rms["Q4_1"] < 0.6, rms
    assert (found["F16"].argmax(-1) == exact.argmax(-1)).all()


@installed
def test_llama_cpp_goes_on_from_an_export_as_we_do(workshop: Path, tmp_path: Path) -> None:
    from llama_cpp import Llama

    from ownlm.opened import load
    from ownlm.opened.deployment.export import export_deployment

    folder = export_deployment("llamacpp", workshop / "chat", tmp_path / "out", name="mine").path
    ours = load(workshop / "chat", dtype="float32")
    asked = [{"role": "user", "content": "What does str.split do?"}]
    prompt = ours.template.render(asked, True).ids if ours.template else []
    theirs = Llama(str(folder / "model" / "model.gguf"), n_ctx=64, seed=0, verbose=False)
    drawn: list[int] = []
    for token in theirs.generate(prompt, temp=0.0, repeat_penalty=1.0):
        drawn.append(token)
        if len(drawn) == 16:
            break
    found = ours.chat(asked, max_tokens=16, temperature=0, ignore_eos=True)
    assert drawn == list(found.token_ids)
    whole = theirs.create_chat_completion(asked, max_tokens=8, temperature=0.0, repeat_penalty=1.0)
    assert whole["usage"]["prompt_tokens"] == len(prompt)
