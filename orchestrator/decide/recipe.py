"""A script that makes quantised weights where nobody has published any: LLM Compressor 0.14, `oneshot`."""

from __future__ import annotations

import re

from orchestrator.decide.mapping import Mapping

# What stays at 16 bit in vLLM's own kernels too: head, router and vision tower.
_HEAD = ["lm_head"]
_MOE = ["re:.*mlp.gate$", "re:.*block_sparse_moe.gate$", "re:.*router.*", "re:.*shared_expert_gate$"]
_VISION = ["re:.*vision.*", "re:.*visual.*", "re:.*multi_modal_projector.*", "re:.*mm_projector.*"]

_SCRIPT = '''\
"""Make {scheme} weights of {shown} with LLM Compressor.

Needs: pip install llmcompressor; memory (GPU and host together) for the 16-bit weights, about {gigabytes};
{data}.
Then name the directory {target} in migrate.yaml as the repository of this model.
"""

from transformers import {auto}, {processor}

from llmcompressor import oneshot
{imports}

MODEL = {repo!r}
TARGET = {target!r}

model = {auto}.from_pretrained(MODEL, dtype="auto"{trust})
processor = {processor}.from_pretrained(MODEL{trust})
oneshot(
    model=model,
    processor=processor,
    recipe={modifier}(targets="Linear", scheme={scheme!r}, ignore={ignore!r}),
{calibration})
model.save_pretrained(TARGET, save_compressed=True)
processor.save_pretrained(TARGET)
'''
_CALIBRATION = """\
    dataset="ultrachat_200k",
    splits={"calibration": "train_sft[:512]"},
    num_calibration_samples=512,
    max_seq_length=2048,
"""


def recipe(mapping: Mapping, scheme: str = "W4A16") -> str:
    """Return a Python script that makes W4A16 (calibrated) or FP8_DYNAMIC (no data needed) weights.

    Empty where there is nothing to make: weights that are published quantised, encoders, an unknown repository.
    Raises ValueError for another scheme.
    """
    if scheme not in ("W4A16", "FP8_DYNAMIC"):
        raise ValueError(f"no recipe for {scheme}: W4A16 or FP8_DYNAMIC")
    if mapping.repo is None or mapping.scheme != "bf16" or mapping.task == "embed":
        return ""
    calibrated = scheme == "W4A16"
    vision = mapping.numbers.vision
    ignore = _HEAD + (_MOE if mapping.numbers.moe else []) + (_VISION if vision else [])
    modifier, module = ("GPTQModifier", "gptq") if calibrated else ("QuantizationModifier", "quantization")
    size = f"{mapping.numbers.params_b * 2:.0f} GB" if mapping.numbers.params_b else "twice its parameters in bytes"
    return _SCRIPT.format(
        repo=mapping.repo,
        shown=re.sub(r"[^\w./~ -]", "?", mapping.repo),      # stands in a docstring
        scheme=scheme,
        target=target(mapping, scheme),
        auto="AutoModelForImageTextToText" if vision else "AutoModelForCausalLM",
        processor="AutoProcessor" if vision else "AutoTokenizer",
        imports=f"from llmcompressor.modifiers.{module} import {modifier}",
        modifier=modifier,
        ignore=ignore,
        calibration=_CALIBRATION if calibrated else "",
        data="512 conversations are downloaded to calibrate with" if calibrated else "no data to calibrate with",
        gigabytes=size,
        trust=", trust_remote_code=True" if mapping.trust_remote_code else "",
    )


def target(mapping: Mapping, scheme: str = "W4A16") -> str:
    """Return the directory that the script writes."""
    name = re.sub(r"[^\w.-]", "-", (mapping.repo or "").rstrip("/").rsplit("/", 1)[-1]) or "model"
    return f"{name}-{scheme}"
