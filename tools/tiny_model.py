"""Make a tiny Llama with random weights: real enough for vLLM to serve, small enough for any machine.

    python tiny_model.py DIRECTORY

Needs torch and transformers, so it runs inside the vLLM image. The same call makes the same weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = """
A migration moves the work of one server to another while the people who use it go on working.
The old engine answers until the new one has shown that it answers as well; then the weight is shifted,
ten in a hundred, fifty in a hundred, all of it, and at each step the answers are counted and timed.
If the new one fails, every new request goes back to the old one, and streams in flight end as they began.
A question has a system message, a user message and an answer by the assistant; the answer comes in tokens.
def add(first: int, second: int) -> int:
    return first + second
{"name": "weather", "arguments": {"city": "Lisbon", "unit": "celsius"}}
One, two, three, four, five, six, seven, eight, nine, ten; 0 1 2 3 4 5 6 7 8 9.
Why is the sky blue? Because the air scatters short waves more than long ones.
"""

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|begin|>", "<|end|>", *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # every byte has a token: any prompt can be read
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines(keepends=True), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|end|>",
        model_max_length=4096,
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(20)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        initializer_range=0.3,  # the usual 0.02 repeats one token for ever
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # greedy answers are plain text: no halves of characters, no roles
        for token in range(len(tokenizer)):
            text = tokenizer.decode([token])
            if text in ROLES or not (text.isascii() and text.replace("\n", "").isprintable()):
                model.lm_head.weight[token] = 0
    return model.to(torch.bfloat16)


def main() -> None:
    target = Path(sys.argv[1])
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(target)
    make_model(tokenizer).save_pretrained(target, safe_serialization=True)
    (target / "model.safetensors").chmod(0o644)  # engines may run as another user


if __name__ == "__main__":
    main()
