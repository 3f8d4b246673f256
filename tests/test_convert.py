"""Tying networks that exist, untying them, fusing, and the weights of the authors' modules."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.testing import assert_close

import tbc_gpu
from tbc_gpu import (
    TiedBlockConv2d,
    TiedBlockLinear,
    from_authors,
    fuse_conv_bn,
    to_authors,
)
from tbc_models import SE, TiedGCB, TiedSE

from .networks import images, make
from .oracles import authors_fold, dense_bias, dense_weight

tie: Any = tbc_gpu.tie  # the tests look into the networks that they get
untie: Any = tbc_gpu.untie
F64 = torch.float64
FAMILIES = (
    *("resnet18", "mobilenetv3_small_050", "convnext_atto", "test_vit", "regnetx_002"),
    *("test_efficientnet", "test_mambaout", "levit_128s", "ghostnet_050"),
)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = timm.create_model(name)
    return made.eval()


def picture(name: str, batch: int = 2) -> Tensor:
    size = {"test_vit": 160, "levit_128s": 224}.get(name, 64)
    torch.manual_seed(1)
    return torch.randn(batch, 3, size, size)


def reasons(model: nn.Module, **options: Any) -> dict[str, str]:
    return dict(tie(model, blocks=2, **options).left)


# tie: the weights


@pytest.mark.parametrize(("groups", "blocks"), [(1, 2), (1, 3), (2, 2), (3, 4)])
def test_nearest_weights_are_the_least_squares_solution(groups: int, blocks: int) -> None:
    """T is linear in W′: build its matrix, one column for each stored number, and solve."""
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 48, (2, 3), groups=groups, dtype=F64).requires_grad_(False)
    tying = tie(conv, blocks=blocks)
    shape = tuple(tying.model.weight.shape)
    assert shape == (48 // blocks, 24 // groups // blocks, 2, 3)
    # One tap of the kernel after the other, or the matrix would be large.
    for i, j in ((0, 0), (1, 2)):
        units = torch.eye(shape[0] * shape[1], dtype=F64).reshape(-1, *shape[:2], 1, 1)
        columns = [dense_weight(unit, groups, blocks)[:, :, 0, 0].flatten() for unit in units]
        tap = F.conv2d(torch.eye(24, dtype=F64)[:, :, None, None], conv.weight[:, :, i:i+1, j:j+1],
                       groups=groups)[:, :, 0, 0].T  # fmt: skip
        solved = torch.linalg.lstsq(torch.stack(columns, 1), tap.flatten()[:, None]).solution
        assert_close(tying.model.weight[:, :, i, j], solved.reshape(shape[:2]))
    dense = dense_weight(tying.model.weight, groups, blocks)
    was = dense_weight(conv.weight, groups, 1)
    assert tying.tied[0].error == pytest.approx(float((was - dense).norm() / was.norm()))
    repeated: list[Any] = [dense_bias(b, groups, blocks) for b in torch.eye(shape[0], dtype=F64)]
    matrix = torch.stack(repeated, 1)
    assert conv.bias is not None
    assert_close(tying.model.bias, torch.linalg.lstsq(matrix, conv.bias[:, None]).solution[:, 0])


def test_nearest_weights_of_a_linear_layer_are_found_by_gradient_descent_too() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(6, 9, dtype=F64)
    tying = tie(linear, blocks=3)
    thin = torch.zeros(3, 2, dtype=F64, requires_grad=True)
    optimiser = torch.optim.LBFGS([thin], line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        dense = torch.block_diag(thin, thin, thin)
        distance: Tensor = (linear.weight.detach() - dense).square().sum()
        distance.backward()
        return distance

    optimiser.step(loss)
    distance = loss()
    assert_close(tying.model.weight, thin)
    assert_close(tying.model.bias, linear.bias.reshape(3, 3).mean(0))
    error = tying.tied[0].error
    assert error == pytest.approx(distance.sqrt().item() / linear.weight.norm().item())


def test_weights_that_are_tied_already_lose_nothing() -> None:
    conv = TiedBlockConv2d(8, 8, 3, groups=2, blocks=2)
    tied: Any = nn.Sequential(conv, TiedBlockLinear(4, 4, blocks=2))
    plain = untie(tied[0])
    assert isinstance(plain, nn.Conv2d)
    dense = nn.Conv2d(8, 8, 3, groups=2)
    dense.weight.data = torch.cat(  # two blocks in each of the two groups
        [dense_weight(w, 1, 2) for w in tied[0].weight.data.chunk(2)]
    )
    dense.bias.data = plain.bias.data  # type: ignore[union-attr]
    tying = tie(nn.Sequential(dense, untie(tied[1])), blocks=2)
    assert [layer.error for layer in tying.tied] == [0, 0]
    assert_close(tying.model.state_dict(), tied.state_dict(), rtol=0, atol=0)
    assert tie(nn.Linear(2, 2, bias=False).requires_grad_(False), blocks=2).tied[0].error
    zero = nn.Linear(2, 2)
    nn.init.zeros_(zero.weight)
    assert tie(zero, blocks=2).tied[0].error == 0


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "test_vit"])
def test_a_tied_network_starts_from_the_weights_of_a_plain_one(name: str) -> None:
    """What `tie` makes of a trained network, made of a network that was built tied."""
    plain, built_tied = network(name), name == "resnet20"
    expected = tie(plain, blocks=2, where="layer*" if built_tied else None)
    tied = network("tbc_resnet20") if built_tied else tie(plain, blocks=2, weights="random").model
    loaded = tbc_gpu.load_nearest(tied, plain.state_dict())
    assert loaded == [layer.name for layer in expected.tied]
    for key, value in expected.model.state_dict().items():
        assert torch.equal(tied.state_dict()[key], value), key
    # What is tied already is copied.
    again = copy.deepcopy(tied)
    assert tbc_gpu.load_nearest(again, tied.state_dict()) == []
    with pytest.raises(RuntimeError, match=r"size mismatch|Missing key"):
        tbc_gpu.load_nearest(tied, network("resnet26").state_dict())


def test_random_weights_are_drawn_for_the_thin_fan_in() -> None:
    torch.manual_seed(0)
    tying = tie(nn.Linear(400, 4000), blocks=4, weights="random")
    bound = 1 / 100**0.5
    assert 0.99 * bound < tying.model.weight.abs().max().item() <= bound
    assert tying.tied[0].error is None
    state = torch.get_rng_state()
    tie(nn.utils.skip_init(nn.Linear, 400, 4000), blocks=4)
    assert torch.equal(torch.get_rng_state(), state)  # nothing is drawn to be thrown away


# tie: what stays


def test_all_but_the_weights_stays_as_it_was() -> None:
    conv = nn.Conv2d(
        8, 8, (3, 2), (2, 1), (2, 1), (1, 2), 2, padding_mode="circular", dtype=torch.bfloat16
    ).eval()
    conv.weight.requires_grad_(False)
    before = copy.deepcopy(conv.state_dict())
    tied = tie(conv, blocks=2).model
    assert repr(tied) == repr(
        TiedBlockConv2d(8, 8, (3, 2), (2, 1), (2, 1), (1, 2), 2, padding_mode="circular", blocks=2)
    )
    for layer in (tied, untie(tied)):
        assert not layer.training
        assert layer.weight.dtype == layer.bias.dtype == torch.bfloat16
        assert (layer.weight.requires_grad, layer.bias.requires_grad) == (False, True)
        assert (
            layer(torch.ones(1, 8, 5, 5, dtype=torch.bfloat16)).shape
            == conv(torch.ones(1, 8, 5, 5, dtype=torch.bfloat16)).shape
        )
    assert repr(untie(tied)).replace("groups=4", "groups=2") == repr(conv)
    assert_close(conv.state_dict(), before, rtol=0, atol=0)
    same = tie(nn.Conv2d(4, 4, (2, 3), padding="same", bias=False, device="meta"), blocks=2)
    assert (same.tied[0].error, same.model.weight.device.type) == (None, "meta")
    assert (same.model.padding, untie(same.model).padding, same.model.bias) == (
        "same",
        "same",
        None,
    )


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (None, ["0", "2.fc", "2.conv"]),
        ("2.*", ["2.fc", "2.conv"]),
        ("*conv", ["2.conv"]),
        (nn.Linear, ["2.fc"]),
        ((nn.Linear, nn.Conv2d), ["0", "2.fc", "2.conv"]),
        (lambda name, module: name < "1" and module.bias is not None, ["0"]),
    ],
)
def test_where_selects(where: Any, names: list[str]) -> None:
    inner = nn.ModuleDict({"fc": nn.Linear(4, 4), "conv": nn.Conv2d(4, 4, 1)})
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), inner)
    tying = tie(model, blocks=2, where=where)
    assert [layer.name for layer in tying.tied] == names
    assert not tying.left  # what was not selected is no part of the report
    tied = [
        n
        for n, m in tying.model.named_modules()
        if isinstance(m, (TiedBlockConv2d, TiedBlockLinear))
    ]
    assert tied == names
    assert list(tying.model.state_dict()) == list(model.state_dict())


def test_operators_and_counts_are_reported() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Linear(8, 8))
    tying = tie(model, blocks=2)
    assert [layer[1:5] for layer in tying.tied] == [
        ("SC", "TBC", 584, 148),
        ("GC", "TGC", 296, 76),
        ("FC", "TFC", 72, 20),
    ]
    for layer, was, now in zip(tying.tied, model, tying.model, strict=True):
        assert layer.parameters_before == sum(p.numel() for p in was.parameters())
        assert layer.parameters_after == sum(p.numel() for p in now.parameters())


class Scaled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@torch.no_grad()  # or PyTorch could not copy it
def pruned(name: str) -> Any:
    return prune.identity(nn.Linear(8, 8), name)


def hooked(register: str) -> nn.Module:
    layer = nn.Linear(4, 4)
    getattr(layer, register)(lambda *_: None)
    return layer


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(3, 8, 3), "3 input channels are not divisible by groups·blocks (1·2)"),
        (nn.Conv2d(12, 6, 3, groups=3), ""),
        (nn.Conv2d(12, 9, 3, groups=3), "9 output channels are not divisible by groups·"),
        (nn.Linear(4, 5), "5 output features are not divisible by groups·blocks (1·2)"),
        (nn.Conv2d(8, 16, 3, groups=8), "depthwise: a filter reads one channel"),
        (nn.Conv2d(1, 8, 3), "1 input channels are not divisible"),
        (TiedBlockConv2d(8, 8, 3, blocks=2), "already tied"),
        (TiedBlockLinear(8, 8, blocks=2), "already tied"),
        (nn.Conv1d(8, 8, 3), "a Conv1d: only nn.Conv2d and nn.Linear"),
        (nn.Conv3d(8, 8, 3), "a Conv3d"),
        (nn.ConvTranspose2d(8, 8, 3), "a ConvTranspose2d"),
        (nn.LazyConv2d(8, 3), "a LazyConv2d"),
        (nn.LazyLinear(8), "a LazyLinear"),
        (Scaled(8, 8), "a Scaled"),
        (timm.layers.Conv2dSame(8, 8, 3), "a Conv2dSame"),
        (timm.layers.StdConv2d(8, 8, 3), "a StdConv2d"),
        (parametrizations.weight_norm(nn.Linear(8, 8)), "parametrised"),
        (parametrizations.spectral_norm(nn.Conv2d(8, 8, 3)), "parametrised"),
        (nn.utils.spectral_norm(nn.Linear(8, 8)), "parametrised"),
        (timm.layers.ScaledStdConv2d(8, 8, 3), "a ScaledStdConv2d"),
        (pruned("weight"), "parametrised"),
        (pruned("bias"), "has hooks"),
        *((hooked(f"register_{kind}"), "has hooks") for kind in (
            "forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook")),
    ],
)  # fmt: skip
def test_what_cannot_be_tied_is_left_with_its_reason(layer: nn.Module, reason: str) -> None:
    model = nn.ModuleList([layer])
    tying = tie(model, blocks=2)
    assert bool(tying.left) == bool(reason)
    if reason:
        assert tying.left[0].name == "0"
        assert reason in tying.left[0].reason
        assert not tying.tied
        assert type(tying.model[0]) is type(layer)


def test_shared_weights_are_left_and_stay_shared() -> None:
    layer, twin, free = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    twin.weight = layer.weight
    tying = tie(nn.Sequential(layer, twin, free), blocks=2)
    assert [(r.name, "shared" in r.reason) for r in tying.left] == [("0", True), ("1", True)]
    assert [t.name for t in tying.tied] == ["2"]
    assert tying.model[0].weight is tying.model[1].weight
    tying = tie(nn.Sequential(layer, free, layer), blocks=2)
    assert [r.name for r in tying.left] == ["0", "2"]
    assert tying.model[0] is tying.model[2]
    embedding = nn.ModuleDict({"words": nn.Embedding(8, 4), "head": nn.Linear(4, 8)})
    embedding["head"].weight = embedding["words"].weight
    assert "shared" in reasons(embedding)["head"]


def test_attention_of_pytorch_keeps_running() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.randn(2, 3, 8)
    tying = tie(attention, blocks=2)
    assert [r.name for r in tying.left] == ["out_proj"]
    assert_close(tying.model(x, x, x)[0], attention(x, x, x)[0])
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    tying = tie(nn.Sequential(encoder, nn.Linear(8, 4)), blocks=2)
    assert set(dict(tying.left)) == {"0.self_attn.out_proj", "0.linear1", "0.linear2"}
    with torch.no_grad():  # the fast path, which reads the weights itself
        assert_close(tying.model[0](x), encoder(x))
    decoder = tie(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), blocks=2)
    assert [t.name for t in decoder.tied] == ["linear1", "linear2"]
    assert decoder.model(x, x).shape == x.shape


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"blocks": 1}, ValueError, r"`blocks` \(=1\) must be at least 2"),
        ({"blocks": 2.0}, TypeError, r"`blocks` \(=2.0\) must be an int"),
        ({"weights": "near"}, ValueError, r"`weights` \(='near'\) must be one of \('nearest'"),
        ({"where": "layer.2"}, ValueError, r"'layer.2'\) must select .* 2 conv.*; the nearest"),
        ({"where": "nothing"}, ValueError, r"must select at least one of the 2 .* of `model`$"),
        ({"where": nn.Conv3d}, ValueError, "must select at least one"),
        ({"where": lambda *_: False}, ValueError, "must select at least one"),
        ({"where": 3}, TypeError, r"`where` \(=3\) must be a pattern"),
    ],
)
def test_bad_arguments_of_tie(options: Any, error: type[Exception], text: str) -> None:
    model = nn.ModuleDict({"layer1": nn.Linear(4, 4), "layer2": nn.Linear(4, 4)})
    with pytest.raises(error, match=text):
        tie(model, **({"blocks": 2} | options))


@pytest.mark.parametrize("function", [partial(tie, blocks=2), untie])
def test_only_networks_can_be_tied(function: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"`model` \(a dict\) must be a torch.nn.Module"):
        function({})
    if function is not untie:
        with pytest.raises(ValueError, match="of the 0 convolutions and linear layers"):
            function(nn.ReLU())


# Whole networks


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_of_timm_run_tied_and_the_same_untied(name: str) -> None:
    model, x = network(name), picture(name)
    tying = tie(model, blocks=2)
    assert len(tying.tied) >= 10
    with torch.no_grad():
        y, plain = tying.model(x), untie(tying.model)
        assert_close(plain(x), y, rtol=0, atol=1e-5 * float(y.abs().max()))
        assert not torch.allclose(y, model(x), rtol=0, atol=1e-3 * float(y.abs().max()))
    kinds = (TiedBlockConv2d, TiedBlockLinear)
    assert sum(isinstance(m, kinds) for m in tying.model.modules()) == len(tying.tied)
    assert not any(isinstance(m, kinds) for m in plain.modules())


@pytest.mark.parametrize("name", ["resnet18", "test_vit"])
def test_tied_networks_train_are_copied_and_stored(name: str) -> None:
    x = picture(name)
    tied = tie(network(name), blocks=2).model
    y = tied(x)
    y.square().sum().backward()
    for parameter_name, parameter in tied.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all()
    with torch.no_grad():
        for other in (copy.deepcopy(tied), pickle.loads(pickle.dumps(tied))):  # noqa: S301
            assert torch.equal(other(x), y)
        fresh = tie(network(name), blocks=2, weights="random").model
        assert not torch.allclose(fresh(x), y)
        fresh.load_state_dict(tied.state_dict())
        assert torch.equal(fresh(x), y)


@pytest.mark.parametrize(
    "name", ["tied_resnet14_s", "tied_resnet14_s, fitted", "tied_efficientnet_b0"]
)
def test_our_networks_can_be_untied(name: str) -> None:
    tied = make(name).eval()
    plain = untie(tied)
    with torch.no_grad():
        x = images(name)
        y = tied(x)
        assert_close(plain(x), y, rtol=0, atol=1e-5 * float(y.abs().max()))
    assert not any(isinstance(m, (TiedBlockConv2d, TiedBlockLinear)) for m in plain.modules())


@pytest.mark.parametrize("make_attention", [TiedSE, TiedGCB])
def test_attention_can_be_untied(make_attention: Any) -> None:
    attention = make_attention(16, blocks=2)
    x = torch.randn(2, 16, 3, 3)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.uniform_(-1, 1)
        assert_close(untie(attention)(x), attention(x))


# untie


@pytest.mark.parametrize("padding", [(1, 2), "same", "valid"])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_untied_convolutions_compute_the_same(padding: Any, mode: Any) -> None:
    tied = TiedBlockConv2d(
        12, 24, (2, 3), 1, padding, (1, 2), 2, padding_mode=mode, dtype=F64, blocks=3
    )
    plain = untie(tied)
    assert isinstance(plain, nn.Conv2d)
    assert plain.groups == 6
    x = torch.randn(2, 12, 7, 6, dtype=F64)
    assert_close(plain(x), tied(x))
    assert list(plain.state_dict()) == list(tied.state_dict())


def test_a_layer_under_two_names_stays_one_layer() -> None:
    layer = TiedBlockLinear(4, 4, blocks=2)
    plain = untie(nn.Sequential(layer, nn.ReLU(), layer))
    assert type(plain[0]) is nn.Linear
    assert plain[0] is plain[2]


def test_untie_does_not_lose_hooks_in_silence() -> None:
    layer = TiedBlockLinear(4, 4, blocks=2)
    layer.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="the tied layer '1' of `model` must have no hooks"):
        untie(nn.Sequential(nn.ReLU(), layer))


# fuse_conv_bn


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_a_fused_convolution_computes_both(bias: bool, affine: bool) -> None:
    torch.manual_seed(0)
    conv = TiedBlockConv2d(8, 12, 3, 2, 1, 1, 2, bias, "circular", dtype=F64, blocks=2)
    bn = nn.BatchNorm2d(12, affine=affine, eps=0.1, dtype=F64)
    for tensor in (*bn.parameters(), *bn.buffers()):
        if tensor.ndim:
            nn.init.uniform_(tensor, 0.5, 2)
    both = nn.Sequential(conv, bn).eval()
    fused = fuse_conv_bn(conv, bn)
    assert fused.groups == 4
    x = torch.randn(2, 8, 7, 6, dtype=F64)
    assert_close(fused(x), both(x))


@pytest.mark.parametrize(
    ("conv", "bn", "error", "text"),
    [
        (None, nn.BatchNorm2d(8), ValueError, "`bn` must be in evaluation mode"),
        (None, nn.BatchNorm2d(6).eval(), ValueError, r"`bn` \(num_features=6\) must have the 8"),
        (None, nn.BatchNorm2d(8, track_running_stats=False).eval(), ValueError, "running stat"),
        (None, timm.layers.BatchNormAct2d(8).eval(), TypeError, "a BatchNormAct2d.*not a subcl"),
        (nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8).eval(), TypeError, "a Conv2d.*TiedBlockConv2d"),
    ],
)
def test_what_cannot_be_fused(conv: Any, bn: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        fuse_conv_bn(conv or TiedBlockConv2d(8, 8, 3, blocks=2), bn)


# The authors' weights. Their modules, written anew from what their code does to the channels.


class TheirConv(nn.Module):
    def __init__(self, c_in: int, c_out: int, k: int, *, groups: int, blocks: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in // blocks, c_out // blocks, k, groups=groups)
        self.groups, self.blocks = groups, blocks

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.conv.weight, self.conv.bias
        return authors_fold(x, weight, bias, groups=self.groups, blocks=self.blocks)


class TheirLinear(nn.Module):
    def __init__(self, features: int, out: int, *, blocks: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features // blocks, out // blocks)
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.reshape(len(x) * self.blocks, -1)).reshape(len(x), -1)  # type: ignore[no-any-return]


class TheirSE(nn.Module):
    def __init__(self, channels: int, blocks: int, reduction: int) -> None:
        super().__init__()
        thin, self.blocks = channels // blocks, blocks
        hidden = max(2, thin // reduction)
        self.fc = nn.Sequential(
            nn.Linear(thin, hidden), nn.ReLU(), nn.Linear(hidden, thin), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc(x.mean((2, 3)).reshape(len(x) * self.blocks, -1))
        return x * scale.reshape(*x.shape[:2], 1, 1)  # type: ignore[no-any-return]


class Chain(nn.Sequential):
    """SC, BN, TGC, BN, a depthwise convolution, TGC, BN, SC, then SE, TBC and TFC."""

    def __init__(self, tgc: Any, tfc: Any, se: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = tgc(12, 24, 3, groups=2, blocks=3), nn.BatchNorm2d(24)
        self.act = nn.PReLU(24)
        self.depthwise = nn.Conv2d(24, 24, 3, groups=24)
        self.conv3, self.bn3 = tgc(24, 48, 1, groups=2, blocks=3), nn.GroupNorm(1, 48)
        self.conv4 = nn.Conv2d(48, 16, 1)
        self.se = se
        self.conv5 = tgc(16, 16, 3, groups=1, blocks=2)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = tfc(16, 8, blocks=4)


AROUND = {
    "conv2": (["conv1", "bn1"], ["bn2", "act", "depthwise", "conv3"]),
    "conv3": (["conv2", "bn2", "act", "depthwise"], ["bn3", "conv4"]),
}


def theirs_and_ours() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    theirs = Chain(TheirConv, TheirLinear, TheirSE(16, 2, 4)).double().eval()
    ours = Chain(TiedBlockConv2d, TiedBlockLinear, TiedSE(16, blocks=2, reduction=4))
    for tensor in (*theirs.parameters(), *theirs.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.1, 1)
    return theirs, ours.double().eval()


def test_the_authors_weights_give_the_authors_outputs() -> None:
    theirs, ours = theirs_and_ours()
    state = theirs.state_dict()
    assert {"se.fc.0.weight", "conv2.conv.bias", "fc.linear.weight"} < set(state)
    with torch.no_grad():
        x = torch.randn(2, 3, 9, 9, dtype=F64)
        y = theirs(x)
        converted = from_authors(state, ours, around=AROUND)
        ours.load_state_dict(converted)
        assert_close(ours(x), y)
        # It is the permutation that does it.
        ours.load_state_dict(from_authors(state, ours, around=dict.fromkeys(AROUND, ([], []))))
        assert not torch.allclose(ours(x), y)
    back = to_authors(converted, ours, around=AROUND)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_lone_layers_need_no_names_around() -> None:
    for theirs, ours in (
        (TheirConv(8, 8, 3, groups=1, blocks=2), TiedBlockConv2d(8, 8, 3, blocks=2)),
        (TheirLinear(8, 8, blocks=2), TiedBlockLinear(8, 8, blocks=2)),
        (TheirSE(16, 2, 2), TiedSE(16, blocks=2, reduction=2)),
        (TheirSE(16, 1, 2), SE(16, reduction=2)),
    ):
        state = theirs.state_dict()
        ours.load_state_dict(from_authors(state, ours))
        assert list(to_authors(ours.state_dict(), ours)) == list(state)
        x = torch.randn(2, 8) if isinstance(ours, TiedBlockLinear) else torch.randn(2, 16, 4, 4)
        if isinstance(ours, TiedBlockConv2d):
            x = x[:, :8]
        assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("around", "text"),
    [
        (None, "`around` must name the layers before and after the TGC layer 'conv2'"),
        ({"conv5": ([], [])}, "'conv5', which must be a TGC layer"),
        ({"conv2": (["conv9"], [])}, "'conv9', which must be a layer of `model`"),
        (
            {"conv2": (["bn2"], [])},
            "'bn2', a BatchNorm2d, which must have the 12 .* reads",
        ),
        ({"conv2": ([], ["conv4"])}, "'conv4', a Conv2d, which must have the 24 .* writes"),
        ({"conv2": ([], ["se"])}, "'se', a TiedSE, which must have"),
        ({"conv3": ([], ["grouped"])}, "'grouped', whose channels .groups=2, blocks=1. cannot be"),
        ({"conv3": ([], ["tied"])}, "'tied', whose channels .groups=1, blocks=4. cannot be"),
        ({"conv3": ([], ["norm"])}, "'norm', whose groups of channels cannot be permuted"),
        ({"conv3": (["bn2"], []), "other": ([], ["bn2"])}, "gives 'bn2' two orders"),
    ],
)
def test_layers_that_cannot_stand_around_a_tgc_layer_are_refused(around: Any, text: str) -> None:
    _, ours = theirs_and_ours()
    ours.grouped, ours.tied = nn.Conv2d(48, 48, 1, groups=2), TiedBlockConv2d(48, 48, 1, blocks=4)
    ours.norm, ours.other = nn.GroupNorm(2, 48), TiedBlockConv2d(4, 24, 1, groups=2, blocks=2)
    everything: Any = dict.fromkeys(("conv2", "conv3", "other"), ([], []))
    with pytest.raises(ValueError, match=text):
        to_authors(ours.state_dict(), ours, around=around and everything | around)


def test_names_and_shapes_must_fit() -> None:
    ours = nn.Sequential(TiedBlockConv2d(8, 8, 3, blocks=2))
    right = to_authors(ours.state_dict(), ours)
    with pytest.raises(ValueError, match=r"has no 0.conv.weight, 0.conv.bias, and it has 0.weight"):
        from_authors(ours.state_dict(), ours)
    with pytest.raises(ValueError, match=r"our names: .* has 0.conv.weight.* has no place for"):
        to_authors(right, ours)
    with pytest.raises(ValueError, match=r"has a, b, c, d, e, …, which"):
        from_authors(right | dict.fromkeys("abcdefg", torch.ones(1)), ours)
    right["0.conv.weight"] = torch.ones(8, 8, 3, 3)
    with pytest.raises(ValueError, match=r"'0.conv.weight' in .*8, 8, 3, 3.*\(4, 4, 3, 3\)"):
        from_authors(right, ours)
