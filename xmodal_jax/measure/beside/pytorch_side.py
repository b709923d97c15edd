"""PyTorch's side of a comparison, eager, as transformers runs it. Nothing else of the library imports PyTorch."""

import torch
import transformers

from xmodal_jax.measure.beside.cases import BEAMS, DECAY, LEARNING_RATE

MODELS = {"vit": transformers.ViTModel, "bert": transformers.BertModel, "gpt2": transformers.GPT2LMHeadModel}


def make(case, model=None):
    """-> function of nothing that does the task of a case once, and returns its result. model: instead of a random one."""
    more = {} if case.family == "gpt2" else {"add_pooling_layer": False}
    model = model or MODELS[case.family](case.config(), **more)
    x = torch.from_numpy(case.inputs())
    x = x.permute(0, 3, 1, 2).contiguous() if case.family == "vit" else x.long()
    return {"train": train, "forward": forward, "beam": beam}[case.task](case, model, x)


def train(case, model, x):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=DECAY)

    def step():
        optimizer.zero_grad()
        loss = model(x, labels=x).loss if case.family == "gpt2" else (model(x).last_hidden_state ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def forward(case, model, x):
    model.eval()

    @torch.inference_mode()
    def apply():
        return model(x).last_hidden_state.numpy()

    return apply


def beam(case, model, x):
    model.eval()
    settings = dict(num_beams=BEAMS, max_new_tokens=case.written, min_new_tokens=case.written, do_sample=False)
    settings["pad_token_id"] = model.config.eos_token_id

    @torch.inference_mode()
    def search():
        return model.generate(x, attention_mask=torch.ones_like(x), **settings)[:, case.length :].numpy()

    return search
