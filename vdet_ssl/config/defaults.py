"""Every key that this framework adds to detectron2's config, or whose default it changes: unit and source beside each.

Sections and tables are those of arXiv 2104.14558.  T, tau and rho are the paper's symbols.
"""

from detectron2.config import CfgNode as CN


def add_vdet_ssl_config(cfg):
    """Add this framework's keys, with their defaults, to a detectron2 config, in place."""
    cfg.VERSION = 2
    # Modules (projects.AVA) that are imported before keys are merged; the `add_config(cfg)` of each adds its keys.
    cfg.IMPORTS = []
    cfg.SEED = 0  # everything random follows from it (negative: drawn at the start and written to the saved config)
    _add_input(cfg)
    _add_data(cfg)
    _add_backbone(cfg)
    _add_ssl(cfg)
    _add_detector(cfg)
    _add_solver(cfg)
    _add_test(cfg)


def _add_input(cfg):
    _C = cfg.INPUT
    _C.FORMAT = "RGB"
    _C.NUM_FRAMES = 8  # T: frames of a clip
    _C.SAMPLING_RATE = 8  # tau: stride between two frames of a clip, in raw frames
    _C.FRAME_RATE = 30.0  # raw frames a second in which tau is counted; 0: the video's own frame rate
    # "stride": frame i is i * tau raw frames after the first (the paper).  "linspace": T frames spread evenly from the
    # first to the last of the T * tau raw frames, what PySlowFast does; for checkpoints trained with it.
    _C.FRAME_SPACING = "stride"
    _C.FRAME_RATE_JITTER = 0.0  # relative: 0.5 plays each clip at 50% to 150% of its speed (Table 7)
    _C.NUM_CLIPS = 2  # rho: clips of one video in pre-training (Table 2); 1: two spatial crops of one clip
    _C.T_MAX_S = -1.0  # longest time between the starts of two clips of a video, seconds; negative: unlimited (Table 4)
    _C.DECODER = "pyav"  # "pyav" or "torchcodec" (where it is installed)
    _C.AUGMENTATION_DEVICE = "cpu"  # "cpu": in the loader's workers; "model": batched, where the model is

    # Training crops (B.1, Table 8).  "vgg": short side resized to a size drawn from MIN_SIZE_TRAIN, then a random crop
    # of CROP.SIZE.  "inception": a random share CROP.AREA of the area with aspect ratio CROP.ASPECT_RATIO, resized to
    # CROP.SIZE.  "none": the whole frame, short side resized to a size drawn from MIN_SIZE_TRAIN.
    _C.CROP.TYPE = "vgg"
    _C.CROP.SIZE = [224, 224]  # height, width in pixels
    _C.CROP.AREA = [0.2, 0.76]  # share of the frame's area
    _C.CROP.ASPECT_RATIO = [0.75, 4.0 / 3.0]  # width / height
    _C.MIN_SIZE_TRAIN = (256, 320)  # pixels
    _C.MIN_SIZE_TRAIN_SAMPLING = "range"
    _C.MIN_SIZE_TEST = 256  # pixels
    _C.RANDOM_FLIP = "horizontal"  # with probability 0.5; or "none"

    # Colour (B.1, Table 7): jitter of +-0.8s, 0.8s, 0.8s, 0.2s at s = 1, that is 0.4, 0.4, 0.4, 0.1 at s = 0.5.
    _C.COLOR = CN()
    _C.COLOR.JITTER_PROB = 0.0
    _C.COLOR.STRENGTH = 0.5  # s
    _C.COLOR.GRAYSCALE_PROB = 0.0
    _C.COLOR.TEMPORAL_DIFFERENCE_PROB = 0.0  # gray frames subtracted across time (Table 7)
    _C.COLOR.BLUR_PROB = 0.0  # Gaussian blur
    _C.COLOR.BLUR_SIGMA = [0.1, 2.0]  # pixels


def _add_data(cfg):
    # DATASETS.TRAIN / TEST take registered names, and paths: a list of videos (.csv, .txt, .parquet manifest) or the
    # description of an AVA-like data set (.yaml); see datasets/README.md.
    # DATASETS.PROPOSAL_FILES_TRAIN / _TEST: detected person boxes (.csv or .pkl), one file for each data set.
    # Share of the videos that may be broken in training before it stops; in evaluation none may.
    cfg.DATALOADER.BROKEN_TOLERANCE = 0.0
    cfg.DATALOADER.DECODE_TIMEOUT_S = 60.0  # seconds after which decoding one video is given up; 0: never
    cfg.DATALOADER.DECODE_MEMORY_GB = 4.0  # memory that a worker may take for one video; 0: any
    cfg.MODEL.LOAD_PROPOSALS = False


def _add_backbone(cfg):
    _C = cfg.MODEL
    _C.BACKBONE.NAME = "build_slow_resnet_backbone"
    _C.BACKBONE.FREEZE_AT = 0
    _C.PIXEL_MEAN = [114.75, 114.75, 114.75]  # grey levels 0..255, in INPUT.FORMAT's order
    _C.PIXEL_STD = [57.375, 57.375, 57.375]
    _C.RESNETS.DEPTH = 50  # 18 (then with RES2_OUT_CHANNELS 64), 50 or 101 (Table 5)
    _C.RESNETS.OUT_FEATURES = ["res5"]
    _C.RESNETS.STRIDE_IN_1X1 = False
    _C.RESNETS.NORM = "BN"  # "BN" (see MODEL.BN) or "FrozenBN"
    # frames; of the stem and of the first convolution in res2..res5 (Table 17)
    _C.RESNETS.TEMPORAL_KERNELS = [1, 1, 1, 3, 3]
    _C.RESNETS.ZERO_INIT_RESIDUAL = True  # weight of a block's last BN starts at 0
    # Batch normalisation wherever a norm is called "BN" (B.1)
    _C.BN = CN()
    _C.BN.NUM_SYNC_DEVICES = 1  # processes that share statistics (8 in the paper); at most all there are
    _C.BN.GROUP_SIZE = 0  # samples that share statistics within one process; 0: all of them
    _C.BN.EPS = 1e-5
    _C.BN.MOMENTUM = 0.1


def _add_ssl(cfg):
    _C = cfg.MODEL
    _C.BYOL = CN()  # eq. (2), B.1
    _C.BYOL.EMBED_DIM = 256  # d
    _C.BYOL.HIDDEN_DIM = 4096
    _C.BYOL.PROJECTOR_LAYERS = 2
    _C.BYOL.PREDICTOR_LAYERS = 2
    _C.BYOL.MLP_NORM = "BN"  # "BN" or ""
    _C.BYOL.MOMENTUM = 0.996  # m_base of the momentum encoder
    _C.BYOL.ANNEAL_MOMENTUM = True  # to 1, half a cosine (A.3)
    _C.BYOL.LOSS_WEIGHT = 2.0  # makes eq. (2) the squared distance of l2-normalised vectors (B.1)

    _C.MOCO = CN()  # eq. (1), B.1
    _C.MOCO.EMBED_DIM = 128
    _C.MOCO.HIDDEN_DIM = 2048
    _C.MOCO.PROJECTOR_LAYERS = 3
    _C.MOCO.MLP_NORM = ""
    _C.MOCO.MOMENTUM = 0.994
    _C.MOCO.ANNEAL_MOMENTUM = True
    _C.MOCO.TEMPERATURE = 0.1  # alpha
    _C.MOCO.QUEUE_SIZE = 65536  # keys
    _C.MOCO.SHUFFLE_BN = True
    # "sum": eq. (1), one softmax; "mean": mean over one softmax per positive (PySlowFast)
    _C.MOCO.MULTIPLE_POSITIVES = "sum"

    _C.SIMCLR = CN()  # eq. (1), B.1
    _C.SIMCLR.EMBED_DIM = 128
    _C.SIMCLR.HIDDEN_DIM = 2048
    _C.SIMCLR.PROJECTOR_LAYERS = 3
    _C.SIMCLR.MLP_NORM = "BN"
    _C.SIMCLR.TEMPERATURE = 0.1
    _C.SIMCLR.MULTIPLE_POSITIVES = "sum"

    _C.SWAV = CN()  # eq. (3), B.1
    _C.SWAV.EMBED_DIM = 128
    _C.SWAV.HIDDEN_DIM = 2048
    _C.SWAV.PROJECTOR_LAYERS = 3
    _C.SWAV.MLP_NORM = "BN"
    _C.SWAV.TEMPERATURE = 0.1
    _C.SWAV.NUM_PROTOTYPES = 3000  # 3000 in the original SwAV, 1000 in the code released with the paper
    _C.SWAV.FREEZE_PROTOTYPES_EPOCHS = 1.0
    _C.SWAV.SINKHORN_ITERATIONS = 3
    _C.SWAV.SINKHORN_EPSILON = 0.05
    _C.SWAV.QUEUE_SIZE = 0  # videos whose embeddings, one of each clip, are kept for the Sinkhorn step; 0: none
    _C.SWAV.QUEUE_START_EPOCHS = 15.0  # epochs after which the queue is filled, to be used once full (original SwAV)


def _add_detector(cfg):
    _C = cfg.MODEL
    _C.META_ARCHITECTURE = "BYOL"
    _C.ROI_HEADS.NAME = "ActionROIHeads"  # B.3
    _C.ROI_HEADS.IN_FEATURES = ["res5"]
    _C.ROI_HEADS.NUM_CLASSES = 60  # has to be the number of classes in the data set's list
    _C.ROI_HEADS.TRAIN_ON_PROPOSALS = False  # train on detected people beside the ground-truth boxes
    # a detected person takes the labels of the ground-truth box it overlaps this much
    _C.ROI_HEADS.IOU_THRESHOLDS = [0.5]
    _C.ROI_HEADS.IOU_LABELS = [0, 1]
    _C.ROI_HEADS.PROPOSAL_SCORE_THRESH_TRAIN = 0.9  # confidence of the person detector
    _C.ROI_HEADS.PROPOSAL_SCORE_THRESH_TEST = 0.8
    _C.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    _C.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO = 0
    _C.ROI_BOX_HEAD.POOLER_TYPE = "ROIAlignV2"
    _C.ROI_BOX_HEAD.DROPOUT = 0.5
    _C.WEIGHTS_MIN_COVERAGE = 0.95  # share of the backbone that MODEL.WEIGHTS has to cover; 0 takes anything


def _add_solver(cfg):
    _C = cfg.SOLVER
    _C.OPTIMIZER = "SGD"  # "SGD" or "LARS"
    _C.LARS_TRUST_COEFFICIENT = 0.001  # B.1
    _C.REFERENCE_BATCH_SIZE = 0  # videos for which BASE_LR is meant; it is scaled to those of a step. 0: not scaled
    _C.ACCUMULATION_STEPS = 1  # batches of IMS_PER_BATCH whose gradients make one step
    # Times in epochs; where positive they set MAX_ITER, WARMUP_ITERS, STEPS, CHECKPOINT_PERIOD and TEST.EVAL_PERIOD
    # once the size of the data set is known.
    _C.MAX_EPOCHS = 0.0
    _C.WARMUP_EPOCHS = 0.0
    _C.STEP_EPOCHS = ()
    _C.CHECKPOINT_EPOCHS = 0.0
    _C.EVAL_EPOCHS = 0.0
    _C.LR_SCHEDULER_NAME = "WarmupCosineLR"  # or "WarmupMultiStepLR"
    _C.WARMUP_ITERS = 0


def _add_test(cfg):
    _C = cfg.TEST
    _C.IMS_PER_BATCH = 8  # key frames (detection) or videos (kNN) of one process
    _C.AVA_CAPACITY = 50  # (box, class) detections kept of a key frame, as the official evaluator does; 0: all
    _C.KNN = CN()
    _C.KNN.ENABLED = False  # kNN accuracy of the frozen features on DATASETS.TEST, every TEST.EVAL_PERIOD iterations
    _C.KNN.K = 20  # neighbours
    _C.KNN.TEMPERATURE = 0.1
