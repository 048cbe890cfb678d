import pytest
import torch
from detectron2.layers import ROIAlign
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

import vdet_ssl.modeling  # noqa: F401
from vdet_ssl.config import get_cfg
from vdet_ssl.errors import ConfigError

NUM_CLASSES = 3
SIZE = 64, 96  # height and width of a clip


def detector(*options):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "ActionDetector"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.RES5_DILATION = 2
    cfg.MODEL.RESNETS.ZERO_INIT_RESIDUAL = False
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = NUM_CLASSES
    cfg.merge_from_list(list(options))
    torch.manual_seed(0)
    return build_model(cfg)


def sample(boxes, seed=0, size=SIZE, scores=None):
    """A clip of noise with boxes (ground truth with random labels, and proposals), in an original of twice the size."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.randint(0, 2, (len(boxes), NUM_CLASSES), generator=generator).float()
    scores = torch.ones(len(boxes)) if scores is None else torch.tensor(scores)
    return {
        "clip": torch.randint(0, 256, (4, height, width, 3), dtype=torch.uint8, generator=generator),
        "instances": Instances(size, gt_boxes=Boxes(boxes), gt_classes=labels),
        "proposals": Instances(size, proposal_boxes=Boxes(boxes), scores=scores),
        "height": 2 * height,
        "width": 2 * width,
    }


BOXES = [[4.0, 2.0, 40.0, 60.0], [50.0, 10.0, 90.0, 62.5]]


def framewise_logits(heads, features, boxes):
    """B.3 to the letter, box by box: RoIAlign on each frame's map, mean over time, max over space, linear layer."""
    align = ROIAlign((7, 7), spatial_scale=1 / 16, sampling_ratio=0, aligned=True)
    logits = []
    for clip, clip_boxes in enumerate(boxes):
        for box in clip_boxes.tensor:
            roi = torch.cat([torch.zeros(1), box])[None]
            frames = [align(features["res5"][clip, :, t][None], roi)[0] for t in range(features["res5"].shape[2])]
            logits.append(heads.cls_score(torch.stack(frames).mean(0).flatten(1).max(1).values))
    return torch.stack(logits)


def test_pooling_equals_framewise_roi_align():
    heads = detector().roi_heads.eval()
    features = {"res5": torch.randn(2, 64, 5, 4, 6)}
    boxes = [Boxes(torch.tensor(BOXES)), Boxes(torch.tensor([[0.0, 0.0, 96.0, 64.0], [30.0, 30.0, 31.0, 31.0]]))]
    torch.testing.assert_close(heads.predict(features, boxes), framewise_logits(heads, features, boxes))


def test_loss_is_the_mean_binary_cross_entropy_over_boxes_and_classes():
    model = detector("MODEL.ROI_BOX_HEAD.DROPOUT", 0.0)
    batch = [sample(BOXES), sample(BOXES[:1], seed=1)]
    with EventStorage() as storage:
        losses = model(batch)
        latest = storage.latest()
    features = model.backbone(model.preprocess(batch).tensor)
    scores = model.roi_heads.predict(features, [x["instances"].gt_boxes for x in batch]).sigmoid()
    total, count, positives = 0.0, 0, []
    for box_scores, box_labels in zip(scores, torch.cat([x["instances"].gt_classes for x in batch]), strict=True):
        for score, label in zip(box_scores, box_labels, strict=True):
            total -= torch.log(score if label == 1 else 1 - score)
            count += 1
            positives += [score.item()] if label == 1 else []
    assert list(losses) == ["loss_action"]
    torch.testing.assert_close(losses["loss_action"], total / count)
    assert latest["action_roi_heads/num_boxes"][0] == 3
    assert latest["action_roi_heads/positive_score"][0] == pytest.approx(sum(positives) / len(positives), rel=1e-4)


def test_every_parameter_receives_a_gradient():
    model = detector()
    with EventStorage():
        model([sample(BOXES), sample(BOXES[:1], seed=1)])["loss_action"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_it_overfits():
    model = detector("MODEL.ROI_BOX_HEAD.DROPOUT", 0.0)
    batch = [sample(BOXES, seed=seed) for seed in range(3)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with EventStorage():
        for _ in range(40):
            loss = model(batch)["loss_action"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert loss < 0.02
    for _ in range(20):  # running statistics of the final weights
        model.backbone(model.preprocess(batch).tensor)
    labels = torch.cat([x["instances"].gt_classes for x in batch])
    scores = torch.cat([result["instances"].scores for result in model.eval()(batch)])
    assert ((scores > 0.5) == (labels == 1)).all()


@pytest.mark.parametrize("shares", [(0, 0), (0, 2)])
def test_clips_without_boxes(shares):
    model = detector()
    batch = [sample(BOXES[:share], seed=i) for i, share in enumerate(shares)]
    with EventStorage():
        loss = model(batch)["loss_action"]
    loss.backward()
    assert torch.isfinite(loss) and (loss == 0) == (sum(shares) == 0)
    assert all(parameter.grad is not None for parameter in model.parameters())  # as DistributedDataParallel wants it
    with torch.no_grad():
        results = model.eval()(batch)
    for result, share in zip(results, shares, strict=True):
        assert result["instances"].scores.shape == (share, NUM_CLASSES)
        assert result["instances"].pred_boxes.tensor.shape == (share, 4)


def test_inference_takes_the_people_over_the_threshold_back_to_the_original():
    model = detector("MODEL.ROI_HEADS.PROPOSAL_SCORE_THRESH_TEST", 0.5).eval()
    beyond = [80.0, 40.0, 100.0, 70.0]
    batch = [sample([*BOXES, beyond], scores=[0.5, 0.75, 0.9]), sample(BOXES, seed=1, scores=[0.1, 0.2])]
    given = batch[0]["proposals"].proposal_boxes.tensor.clone()
    with torch.no_grad():
        first, second = (result["instances"] for result in model(batch))
    assert first.image_size == (128, 192)
    assert first.pred_boxes.tensor.tolist() == [[100, 20, 180, 125], [160, 80, 192, 128]]
    features = model.backbone(model.preprocess(batch).tensor)
    boxes = [batch[0]["proposals"][1:].proposal_boxes, Boxes(torch.zeros(0, 4))]
    torch.testing.assert_close(first.scores, model.roi_heads.predict(features, boxes).sigmoid())
    assert first.scores.dtype == torch.float32
    assert len(second) == 0
    assert torch.equal(batch[0]["proposals"].proposal_boxes.tensor, given)


def labelled(heads, gt_boxes, gt_classes, people, scores):
    targets = Instances(SIZE, gt_boxes=Boxes(torch.tensor(gt_boxes).reshape(-1, 4)), gt_classes=gt_classes)
    proposals = Instances(SIZE, proposal_boxes=Boxes(torch.tensor(people)), scores=torch.tensor(scores))
    boxes, labels = heads.label_boxes(proposals, targets)
    return boxes.tensor.tolist(), labels.tolist()


PEOPLE = [[0.0, 0.0, 10.0, 8.0], [21.0, 0.0, 31.0, 10.0], [0.0, 0.0, 10.0, 4.0], [0.0, 0.0, 10.0, 10.0]]
SCORES = [0.95, 0.95, 0.95, 0.9]


def test_detected_people_take_the_labels_of_the_ground_truth_they_overlap():
    heads = detector("MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS", True).roi_heads
    gt_boxes = [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]]
    gt_classes = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    boxes, labels = labelled(heads, gt_boxes, gt_classes, PEOPLE, SCORES)
    assert boxes == gt_boxes + PEOPLE[:3]  # the last one's score is not over 0.9
    assert labels == [[1, 0, 1], [0, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]]  # IoU 0.8, 0.82 and 0.4
    boxes, labels = labelled(heads, [], torch.zeros(0, 3), PEOPLE, SCORES)
    assert boxes == PEOPLE[:3] and labels == [[0, 0, 0]] * 3


def test_detected_people_that_are_to_be_ignored_are_left_out():
    options = ["MODEL.ROI_HEADS.IOU_THRESHOLDS", [0.3, 0.5], "MODEL.ROI_HEADS.IOU_LABELS", [0, -1, 1]]
    heads = detector("MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS", True, *options).roi_heads
    boxes, labels = labelled(heads, [0.0, 0.0, 10.0, 10.0], torch.ones(1, 3), PEOPLE, SCORES)
    assert boxes == [[0, 0, 10, 10], PEOPLE[0], PEOPLE[1]]
    assert labels == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]


def test_training_on_detected_people():
    model = detector("MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS", True)
    with EventStorage() as storage:
        model([sample(BOXES), sample([])])["loss_action"].backward()
        assert storage.latest()["action_roi_heads/num_boxes"][0] == 4


def test_clips_of_different_sizes_are_padded_on_the_right_and_below_in_training():
    model = detector()
    small, large = sample(BOXES, size=(64, 96)), sample(BOXES, seed=1, size=(80, 112))
    clips = model.preprocess([small, large]).tensor
    assert clips.shape == (2, 3, 4, 80, 112)
    expected = (small["clip"].float() - 114.75) / 57.375
    torch.testing.assert_close(clips[0, :, :, :64, :96], expected.permute(3, 0, 1, 2))
    assert clips[0, :, :, 64:].abs().max() == 0 and clips[0, :, :, :, 96:].abs().max() == 0
    with EventStorage():
        assert torch.isfinite(model([small, large])["loss_action"])


def test_scores_do_not_depend_on_the_other_clips_of_a_batch():
    model = detector().eval()
    batch = [sample(BOXES), sample(BOXES[:1], seed=1), sample(BOXES, seed=2, size=(80, 112))]
    with torch.no_grad():
        alone = [model([x])[0]["instances"].scores for x in batch]
        for together in (batch[:2], batch):
            for result, scores in zip(model(together), alone, strict=False):
                torch.testing.assert_close(result["instances"].scores, scores)


def test_wrong_number_of_classes_names_the_key():
    model = detector("MODEL.ROI_HEADS.NUM_CLASSES", 60)
    with pytest.raises(ConfigError, match=r"\(2, 3\).* MODEL.ROI_HEADS.NUM_CLASSES is 60"):
        model([sample(BOXES)])


@pytest.mark.parametrize("training", [True, False])
def test_missing_proposals_name_the_keys(training):
    model = detector("MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS", True).train(training)
    batch = [sample(BOXES)]
    del batch[0]["proposals"]
    with pytest.raises(ConfigError, match="PROPOSAL_FILES_" + ("TRAIN" if training else "TEST")):
        model(batch)


def test_features_that_the_backbone_does_not_give_are_named():
    with pytest.raises(ConfigError, match=r"ROI_HEADS.IN_FEATURES \['res4'\]: take some of \['res5'\]"):
        detector("MODEL.ROI_HEADS.IN_FEATURES", ["res4"])


@pytest.mark.parametrize("key", ["MODEL.BACKBONE.NAME", "MODEL.ROI_HEADS.NAME"])
def test_a_part_that_nobody_registered_is_named_beside_those_that_are(key):
    known = {"MODEL.BACKBONE.NAME": "build_slow_resnet_backbone", "MODEL.ROI_HEADS.NAME": "ActionROIHeads"}[key]
    with pytest.raises(ConfigError, match=f"^{key} 'Foo' is none of .*{known}.*IMPORTS"):
        detector(key, "Foo")


@pytest.mark.parametrize(
    ("thresholds", "labels"), [([0.5], [0, -1, 1]), ([0.3, 0.5], [0, 1]), ([0.5, 0.3], [0, -1, 1]), ([], [1])]
)
def test_thresholds_of_overlap_that_do_not_fit_their_labels_are_refused(thresholds, labels):
    options = {"TRAIN_ON_PROPOSALS": True, "IOU_THRESHOLDS": thresholds, "IOU_LABELS": labels}
    with pytest.raises(ConfigError, match="IOU_THRESHOLDS .* with IOU_LABELS"):
        detector(*(x for name, value in options.items() for x in (f"MODEL.ROI_HEADS.{name}", value)))


@pytest.mark.parametrize("pooler_type", ["ROIAlignV2", "ROIAlign", "ROIPool"])
def test_it_trains_with_every_kind_of_pooling(pooler_type):
    with EventStorage():
        loss = detector("MODEL.ROI_BOX_HEAD.POOLER_TYPE", pooler_type)([sample(BOXES)])["loss_action"]
    assert torch.isfinite(loss)
