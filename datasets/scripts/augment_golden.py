"""Makes tests/golden/augment.safetensors: single augmentations by torchvision at given parameters.

Needs torch, torchvision and safetensors. Every key `name` holds the result for the three images `rgb` (or `wide`).
"""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

torch.manual_seed(0)
rgb = torch.rand(3, 3, 16, 16)
rgb[2] = (rgb[2] > 0.5).float()  # pure colours: ties between channels
wide = torch.rand(3, 1, 12, 20)


def each(op, parameters, images=rgb):
    return torch.stack([op(image, p) for image, p in zip(images, parameters)])


out = {"rgb": rgb, "wide": wide}
out["brightness"] = each(F.adjust_brightness, [0.4, 1.0, 1.7])
out["contrast"] = each(F.adjust_contrast, [0.0, 0.6, 1.5])
out["contrast_wide"] = each(F.adjust_contrast, [0.2, 0.6, 1.5], wide)
out["saturation"] = each(F.adjust_saturation, [0.0, 0.6, 1.5])
out["hue"] = each(F.adjust_hue, [-0.5, 0.1, 0.35])
out["grey"] = F.rgb_to_grayscale(rgb, num_output_channels=3)
out["solarize"] = each(F.solarize, [0.2, 0.5, 1.0])
out["blur"] = each(lambda x, s: F.gaussian_blur(x, [5, 5], [s, s]), [0.3, 1.0, 2.0])
rects = [(0, 0, 16, 16), (3, 5, 7, 9), (10, 2, 4, 13)]
for name, mode in [("bilinear", InterpolationMode.BILINEAR), ("bicubic", InterpolationMode.BICUBIC)]:
    for size in (16, 6):
        resize = lambda x, r: F.resized_crop(x, *r, [size, size + 1], mode, antialias=True)
        out[f"crop_{name}_{size}"] = each(resize, rects)
affine = lambda x, p: F.affine(
    x, math.degrees(p[0]), list(p[1]), p[2], [0.0, 0.0], interpolation=InterpolationMode.BILINEAR
)
out["affine"] = each(affine, [(0.25, (0, 0), 1.0), (-1.0, (2, -3), 0.8), (0.1, (-4, 1), 1.3)])
out["affine_wide"] = each(affine, [(0.25, (0, 0), 1.0), (-1.0, (2, -3), 0.8), (0.1, (-4, 1), 1.3)], wide)
out["normalize"] = F.normalize(rgb, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

target = Path(__file__).parent.parent / "tests" / "golden" / "augment.safetensors"
target.parent.mkdir(exist_ok=True)
save_file({k: v.contiguous() for k, v in out.items()}, target)
print(target.stat().st_size, "bytes")
