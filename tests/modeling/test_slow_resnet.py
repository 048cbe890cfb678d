import math

import pytest
import torch
from detectron2.modeling import build_backbone
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import vdet_ssl.modeling  # noqa: F401
from vdet_ssl.config import get_cfg
from vdet_ssl.errors import ConfigError
from vdet_ssl.layers import BatchNorm, FrozenBatchNorm

ALL = ["stem", "res2", "res3", "res4", "res5"]


def backbone(*options, device="meta"):
    cfg = get_cfg()
    cfg.merge_from_list(list(options))
    torch.manual_seed(0)
    with torch.device(device):
        return build_backbone(cfg)


def options(**resnets):
    return [x for key, value in resnets.items() for x in (f"MODEL.RESNETS.{key}", value)]


SMALL = options(DEPTH=50, STEM_OUT_CHANNELS=8, WIDTH_PER_GROUP=4, RES2_OUT_CHANNELS=16, ZERO_INIT_RESIDUAL=False)
SMALL_18 = options(DEPTH=18, STEM_OUT_CHANNELS=4, RES2_OUT_CHANNELS=8, ZERO_INIT_RESIDUAL=False)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("num_frames", [8, 16])
def test_shapes_of_table_17(num_frames):
    net = backbone(*options(OUT_FEATURES=ALL))
    features = net(torch.empty(2, 3, num_frames, 224, 224, device="meta"))
    assert {name: tuple(x.shape) for name, x in features.items()} == {
        "stem": (2, 64, num_frames, 56, 56),
        "res2": (2, 256, num_frames, 56, 56),
        "res3": (2, 512, num_frames, 28, 28),
        "res4": (2, 1024, num_frames, 14, 14),
        "res5": (2, 2048, num_frames, 7, 7),
    }
    for name, shape in net.output_shape().items():
        assert (shape.channels, 224 // shape.stride) == (features[name].shape[1], features[name].shape[-1])


def test_layers_of_table_17():
    net = backbone()
    assert net.stem.conv1.kernel_size == (1, 7, 7) and net.stem.conv1.stride == (1, 2, 2)
    for name, num_blocks, width, temporal_kernel in [
        ("res2", 3, 64, 1), ("res3", 4, 128, 1), ("res4", 6, 256, 3), ("res5", 3, 512, 3)
    ]:  # fmt: skip
        stage = getattr(net, name)
        assert len(stage) == num_blocks
        for i, block in enumerate(stage):
            stride = 2 if i == 0 and name != "res2" else 1
            convs = [block.conv1, block.conv2, block.conv3]
            assert [conv.kernel_size for conv in convs] == [(temporal_kernel, 1, 1), (1, 3, 3), (1, 1, 1)]
            assert [conv.stride for conv in convs] == [(1, 1, 1), (1, stride, stride), (1, 1, 1)]
            assert [conv.out_channels for conv in convs] == [width, width, 4 * width]
            assert all(conv.bias is None and isinstance(conv.norm, BatchNorm) for conv in convs)
            assert (block.shortcut is not None) == (i == 0)


def table_17_parameters(depth, num_blocks):
    """Weights of the convolutions, and two numbers for each channel that is normalised, without the classifier."""
    total, channels = 3 * 64 * 7 * 7 + 2 * 64, 64
    for stage, blocks in enumerate(num_blocks):
        width, temporal_kernel = 64 * 2**stage, 3 if stage >= 2 else 1
        out_channels = width if depth == 18 else 4 * width
        for _ in range(blocks):
            if depth == 18:
                total += channels * width * temporal_kernel * 9 + width * width * 9 + 4 * width
            else:
                total += channels * width * temporal_kernel + width * width * 9 + width * out_channels
                total += 2 * (width + width + out_channels)
            if channels != out_channels:
                total += channels * out_channels + 2 * out_channels
            channels = out_channels
    return total


@pytest.mark.parametrize(
    "depth, num_blocks, millions, gflops",
    [(50, [3, 4, 6, 3], 31.63, 41.74), (18, [2, 2, 2, 2], 20.02, 20.06), (101, [3, 4, 23, 3], 59.54, 85.41)],
)
def test_size_at_8x8(depth, num_blocks, millions, gflops):
    net = backbone(*options(DEPTH=depth, RES2_OUT_CHANNELS=64 if depth == 18 else 256)).eval()
    assert count(net) == table_17_parameters(depth, num_blocks)
    assert count(net) / 1e6 == pytest.approx(millions, abs=0.005)
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, 3, 8, 224, 224, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gflops, abs=0.01)  # multiply-adds of the convolutions


@pytest.mark.parametrize("small", [SMALL, SMALL_18])
def test_dilation_keeps_the_weights_and_doubles_the_resolution(small):
    net, dilated = (backbone(*small, *options(RES5_DILATION=d), device="cpu").eval() for d in (1, 2))
    dilated.load_state_dict(net.state_dict())
    x = torch.randn(1, 3, 2, 64, 64)
    assert net.output_shape()["res5"].stride == 32 and dilated.output_shape()["res5"].stride == 16
    assert net(x)["res5"].shape[-2:] == (2, 2) and dilated(x)["res5"].shape[-2:] == (4, 4)
    assert net.res5[0].conv2.weight.shape == dilated.res5[0].conv2.weight.shape
    # Beyond the block that strides, the dilated filters see the same neighbours on a grid twice as fine.
    x = torch.randn(1, net.output_shape()["res5"].channels, 2, 8, 8)
    sparse = net.res5[1:](x[..., ::2, ::2])
    torch.testing.assert_close(dilated.res5[1:](x)[..., ::2, ::2], sparse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("small, radii", [(SMALL, [0, 0, 0, 6, 9]), (SMALL_18, [0, 0, 0, 2, 4])])
def test_every_block_of_res4_and_res5_sees_one_frame_further(small, radii):
    # In float64, so that the little that comes through nine blocks (1e-4) is not taken for rounding.
    net = backbone(*small, *options(OUT_FEATURES=ALL), device="cpu").eval().double()
    x = torch.randn(1, 3, 21, 32, 32, dtype=torch.float64)
    changed = x.clone()
    changed[:, :, 10] = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    before, after = net(x), net(changed)
    for name, radius in zip(ALL, radii, strict=True):
        change = (after[name] - before[name]).abs().amax(dim=(0, 1, 3, 4))
        seen = [t for t in range(21) if change[t] > 1e-9]
        assert seen == list(range(10 - radius, 11 + radius)), name


@pytest.mark.parametrize("small", [SMALL, SMALL_18])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (1, 1)])
def test_every_parameter_receives_a_gradient_at_any_size(small, size):
    net = backbone(*small, device="cpu")
    features = net(torch.randn(4, 3, 3, *size))["res5"]
    assert features.shape[2:] == (3, math.ceil(size[0] / 32), math.ceil(size[1] / 32))
    (features * torch.randn_like(features)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_initialisation():
    net = backbone(device="cpu")
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv3d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            weight = module.weight.detach()
            std_error = 1 / math.sqrt(2 * weight.numel())
            assert weight.std().item() * math.sqrt(fan_out / 2) == pytest.approx(1, abs=5 * std_error), name
            assert weight.mean().abs() < 5 * weight.std() / math.sqrt(weight.numel()), name
        if isinstance(module, BatchNorm):
            assert (module.weight == (0 if name.endswith("conv3.norm") else 1)).all(), name
            assert (module.bias == 0).all(), name
    block = net.res3[1].eval()
    x = torch.rand(1, 512, 2, 4, 4)
    assert torch.equal(block(x), x)  # the identity at first
    started = backbone(*options(ZERO_INIT_RESIDUAL=False, OUT_FEATURES=["res2"]), device="cpu")
    assert (started.res2[0].conv3.norm.weight == 1).all()


def test_stages_beyond_the_last_one_wanted_are_not_built():
    net = backbone(*options(OUT_FEATURES=["stem", "res3"]))
    assert [name for name, _ in net.named_children()] == ["stem", "res2", "res3"]
    assert list(net(torch.empty(1, 3, 1, 32, 32, device="meta"))) == ["stem", "res3"]


def test_freezing():
    net = backbone(*SMALL, "MODEL.BACKBONE.FREEZE_AT", 2, device="cpu").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net(torch.randn(2, 3, 2, 32, 32))["res5"].sum().backward()
    for name, parameter in net.named_parameters():
        frozen = name.startswith(("stem", "res2"))
        assert parameter.requires_grad != frozen and (parameter.grad is None) == frozen, name
    for stage in (net.stem, net.res2):
        assert any(isinstance(module, FrozenBatchNorm) for module in stage.modules())
        assert not any(isinstance(module, BatchNorm) for module in stage.modules())
    changed = {name.split(".")[0] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"res3", "res4", "res5"}


def test_groups_and_stride_in_1x1():
    net = backbone(*options(DEPTH=50, NUM_GROUPS=32, WIDTH_PER_GROUP=4, STRIDE_IN_1X1=True))
    block = net.res3[0]
    assert block.conv2.groups == 32 and block.conv2.out_channels == 256
    assert block.conv1.stride == (1, 2, 2) and block.conv2.stride == (1, 1, 1)


def test_norm_from_config():
    net = backbone(*SMALL, "MODEL.BN.EPS", 0.5, "MODEL.BN.GROUP_SIZE", 4)
    assert {(m.eps, m.group_size) for m in net.modules() if isinstance(m, BatchNorm)} == {(0.5, 4)}
    frozen = backbone(*options(NORM="FrozenBN"), device="cpu")
    assert not any(isinstance(module, BatchNorm) for module in frozen.modules())
    assert (frozen.res2[0].conv3.norm.weight == 1).all()  # a frozen 0 would cut the branch off for good


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("DEPTH", 34, r"\[18, 50, 101\]"),
        ("DEPTH", 18, "RES2_OUT_CHANNELS 256"),
        ("TEMPORAL_KERNELS", [1, 1, 1, 2, 3], "TEMPORAL_KERNELS"),
        ("TEMPORAL_KERNELS", [1, 1, 3, 3], "TEMPORAL_KERNELS"),
        ("RES5_DILATION", 3, "RES5_DILATION"),
        ("OUT_FEATURES", ["res5", "res6"], r"OUT_FEATURES .*'res6'.*\['stem', "),
        ("OUT_FEATURES", [], "OUT_FEATURES"),
        ("NORM", "", "NORM"),
        ("NORM", "GN", "GN"),
    ],
)
def test_what_cannot_be_built_is_refused(key, value, message):
    with pytest.raises(ConfigError, match=message):
        backbone(*options(**{key: value}))


def test_images_are_refused():
    with pytest.raises(ValueError, match=r"\(N, C, T, H, W\)"):
        backbone(*SMALL)(torch.empty(1, 3, 32, 32, device="meta"))
