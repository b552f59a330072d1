"""Golden language models: tiny GPT-2, Llama and Qwen2 networks as folders, with transformers' logits and greedy continuations.

Run: python benches/peers/golden_language_models.py   (writes crates/core/tests/fixtures/language_models/<name>/)

Weights are drawn and scaled up, so that attention is far from uniform and the most probable token far from a tie; biases and gains are
drawn too. `golden.safetensors` in each folder holds tokens, their logits, and the greedy continuation of left-padded prompts.
"""

import copy
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

VOCAB, LENGTH, NEW = 48, 12, 10
ROOT = Path(__file__).parents[2] / "crates/core/tests/fixtures/language_models"

llama = dict(
    vocab_size=VOCAB, hidden_size=16, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, bos_token_id=0, eos_token_id=None, pad_token_id=0, rms_norm_eps=1e-5,
)
llama3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
yarn = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, beta_slow=0.5)
gpt2 = dict(vocab_size=VOCAB, n_positions=64, n_embd=16, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=None, pad_token_id=0)
MODELS = {
    "gpt2": (GPT2LMHeadModel, GPT2Config(**gpt2)),
    "gpt2_untied": (GPT2LMHeadModel, GPT2Config(**gpt2 | dict(n_inner=24, tie_word_embeddings=False, layer_norm_epsilon=1e-3))),
    "llama": (LlamaForCausalLM, LlamaConfig(**llama, head_dim=8, rope_parameters=llama3 | dict(rope_theta=100.0))),
    "llama_yarn": (
        LlamaForCausalLM,
        LlamaConfig(**llama, attention_bias=True, mlp_bias=True, rope_parameters=yarn | dict(rope_theta=100.0)),
    ),
    "llama_linear": (LlamaForCausalLM, LlamaConfig(**llama, rope_parameters=dict(rope_type="linear", factor=3.0, rope_theta=50.0))),
    "qwen2": (
        Qwen2ForCausalLM,
        Qwen2Config(**llama | dict(rms_norm_eps=1e-6), tie_word_embeddings=True, rope_parameters=dict(rope_theta=1e6)),
    ),
}


def fill(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1:
                p.normal_(0, 0.9 if "wte" in name or "wpe" in name or "embed" in name else 0.35)
            elif "norm" in name or "ln_" in name:
                p.uniform_(0.5, 1.5) if name.endswith("weight") else p.normal_(0, 0.2)
            else:
                p.normal_(0, 0.5)


@torch.no_grad()
def golden(model, tokens, prompts, mask):
    new = model.generate(
        prompts, attention_mask=mask, do_sample=False, max_new_tokens=NEW, min_new_tokens=NEW, pad_token_id=0, eos_token_id=None
    )
    return {
        "tokens": tokens,
        "logits": model(tokens).logits,
        "prompts": prompts,
        "mask": mask.bool(),
        "continuation": new[:, prompts.shape[1] :],
    }


def main():
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    shutil.rmtree(ROOT, ignore_errors=True)
    for name, (cls, config) in MODELS.items():
        model = cls._from_config(config, attn_implementation="sdpa").float().eval()
        fill(model)
        tokens = torch.randint(1, VOCAB, (3, LENGTH))
        prompts = torch.randint(1, VOCAB, (4, 7))
        mask = torch.arange(7) >= torch.tensor([[0], [2], [5], [1]])
        prompts = prompts.masked_fill(~mask, 0)
        folder = ROOT / name
        if name == "qwen2":
            # Half of the files in use are in bfloat16; the logits are those of the rounded weights, in f32.
            with torch.no_grad():
                for p in model.parameters():
                    p.copy_(p.bfloat16())
            copy.deepcopy(model).bfloat16().save_pretrained(folder)
        else:
            model.save_pretrained(folder, max_shard_size="12KB" if name == "llama" else "1GB")
        if name == "gpt2_untied":
            # As the decoder alone is saved: names without "transformer.".
            path = folder / "model.safetensors"
            save_file({k.removeprefix("transformer."): v for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
        out = golden(model, tokens, prompts, mask.long())
        save_file({k: v.contiguous() for k, v in out.items()}, folder / "golden.safetensors")
        (folder / "generation_config.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
