"""Golden values of the masked autoencoder: transformers' ViTMAEForPreTraining on given masks, its weights under our names.

Needs the package transformers (5.x) beside requirements.txt. Run: python benches/peers/golden_mae.py
(writes crates/distill/tests/fixtures/mae.safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import ViTMAEConfig, ViTMAEForPreTraining

torch.manual_seed(0)
config = ViTMAEConfig(
    hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4,
    num_channels=2, decoder_hidden_size=12, decoder_num_hidden_layers=1, decoder_num_attention_heads=3,
    decoder_intermediate_size=48, mask_ratio=0.75, norm_pix_loss=True, layer_norm_eps=1e-5,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
net = ViTMAEForPreTraining(config).double().eval()
state = net.state_dict()
# A model that is not loaded from a file may have zeros there; the formula is that of MAE's code.
for name, width in (("vit.embeddings.position_embeddings", 8), ("decoder.decoder_pos_embed", 12)):
    line = [[k / 10_000 ** (4 * i / width) for i in range(width // 4)] for k in range(4)]
    line = torch.tensor(line, dtype=torch.float64)
    line = torch.cat([line.sin(), line.cos()], 1)
    places = [torch.cat([line[column], line[row]]) for row in range(4) for column in range(4)]
    state[name].copy_(torch.stack([torch.zeros(width), *places])[None])
for name, t in state.items():
    # Larger than a fresh network's, so that every part counts.
    if "position" not in name and "pos_embed" not in name:
        t.copy_(torch.randn_like(t) * 0.3 + (1.0 if "norm" in name and name.endswith("weight") else 0.0))


def blocks(from_, to, depth):
    out = {}
    for i in range(depth):
        a = f"{from_}.{i}."
        b = f"{to}.blocks.{i}."
        for kind in ("weight", "bias"):
            qkv = [state[f"{a}attention.{p}_proj.{kind}"] for p in "qkv"]
            out[f"{b}attention.qkv.{kind}"] = torch.cat(qkv)
            for theirs, ours in (
                ("attention.o_proj", "attention.out"), ("mlp.fc1", "up"), ("mlp.fc2", "down"),
                ("layernorm_before", "norm1"), ("layernorm_after", "norm2"),
            ):  # fmt: skip
                out[f"{b}{ours}.{kind}"] = state[f"{a}{theirs}.{kind}"]
    return out


weights = blocks("vit.layers", "encoder", 2) | blocks("decoder.decoder_layers", "decoder", 1)
for kind in ("weight", "bias"):
    weights[f"encoder.patches.{kind}"] = state[f"vit.embeddings.patch_embeddings.projection.{kind}"]
    weights[f"encoder.norm.{kind}"] = state[f"vit.layernorm.{kind}"]
    weights[f"decoder.embed.{kind}"] = state[f"decoder.decoder_embed.{kind}"]
    weights[f"decoder.norm.{kind}"] = state[f"decoder.decoder_norm.{kind}"]
    weights[f"decoder.predict.{kind}"] = state[f"decoder.decoder_pred.{kind}"]
weights["encoder.class"] = state["vit.embeddings.cls_token"]
weights["encoder.position"] = state["vit.embeddings.position_embeddings"]
weights["decoder.mask"] = state["decoder.mask_token"]
weights["decoder.position"] = state["decoder.decoder_pos_embed"]

images, noise = torch.randn(3, 2, 16, 16, dtype=torch.float64), torch.rand(3, 16, dtype=torch.float64)
result = net(images, noise=noise)
result.loss.backward()
projection = net.vit.embeddings.patch_embeddings.projection.weight.grad
class_grad = net.vit.embeddings.cls_token.grad
# The whole image: no masking, patches in their order.
net.vit.embeddings.config.mask_ratio = 0.0
whole = net.vit(images, noise=torch.arange(16, dtype=torch.float64).expand(3, 16)).last_hidden_state
out = weights | {
    "images": images, "noise": noise, "loss": result.loss, "mask": result.mask, "prediction": result.logits,
    "patches_grad": projection, "class_grad": class_grad, "tokens": whole,
}  # fmt: skip
to = Path(__file__).parents[2] / "crates/distill/tests/fixtures/mae.safetensors"
save_file({k: v.detach().clone().contiguous() for k, v in out.items()}, to)
