"""LSTM and GRU against PyTorch's, with padding."""

import jax
import numpy as np
import pytest

from tests.interop.oracle import close, torch
from xmodal_jax.errors import UserError
from xmodal_jax.interop.recurrent import from_torch, to_torch
from xmodal_jax.interop.trees import leaves
from xmodal_jax.models.backbones.recurrent import Recurrent

B, T, D, H = 3, 7, 5, 6
LENGTHS = (7, 3, 5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_equals_torch_with_padding(rng, cell, bidirectional):
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    theirs = kind(D, H, num_layers=2, batch_first=True, bidirectional=bidirectional)
    x = rng.normal(size=(B, T, D)).astype(np.float32)
    mask = np.arange(T) < np.array(LENGTHS)[:, None]
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), LENGTHS, batch_first=True, enforce_sorted=False)
    states, last = theirs(packed)
    last = last[0] if cell == "lstm" else last  # [layers x directions, B, H]
    states, _ = torch.nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    pooled = torch.cat(list(last[-2 if bidirectional else -1 :]), dim=-1)
    weights = rng.normal(size=states.shape).astype(np.float32)
    ((states * torch.tensor(weights)).sum() + (pooled**2).sum()).backward()

    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    params = from_torch(state, 2, bidirectional)
    module = Recurrent(cell, width=H, layers=2, bidirectional=bidirectional)

    def run(params):
        out = module.apply({"params": params}, x, mask)
        return (out.x * weights).sum() + (out.pooled**2).sum(), out

    (_, out), grads = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
    close(out.x, states.detach(), 1e-4, "states")
    close(out.pooled, pooled.detach(), 1e-4, "pooled")
    wanted = from_torch({name: value.grad.numpy() for name, value in theirs.named_parameters()}, 2, bidirectional)
    got = leaves(grads)
    for name, value in leaves(wanted).items():
        close(got[name], value, 1e-3, f"gradient of {name}")
    back = to_torch(params, 2, bidirectional)
    assert all(np.array_equal(back[name], state[name]) for name in state) and set(back) == set(state)


def test_words_and_an_unknown_cell(rng):
    ids = rng.integers(0, 9, (B, T)).astype(np.int32)
    module = Recurrent("gru", vocabulary=9, width=H, layers=1)
    variables = module.init(jax.random.PRNGKey(0), ids)
    assert module.apply(variables, ids).x.shape == (B, T, H)
    with pytest.raises(UserError, match="recurrent cell.*'gru'"):
        Recurrent("grru").init(jax.random.PRNGKey(0), np.zeros((1, 2, 3), np.float32))


@pytest.mark.parametrize(
    "wrong, name",
    [
        (dict(num_layers=3), "weight_ih_l2"),
        (dict(num_layers=1), "weight_hh_l1"),
        (dict(num_layers=2, bidirectional=True), "weight_ih_l0_reverse"),
        (dict(num_layers=2, bias=False), "bias_ih_l0"),
    ],
)
def test_a_state_of_other_layers_or_directions_is_refused(wrong, name):
    state = {key: value.numpy() for key, value in torch.nn.LSTM(D, H, **wrong).state_dict().items()}
    with pytest.raises(UserError, match=f"2 layers, bidirectional=False.*{name}"):
        from_torch(state, 2)
