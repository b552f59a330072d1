"""Language models: training, generation, preference losses."""

import torch

from .common import peer, scrambled


class Block(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.first, self.second = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attend, self.project = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.widen, self.narrow = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (p.view(b, t, self.heads, -1).transpose(1, 2) for p in self.attend(self.first(x)).split(c, 2))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(b, t, c))
        return x + self.narrow(torch.nn.functional.gelu(self.widen(self.second(x)), approximate="tanh"))


class Decoder(torch.nn.Module):
    def __init__(self, width, depth, heads, vocabulary, context):
        super().__init__()
        self.tokens, self.positions = torch.nn.Embedding(vocabulary, width), torch.nn.Embedding(context, width)
        self.blocks = torch.nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.last = torch.nn.LayerNorm(width)

    def forward(self, x):
        h = self.tokens(x) + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        return self.last(h) @ self.tokens.weight.T


def update(model, optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


@peer("torch")
def gpt_training(width, depth, heads, vocabulary, context, batch):
    torch.manual_seed(0)
    model = Decoder(width, depth, heads, vocabulary, context)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.02)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-3)
    tokens = (scrambled((batch, context + 1), 0.0, torch.float64).abs() * vocabulary).long()
    x, y = tokens[:, :-1], tokens[:, 1:]

    def work():
        return update(model, optimizer, torch.nn.functional.cross_entropy(model(x).view(-1, vocabulary), y.reshape(-1)))

    return work


@peer("transformers")
def generation(folder, prompts, new):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    longest = max(map(len, prompts))
    tokens = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])

    def work():
        kwargs = dict(do_sample=False, max_new_tokens=new, min_new_tokens=new, pad_token_id=0, eos_token_id=None)
        return model.generate(tokens, attention_mask=mask, **kwargs)[:, longest:].sum().item()

    return work


@peer("trl")
def dpo(pairs, length, width, vocabulary, beta):
    from trl.trainer.utils import selective_log_softmax

    hidden = scrambled((2 * pairs, length, width), 0.0).requires_grad_()
    head = (scrambled((vocabulary, width), 0.5) * 0.1).requires_grad_()
    tokens = (torch.arange(2 * pairs * length) * 7919 % vocabulary).view(2 * pairs, length)

    def work():
        hidden.grad = head.grad = None
        chosen, rejected = selective_log_softmax(hidden @ head.T, tokens).sum(1).chunk(2)
        loss = -torch.nn.functional.logsigmoid(beta * (chosen - rejected)).mean()
        loss.backward()
        return loss.item()

    return work


@peer("trl")
def dpo_training(lengths, batch, prompt, vocabulary, width, depth, heads, context, beta, lr):
    from trl.trainer.utils import selective_log_softmax

    model = Decoder(width, depth, heads, vocabulary, context)
    for p in model.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    lengths, pairs, longest = torch.tensor(lengths), len(lengths) // 2, prompt + max(lengths)
    tokens = (scrambled((2 * pairs, longest), 0.0, torch.float64).abs() * vocabulary).long()
    places = torch.arange(1, longest)
    mask = (places >= prompt) & (places < prompt + lengths[:, None])

    def log_probs(rows):
        x = tokens[rows]
        each = selective_log_softmax(model(x[:, :-1]), x[:, 1:])
        return (each * mask[rows]).sum(1)

    with torch.no_grad():
        reference = log_probs(torch.arange(2 * pairs))

    def work():
        index = torch.randperm(pairs)[:batch]
        rows = torch.cat([index, index + pairs])
        chosen, rejected = (log_probs(rows) - reference[rows]).chunk(2)
        return update(model, optimizer, -torch.nn.functional.logsigmoid(beta * (chosen - rejected)).mean())

    return work


@peer("torch")
def preference_losses(pairs, beta):
    def side(phase):
        return -(scrambled((pairs,), phase).abs() * 40 + 1)

    chosen, rejected = side(0.0).requires_grad_(), side(0.5).requires_grad_()
    margin_of_reference = side(0.25) - side(0.75)
    logsigmoid = torch.nn.functional.logsigmoid

    def work():
        chosen.grad = rejected.grad = None
        margin = chosen - rejected - margin_of_reference
        w, l = chosen / 20, rejected / 20
        odds = (w - l) - (torch.log1p(-torch.exp(w)) - torch.log1p(-torch.exp(l)))
        each = -logsigmoid(beta * margin) + (margin - 1 / (2 * beta)) ** 2 - logsigmoid(2 * (w - l) - 1) - logsigmoid(odds)
        loss = each.mean()
        loss.backward()
        return loss.item()

    return work
