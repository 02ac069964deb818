"""Conv-TasNet, dual-path RNN and TF-GridNet, beside other implementations; padding, silence, and wrong sizes."""

import importlib
import importlib.util
import math
import re
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from networks import measure
from torch.nn.functional import layer_norm, prelu

from separation.app.assembly import build
from separation.app.settings import compose_config
from separation.errors import InputError
from separation.model.conv_tasnet import ConvTasNet
from separation.model.dprnn import DualPathRnn
from separation.model.features import Mixture, Stft
from separation.model.layers import GlobalLayerNorm
from separation.model.losses import snr_pit
from separation.model.networks import computing_in, has_bfloat16_lstm, num_parameters
from separation.model.tf_gridnet import Block, Recurrent, TfGridNet

CONV_TASNET = {
    "enc_kernel_size": 16,
    "enc_num_feats": 32,
    "msk_kernel_size": 3,
    "msk_num_feats": 16,
    "msk_num_hidden_feats": 24,
    "msk_num_layers": 3,
    "msk_num_stacks": 2,
    "activation": "sigmoid",
}
DPRNN = {
    "kernel_size": 16,
    "num_filters": 32,
    "bottleneck_size": 16,
    "hidden_size": 12,
    "num_blocks": 2,
    "chunk_size": 10,
    "activation": "relu",
}
TF_GRIDNET = {
    "window_length": 32,
    "embedding_size": 8,
    "hidden_size": 6,
    "num_blocks": 2,
    "kernel_size": 4,
    "stride": 3,
    "num_heads": 2,
    "key_size": 3,
}
NETWORKS = {
    "conv_tasnet": (ConvTasNet, CONV_TASNET),
    "dprnn": (DualPathRnn, DPRNN),
    "tf_gridnet": (TfGridNet, TF_GRIDNET),
}
STFT = Stft(32, 8)
every_network = pytest.mark.parametrize("name", NETWORKS)


def make(name, **changes):
    """A small network in which nothing is 0 or 1 as it is at the start."""
    torch.manual_seed(0)
    kind, sizes = NETWORKS[name]
    return shaken(kind(2, **{**sizes, **changes}))


def shaken(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def separated(network, waveforms, num_samples=None):
    return network(Mixture(waveforms, STFT, num_samples))["waveform"]


def installed(package, *path):
    """A file of a package that needn't be importable."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(found.origin).parent.joinpath(*path)


@torch.no_grad()
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("num_samples", [1, 8, 1000, 1003])
def test_conv_tasnet_is_torchaudios(num_samples, activation):
    spec = importlib.util.spec_from_file_location("conv_tasnet", installed("torchaudio", "models", "conv_tasnet.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ours = make("conv_tasnet", activation=activation)
    sizes = {key: value for key, value in CONV_TASNET.items() if key != "activation"}
    theirs = module.ConvTasNet(2, **sizes, msk_activate=activation)
    theirs.load_state_dict(ours.state_dict())
    mixtures = torch.randn(3, num_samples)
    torch.testing.assert_close(separated(ours, mixtures), theirs(mixtures.unsqueeze(1)), atol=1e-5, rtol=0)


NAMES = {
    r"bottleneck\.0\.": "norm.",
    r"bottleneck\.1\.": "bottleneck.",
    r"net\.(\d+)\.intra_": r"within.\1.",
    r"net\.(\d+)\.inter_": r"across.\1.",
    r"RNN\.rnn\.": "lstm.",
    r"first_out\.0\.": "prelu.",
    r"first_out\.1\.": "split.",
    r"net_out\.0\.": "value.",
    r"net_gate\.0\.": "gate.",
    r"mask_net\.": "mask.",
    r"gamma$": "weight",
    r"beta$": "bias",
}
"""asteroid's names of a dual-path RNN's parameters, and ours."""


@torch.no_grad()
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("num_frames", [1, 9, 10, 57])
def test_dprnn_is_asteroids(num_frames, activation, monkeypatch):
    """Its masks: asteroid's encoder and decoder are in a package that is not installed."""
    folder = installed("asteroid")
    for name, path in (("asteroid", folder), ("asteroid.masknn", folder / "masknn")):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        monkeypatch.setitem(sys.modules, name, package)
    for name in ("asteroid_filterbanks", "asteroid_filterbanks.transforms", "asteroid.complex_nn"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    theirs = importlib.import_module("asteroid.masknn.recurrent").DPRNN(
        32, 2, bn_chan=16, hid_size=12, chunk_size=10, n_repeats=2, mask_act=activation
    )
    weights = shaken(theirs).state_dict()
    for pattern, ours in NAMES.items():
        weights = {re.sub(pattern, ours, key): value for key, value in weights.items()}
    ours = make("dprnn", activation=activation)
    missing, unexpected = ours.load_state_dict(weights, strict=False)
    assert set(missing) == {"encoder.weight", "decoder.weight"} and not unexpected
    frames = torch.randn(3, 32, num_frames)
    torch.testing.assert_close(ours._masks(frames, None), theirs(frames), atol=1e-5, rtol=0)


def lstm_by_hand(layer, steps, suffix):
    """One direction of an LSTM over (time, feature), gate by gate."""
    weight, recurrent, bias, other_bias = (
        getattr(layer, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    hidden = cell = torch.zeros(layer.hidden_size)
    outputs = []
    for step in steps:
        i, f, g, o = (weight @ step + recurrent @ hidden + bias + other_bias).chunk(4)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        outputs.append(hidden)
    return torch.stack(outputs)


def recurrent_by_hand(part: Recurrent, sequence):
    """`Recurrent` along one sequence, shape (time, channel): windows, both directions, and what each step adds."""
    size, stride = part.deconv.kernel_size[0], part.deconv.stride[0]
    normed = layer_norm(sequence, sequence.shape[1:], part.norm.weight, part.norm.bias, 1e-5)
    starts = range(0, len(sequence) - size + 1, stride)
    windows = [
        torch.cat([normed[start : start + size, channel] for channel in range(normed.shape[1])]) for start in starts
    ]
    ahead = lstm_by_hand(part.lstm, windows, "")
    back = lstm_by_hand(part.lstm, windows[::-1], "_reverse").flip(0)
    result = sequence + part.deconv.bias
    for start, hidden in zip(starts, torch.cat([ahead, back], 1), strict=True):
        for offset in range(size):
            result[start + offset] += hidden @ part.deconv.weight[:, :, offset]
    return result


def projected_by_hand(projection, frame, head):
    """One head of one frame, shape (frequency, channel) -> (channel, frequency)."""
    channels = projection.gain.shape[2]
    rows = slice(head * channels, (head + 1) * channels)
    values = frame @ projection.linear.weight[rows].T + projection.linear.bias[rows]
    values = prelu(values, projection.prelu.weight[head]).T
    values = (values - values.mean()) / (values.var(correction=0) + 1e-5).sqrt()
    return values * projection.gain[head, 0] + projection.offset[head, 0]


def block_by_hand(block: Block, grid, num_heads):
    """`Block` for one mixture, shape (frame, frequency, channel): sequence by sequence, frame by frame."""
    frames, bands, size = grid.shape
    overlap = block.kernel_size - block.stride

    def padded_length(length):
        steps = math.ceil((length + 2 * overlap - block.kernel_size) / block.stride)
        return steps * block.stride + block.kernel_size

    padded = torch.zeros(padded_length(frames), padded_length(bands), size)
    padded[overlap : overlap + frames, overlap : overlap + bands] = grid
    padded = torch.stack([recurrent_by_hand(block.full_band, frame) for frame in padded])
    padded = torch.stack([recurrent_by_hand(block.sub_band, band) for band in padded.unbind(1)], 1)
    grid = padded[overlap : overlap + frames, overlap : overlap + bands]
    result = []
    for now in grid:
        heads = []
        for head in range(num_heads):
            query = projected_by_hand(block.query, now, head)
            keys = [projected_by_hand(block.key, frame, head) for frame in grid]
            scores = torch.stack([(query * key).sum() / math.sqrt(query.numel()) for key in keys])
            shares = torch.exp(scores) / torch.exp(scores).sum()
            values = [projected_by_hand(block.value, frame, head) for frame in grid]
            heads.append(sum(share * value for share, value in zip(shares, values, strict=True)))
        result.append(now + projected_by_hand(block.output, torch.cat(heads).T, 0).T)
    return torch.stack(result)


@torch.no_grad()
@pytest.mark.parametrize(("kernel_size", "stride"), [(4, 4), (4, 3), (4, 1), (1, 1)])
def test_tf_gridnets_block_is_one_that_loops(kernel_size, stride):
    block = make("tf_gridnet", kernel_size=kernel_size, stride=stride, num_blocks=1).blocks[0]
    grids = torch.randn(2, 6, 17, 8)
    expected = torch.stack([block_by_hand(block, grid, num_heads=2) for grid in grids])
    torch.testing.assert_close(block(grids, None, None), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_tf_gridnet_normalises_the_spectrum_and_gives_its_scale_back():
    """Without blocks, and with convolutions that pass real and imaginary part on, the first source is what gLN makes of
    the mixture."""
    network = TfGridNet(2, **{**TF_GRIDNET, "embedding_size": 2, "num_heads": 1})
    network.blocks = torch.nn.ModuleList()
    for layer in (network.conv, network.deconv):
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[0, 0, 1, 1] = layer.weight[1, 1, 1, 1] = 1
    mixtures = torch.randn(2, 400)
    parts = torch.view_as_real(STFT(mixtures))
    rms = parts.square().mean((1, 2, 3), keepdim=True).sqrt()
    mean, variance = (
        moment.view(2, 1, 1, 1) for moment in torch.var_mean((parts / rms).flatten(1), 1, correction=0)[::-1]
    )
    normed = torch.view_as_complex(rms * (parts / rms - mean) / (variance + 1e-5).sqrt())
    estimates = separated(network, mixtures)
    torch.testing.assert_close(estimates[:, 0], STFT.inverse(normed, 400), atol=1e-5, rtol=0)
    assert not estimates[:, 1].any()


@torch.no_grad()
@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_tf_gridnet_takes_any_level(factor):
    network, mixtures = make("tf_gridnet"), torch.randn(2, 400)
    torch.testing.assert_close(
        separated(network, factor * mixtures), factor * separated(network, mixtures), atol=1e-4 * factor, rtol=0
    )


def test_global_layer_norm_of_valid_values():
    norm = GlobalLayerNorm(2)
    values = torch.tensor([[[1.0, 3.0, 99.0], [5.0, 7.0, 99.0]]])
    expected = torch.tensor([[[-3.0, -1.0, 0.0], [1.0, 3.0, 0.0]]]) / math.sqrt(5)  # mean 4, variance 5
    torch.testing.assert_close(norm(values, torch.tensor([[[1.0, 1.0, 0.0]]])), expected)
    torch.testing.assert_close(norm(values[..., :2]), expected[..., :2])


@torch.no_grad()
@pytest.mark.parametrize(("kernel_size", "stride"), [(4, 4), (4, 3), (4, 1), (1, 1)])
def test_tf_gridnet_does_not_depend_on_padding_for_any_stride(kernel_size, stride):
    assert_padding_is_not_heard(make("tf_gridnet", kernel_size=kernel_size, stride=stride))


@torch.no_grad()
@every_network
def test_a_mixtures_output_does_not_depend_on_the_padding_of_its_batch(name):
    assert_padding_is_not_heard(make(name))


def assert_padding_is_not_heard(network):
    lengths = torch.tensor([500, 333, 16, 1, 0])
    mixtures = 0.1 * torch.randn(len(lengths), 500)
    for mixture, length in zip(mixtures, lengths, strict=True):
        mixture[length:] = 0
    together = separated(network, mixtures, lengths)
    for mixture, estimate, length in zip(mixtures, together, lengths, strict=True):
        alone = separated(network, mixture[None, :length])[0]
        assert alone.shape == (2, length)
        torch.testing.assert_close(estimate[:, :length], alone, atol=1e-5, rtol=0)
    full = torch.full((len(lengths),), 500)
    torch.testing.assert_close(separated(network, mixtures, full), separated(network, mixtures), atol=1e-5, rtol=0)


@every_network
@pytest.mark.parametrize("num_samples", [1, 5, 400])
@pytest.mark.parametrize("level", [0.0, 1e-8, 1.0])
def test_gradients_are_finite_for_silence_and_the_shortest_mixtures(name, num_samples, level):
    network = make(name)
    sources = level * torch.randn(2, 2, num_samples)
    sources[1] = 0
    loss = snr_pit(separated(network, sources.sum(1)), sources, scale_invariant=True).mean()
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@every_network
def test_every_parameter_learns(name):
    network = make(name)
    sources = torch.randn(3, 2, 400)
    mixtures = sources.sum(1)
    mixtures[0, 300:] = 0
    estimates = separated(network, mixtures, torch.tensor([300, 400, 400]))
    snr_pit(estimates, sources, scale_invariant=True).mean().backward()
    still = [key for key, parameter in network.named_parameters() if not parameter.grad.abs().max() > 0]
    # Attention's shares don't change with what is added to all keys alike.
    assert [key for key in still if not key.endswith("key.offset")] == []


@torch.no_grad()
@every_network
@pytest.mark.parametrize("has_lstm", [False, True])
def test_bfloat16_is_close(name, has_lstm, monkeypatch):
    """Where the LSTM can be in it, and where it stays in float32."""
    if has_lstm and not has_bfloat16_lstm("cpu"):
        pytest.skip("this CPU has no LSTM in bfloat16")
    monkeypatch.setattr("separation.model.networks.has_bfloat16_lstm", lambda _: has_lstm)
    network, mixtures = make(name), torch.randn(2, 400)
    with computing_in(torch.bfloat16, network, torch.device("cpu")):
        estimates = separated(network, mixtures).float()
    exact = separated(network, mixtures)
    assert (estimates - exact).norm() < 0.05 * exact.norm()


def conv_tasnet_size(n, length, b, h, p, x, r, sources):
    """Parameters of Conv-TasNet: encoder and decoder; gLN, bottleneck, PReLU, masks; blocks with two PReLUs and gLNs,
    of which the last has no residual."""
    block = (b * h + h) + 1 + 2 * h + (p * h + h) + 1 + 2 * h + 2 * (h * b + b)
    around = 2 * n + (n * b + b) + 1 + (b * n * sources + n * sources)
    return 2 * n * length + around + r * x * block - (h * b + b)


def dprnn_size(n, length, b, h, blocks, sources):
    """Parameters of the dual-path RNN."""
    path = 2 * 4 * h * (b + h + 2) + (2 * h * b + b) + 2 * b
    around = 2 * n + (n * b + b) + 1 + sources * (b * b + b) + 2 * (b * b + b) + b * n
    return 2 * n * length + around + 2 * blocks * path


def tf_gridnet_size(d, h, blocks, i, heads, e, f, sources):
    """Parameters of TF-GridNet."""
    recurrent = 2 * d + 2 * 4 * h * (d * i + h + 2) + (2 * h * d * i + d)
    keys = heads * (d * e + e + 1 + 2 * e * f)
    values = (d * d + d) + heads + 2 * d * f
    output = (d * d + d) + 1 + 2 * d * f
    around = (2 * d * 9 + d) + 2 * d + (d * 2 * sources * 9 + 2 * sources)
    return around + blocks * (2 * recurrent + 2 * keys + values + output)


@pytest.mark.parametrize(
    ("name", "expected", "millions"),
    [
        ("conv_tasnet", conv_tasnet_size(512, 16, 128, 512, 3, 8, 3, 2), 5.0),
        ("dprnn", dprnn_size(64, 2, 64, 128, 6, 2), 2.6),
        ("tf_gridnet", tf_gridnet_size(64, 256, 6, 4, 4, 4, 129, 2), 14.5),
    ],
)
def test_the_papers_networks_have_their_size(name, expected, millions):
    """The papers say 5.1, 2.6 and 14.5 million. That of Conv-TasNet counts a residual after the last block, too, which
    nothing reads: 0.07 million."""
    config = compose_config("config", [f"experiment={name}_paper"])
    assert config.trainer.max_epochs == 100 and config.optimizer.lr == 1e-3
    with torch.device("meta"):
        assert num_parameters(build(config, "model.network")) == expected
    assert expected / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("name", "key", "value", "sentence"),
    [
        ("conv_tasnet", "enc_kernel_size", 15, "expected an even number, since frames overlap by half"),
        ("conv_tasnet", "msk_kernel_size", 2, "expected an odd number, to have a middle"),
        ("conv_tasnet", "msk_num_stacks", 0, "expected a whole number from 1 to 64"),
        ("conv_tasnet", "activation", "softmax", "expected one of sigmoid, relu"),
        ("dprnn", "chunk_size", 7, "expected an even number, since frames overlap by half"),
        ("dprnn", "hidden_size", 1.5, "expected a whole number from 1 to 8192"),
        ("tf_gridnet", "stride", 5, "expected a whole number from 1 to 4"),
        ("tf_gridnet", "num_heads", 3, "expected a divisor of embedding_size, 8"),
    ],
)
def test_bad_sizes_are_named(name, key, value, sentence):
    with pytest.raises(InputError, match=f"^model.{key}={value}: {sentence}$"):
        make(name, **{key: value})


@pytest.mark.parametrize(("name", "seconds"), [("conv_tasnet", 0.5), ("dprnn", 0.25)])
def test_multiply_adds(name, seconds):
    """Layer by layer; torch doesn't count what is done value by value, nor an LSTM's gates."""
    sizes = {"conv_tasnet": CONV_TASNET, "dprnn": DPRNN}[name]
    overrides = [f"model={name}", *(f"model.{key}={value}" for key, value in sizes.items())]
    measured = measure(overrides, seconds)["multiply_adds_a_second"] * seconds
    num_frames = round(8000 * seconds) // 8 + 1
    if name == "conv_tasnet":
        blocks = 6 * (16 * 24 + 3 * 24 + 24 * 16) + 5 * 24 * 16  # the last has no residual
        assert measured == num_frames * (16 * 32 + 32 * 16 + blocks + 16 * 64 + 2 * 32 * 16)
    else:
        chunks = (num_frames + 10) // 5 + 1
        path = 2 * 4 * 12 * (16 + 12) + 24 * 16
        masks = 2 * (16 * 16 + 16 * 16 + 16 * 32)
        assert measured == num_frames * (16 * 32 + 32 * 16 + masks + 2 * 32 * 16) + chunks * 10 * (4 * path + 16 * 32)
