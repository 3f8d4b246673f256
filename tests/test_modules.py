"""The tied bottleneck and the attention modules, against timm's own and against the reference."""

from functools import partial
from typing import Any

import pytest
import timm
import torch
from timm.layers import BlurPool2d, DropBlock2d, DropPath, GlobalContext, SEModule
from timm.models.resnet import Bottleneck, downsample_avg, downsample_conv
from torch import Tensor, nn

import tbc_ref
from tbc_gpu import TiedBlockConv2d
from tbc_models import GCB, SE, TiedBottleneck, TiedGCB, TiedSE
from tbc_models.checking import modules as checking
from tbc_models.networks.bottleneck import fitting_blocks

from .networks import DEVICES
from .oracles import dense_weight


def stir(module: nn.Module) -> nn.Module:
    """Draw every parameter and every running statistic at random, in float64."""
    torch.manual_seed(0)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-1, 1)
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
    return module


def dense(*convs: Any) -> Tensor:
    """The plain weight that does what tied convolutions side by side do."""
    parts = [dense_weight(c.weight.detach(), c.groups, getattr(c, "blocks", 1)) for c in convs]
    return dense_weight(torch.cat(parts), groups=len(parts), blocks=1)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride": {"stride": 2},
    "dilation": {"dilation": 2},
    "first dilation": {"dilation": 4, "first_dilation": 2},
    "reduced first": {"reduce_first": 2},
    "blur": {"stride": 2, "aa_layer": BlurPool2d},
    "leaky": {"act_layer": nn.LeakyReLU},
    "group norm": {"norm_layer": partial(nn.GroupNorm, 4)},
    "attention": {"attn_layer": "se"},
    "drop path": {"drop_path": DropPath(0.5)},
    "drop block": {"drop_block": partial(DropBlock2d, drop_prob=0.3, block_size=3)},
    "average": {"stride": 2, "downsample": downsample_avg(64, 128, 1, stride=2)},
    "3x3 shortcut": {"stride": 2, "downsample": downsample_conv(64, 128, 3, stride=2)},
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_without_a_mixer_it_is_timms_bottleneck_with_zeros_in_its_weights(
    options: dict[str, Any], training: bool
) -> None:
    stride = options.get("stride", 1)
    options = {"downsample": downsample_conv(64, 128, 1, stride=stride)} | options
    tied = TiedBottleneck(64, 32, base_width=32, blocks=(1, 2, 4, 8), mixer="none", **options)
    stir(tied)
    plain = Bottleneck(64, 32, base_width=128, **options).double()  # 4·32
    weights = {k: v for k, v in tied.state_dict().items() if not k.startswith(("conv1", "conv2"))}
    missing, unexpected = plain.load_state_dict(weights, strict=False)
    assert (set(missing), unexpected) == ({"conv1.weight", "conv2.weight"}, [])
    with torch.no_grad():
        plain.conv1.weight.copy_(dense(tied.conv1))
        plain.conv2.weight.copy_(dense(*tied.conv2))
    x = torch.randn(2, 64, 9, 8, dtype=torch.float64)
    for module in (tied, plain):
        module.train(training)
    torch.manual_seed(1)
    y = tied(x)
    torch.manual_seed(1)  # for drop path and drop block
    # Sums of some thousand numbers around one, and a division by a deviation.
    torch.testing.assert_close(y, plain(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("mixer", ["sum", "concatenate"])
def test_splits_hear_of_one_another_through_the_mixer_alone(mixer: str, groups: int) -> None:
    options: dict[str, Any] = {"groups": groups, "blocks": (1, 2, 4, 4), "base_width": 16}
    designs: list[Any] = ["literal", "fitted", "fitted-tbc"]
    for design in designs:
        kinds: list[tuple[Any, bool]] = [(mixer, False), ("none", True)]
        for kind, alone in kinds:
            block: Any = stir(TiedBottleneck(64, 64, design=design, mixer=kind, **options)).eval()
            x = torch.randn(1, 64, 5, 5, dtype=torch.float64)
            changed = x.clone()
            changed[:, 0] += 1  # channel 0 belongs to the first half of the splits
            mixed, mixed_changed = block.mix(x), block.mix(changed)
            others = slice(16, None)
            assert torch.equal(mixed[:, others], mixed_changed[:, others]) == alone, design
            assert not torch.equal(mixed[:, :16], mixed_changed[:, :16])


def test_blocks_are_the_largest_that_fit() -> None:
    assert fitting_blocks(18, 4) == (1, 2, 3, 6)
    assert fitting_blocks(36, 4) == (1, 2, 4, 6)
    assert fitting_blocks(72, 4) == fitting_blocks(144, 4) == (1, 2, 4, 8)
    assert fitting_blocks(64, 4, groups=8) == (1, 2, 4, 8)
    assert fitting_blocks(36, 4, groups=4) == (1, 1, 3, 3)
    network: Any = timm.create_model("tied_resnext50", layers=(1, 1, 1, 1))
    assert [(getattr(c, "blocks", 1), c.groups) for c in network.layer1[0].conv2] == [
        *((1, 8), (2, 8), (4, 8), (8, 8))
    ]


def test_tied_filters_are_drawn_with_the_variance_of_their_own_fan_out() -> None:
    torch.manual_seed(0)
    block = TiedBottleneck(256, 256, base_width=64)
    for conv in (block.conv1, *list(block.conv2)[1:]):
        assert isinstance(conv, TiedBlockConv2d)
        fan_out = conv.weight.shape[0] * conv.weight[0, 0].numel()
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_a_network_leaves_its_context_blocks_as_they_draw_themselves() -> None:
    torch.manual_seed(0)
    for blocks in (1, 2):
        network: Any = timm.create_model("tied_gc_resnet50", blocks=blocks)
        for block in network.layer4:
            # For a fan-in of 2048, as GCNet's: larger ones would look at a single position.
            assert block.se.mask.weight.std().item() == pytest.approx((2 / 2048) ** 0.5, rel=0.1)
            assert not block.se.conv2.weight.any()


def test_options_of_the_block_join_those_of_the_network() -> None:
    network: Any = timm.create_model("tied_senet101_s", block_args={"design": "fitted"})
    block = network.layer1[0]
    assert (block.design, type(block.se).__name__) == ("fitted", "TiedSE")
    assert block.se.fc1.out_features == 256 // 8  # the reduction that goes with the design
    plain: Any = timm.create_model("tied_gc_resnet50", block_args={"attn_layer": None})
    assert plain.layer4[0].se is None
    other: Any = timm.create_model("tied_efficientnet_b0", se_layer="eca")
    assert type(other.blocks[0][0].se).__name__ == "EcaModule"
    assert other.pretrained_cfg["architecture"] == "tied_efficientnet_b0"


def test_odd_widths_are_tied_as_far_as_they_divide() -> None:
    block: Any = TiedBottleneck(30, 30, splits=3, blocks=(1, 2, 3), base_width=32, design="fitted")
    assert [getattr(conv, "blocks", 1) for conv in block.conv2] == [1, 1, 3]  # of 15 channels
    assert type(block.conv1) is nn.Conv2d  # 45 outputs are not divisible by two
    shortcut = downsample_conv(30, 120, 1, stride=2)
    block = TiedBottleneck(30, 30, 2, shortcut, blocks=(1, 1, 1, 1), design="fitted")
    assert block.downsample[0].blocks == 2
    assert type(shortcut[0]) is nn.Conv2d  # type: ignore[index]


@pytest.mark.parametrize("design", ["fitted", "fitted-tbc"])
def test_a_shortcut_is_tied_with_its_kernel_and_its_padding(design: Any) -> None:
    plain = nn.Conv2d(64, 128, (1, 3), 2, padding=(0, 1), padding_mode="circular", bias=False)
    block: Any = TiedBottleneck(64, 32, 2, nn.Sequential(plain), design=design)
    tied = block.downsample[0]
    assert (tied.kernel_size, tied.padding, tied.padding_mode) == ((1, 3), (0, 1), "circular")
    assert (tied.blocks, tied.bias is not None) == (2, design == "fitted")
    fan_out = 128 // 2 * 3
    assert tied.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
    assert block(torch.zeros(1, 64, 9, 8)).shape == (1, 128, 5, 4)
    assert plain.bias is None


def test_a_shortcut_that_cannot_be_tied_is_refused() -> None:
    shortcut = nn.Sequential(nn.Conv2d(64, 128, 1, groups=64))
    with pytest.raises(ValueError, match="`conv` cannot be tied: depthwise"):
        TiedBottleneck(64, 32, downsample=shortcut, design="fitted")


def test_a_bottleneck_says_what_it_is() -> None:
    assert "splits=4, mixer='sum', design='fitted'" in repr(TiedBottleneck(64, 64, design="fitted"))


def test_device_and_dtype_reach_every_layer() -> None:
    block = TiedBottleneck(64, 64, attn_layer=partial(TiedSE, blocks=2), dtype=torch.float64)
    assert {p.dtype for p in block.parameters()} == {torch.float64}
    meta = TiedBottleneck(64, 64, attn_layer=partial(TiedGCB, blocks=2), device="meta")
    assert {p.device.type for p in meta.parameters()} == {"meta"}


def test_a_block_whose_last_scale_is_zero_is_its_shortcut() -> None:
    block = TiedBottleneck(256, 64)
    block.zero_init_last()
    x = torch.rand(2, 256, 4, 4)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("channels", [64, 256])
def test_one_block_of_tied_attention_is_timms(channels: int) -> None:
    x = torch.randn(2, channels, 5, 4, dtype=torch.float64)
    ours, theirs = stir(SE(channels)), SEModule(channels, rd_divisor=1).double()
    names = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
    state = {n: ours.state_dict()[n].reshape(theirs.state_dict()[n].shape) for n in names}
    theirs.load_state_dict(state)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)

    block = stir(GCB(channels))
    context = GlobalContext(channels, fuse_add=True, fuse_scale=False, rd_ratio=1 / 4).double()
    to = {
        **{f"conv_attn.{p}": f"mask.{p}" for p in ("weight", "bias")},
        **{f"mlp_add.fc1.{p}": f"conv1.{p}" for p in ("weight", "bias")},
        **{f"mlp_add.norm.{p}": f"norm.{p}" for p in ("weight", "bias")},
        **{f"mlp_add.fc2.{p}": f"conv2.{p}" for p in ("weight", "bias")},
    }
    ours_state = block.state_dict()
    theirs_state = context.state_dict()
    context.load_state_dict(
        {t: ours_state[o].reshape(theirs_state[t].shape) for t, o in to.items()}
    )
    context.mlp_add.norm.eps = block.norm.eps  # type: ignore[union-attr]
    torch.testing.assert_close(block(x), context(x), rtol=1e-11, atol=1e-11)


def test_attention_fits_into_timms_networks() -> None:
    x = torch.randn(2, 3, 64, 64)
    for attention in (partial(TiedSE, blocks=4), partial(TiedGCB, blocks=4), SE, GCB):
        network: Any = timm.create_model("resnet26", block_args={"attn_layer": attention})
        assert isinstance(network.layer4[0].se, TiedSE | TiedGCB)
        assert network(x).isfinite().all()
    lite: Any = timm.create_model("efficientnet_b0", se_layer=partial(TiedSE, blocks=4))
    assert lite.blocks[3][0].se.fc1.blocks == 4
    assert lite(x).isfinite().all()
    for words in ("relu", nn.GELU):  # as timm names activations, and one that takes no `inplace`
        assert TiedSE(32, blocks=2, act_layer=words)(torch.rand(1, 32, 3, 3)).isfinite().all()


def test_a_new_context_block_changes_nothing() -> None:
    x = torch.randn(2, 32, 5, 4)
    assert torch.equal(TiedGCB(32, blocks=2)(x), x)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", checking.MODULES)
def test_modules_equal_their_composition_of_reference_functions(name: str, device: str) -> None:
    *_, row = checking.check_modules(name, indices=range(40), device=device)
    assert (row.cases, row.failures) == (40, [])
    assert all(0 < error <= 1e-10 for error in row.errors.values())


def test_the_cases_cover_what_there_is() -> None:
    cases = [checking.draw_module("bottleneck, fitted, sum", 0, i).options for i in range(60)]
    for option, least in {"stride": 2, "dilation": 2, "groups": 2, "blocks": 10}.items():
        assert len({str(case[option]) for case in cases}) >= least
    shortcuts = [
        checking.draw_module("bottleneck, literal, sum", 0, i).module.downsample is None
        for i in range(40)
    ]
    assert set(shortcuts) == {True, False}


@pytest.mark.parametrize(
    ("function", "module"),
    [
        ("relu_backward", "bottleneck, literal, sum"),
        ("batch_norm", "bottleneck, literal, sum"),
        ("sigmoid_backward", "TiedSE"),
        ("softmax", "TiedGCB"),
        ("softmax_backward", "TiedGCB"),
        ("layer_norm", "TiedGCB"),
    ],
)
def test_a_wrong_sign_anywhere_is_found(
    function: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(tbc_ref.nn, function)
    monkeypatch.setattr(tbc_ref.nn, function, lambda *a, **o: -right(*a, **o))
    *_, row = checking.check_modules(module, indices=range(3))
    assert not row.passed


def test_a_mixer_that_is_wrongly_joined_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = TiedBottleneck.mix
    monkeypatch.setattr(TiedBottleneck, "mix", lambda self, x: right(self, x).flip(1))
    *_, row = checking.check_modules("bottleneck, literal, sum", indices=range(2))
    assert not row.passed


BOTTLENECKS: list[tuple[dict[str, Any], str]] = [
    ({"design": "fited"}, r"`design` \(='fited'\) must be .* did you mean 'fitted'\?"),
    ({"mixer": "add"}, r"`mixer` \(='add'\) must be 'sum', 'concatenate' or 'none'"),
    ({"mixer": "concat"}, r"did you mean 'concatenate'\?"),
    ({"blocks": (1, 2)}, r"`blocks` \(=\(1, 2\)\) must be 4 ints"),
    ({"blocks": (1, 2, 4, 0)}, r"must be 4 ints of at least 1"),
    ({"splits": 5}, r"`splits` \(=5\) must be one of \(2, 4, 6, 8\), or give `blocks`"),
    ({"base_width": 4}, r"a split is 4 channels wide, too few for .* 8 `blocks`"),
    ({"groups": 3}, r"`groups` \(=3\) must divide the width of a split \(=32\)"),
    ({"cardinality": 32}, r"`cardinality` \(=32\) must be 1: use `groups`"),
    ({"blocks": 4}, r"`blocks` \(=4\) must be 4 ints"),
    ({"blocks": (1, 2, 4, True)}, r"must be 4 ints"),
    ({"splits": 0}, r"`splits` \(=0\) must be at least 1"),
    ({"groups": 0}, r"`groups` \(=0\) must be at least 1"),
    ({"base_width": 0}, r"`base_width` \(=0\) must be at least 1"),
]


@pytest.mark.parametrize(("options", "message"), BOTTLENECKS)
def test_a_bottleneck_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TiedBottleneck(64, 64, **options)
    with pytest.raises(ValueError, match=message):
        timm.create_model("tied_resnet50", **options)


def test_a_width_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`base_width` \(='wide'\) must be an int"):
        timm.create_model("tied_resnet50", base_width="wide")
    with pytest.raises(ValueError, match=r"`output_stride` \(=32\) must be 4, 8 or 16"):
        timm.create_model("tied_resnet14_s", output_stride=32)
    with pytest.raises(ValueError, match=r"`stem_type` \(='deep'\) must be ''"):
        timm.create_model("tied_resnet14_s", stem_type="deep")


def test_a_narrower_entry_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"`reduce_first` \(=3\) must divide .* \(=32\)"):
        TiedBottleneck(64, 64, reduce_first=3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TiedSE(64, blocks=3), r"`channels` \(=64\) must be a multiple of `blocks` \(=3\)"),
        (lambda: TiedSE(64, blocks=0), r"`channels` \(=64\) must be a multiple of `blocks` \(=0\)"),
        (
            lambda: SE(8, reduction=16),
            r"`reduction` \(=16\) must be .* 1 and `channels` \(=8\)",
        ),
        (lambda: SE(8, reduction=0), r"`reduction` \(=0\) must be between 1"),
        (lambda: TiedGCB(12, blocks=4), r"`ratio` \(=0.25\) of `channels` \(=12\) must leave"),
        (lambda: GCB(64, ratio=2), r"`ratio` \(=2\) of `channels`"),
        (
            lambda: timm.create_model("tied_efficientnet_b0", blocks=3),
            r"`blocks` \(=3\) must be 1, 2, 4 or 8",
        ),
        (
            lambda: timm.create_model("tied_gc_resnet50", blocks=3),
            r"must be a multiple of `blocks`",
        ),
        (lambda: checking.draw_module("SE", 0, 0), r"`name` \(='SE'\) must be one of"),
    ],
)
def test_attention_that_cannot_be_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
