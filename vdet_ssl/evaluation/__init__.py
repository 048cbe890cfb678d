"""Evaluators.  Importing this imports nothing heavy, so that command line tools that only read csv files start fast."""


def build_evaluator(cfg, dataset_name):
    """Return the DatasetEvaluator for an entry of DATASETS.TEST: AVA's metric, or kNN accuracy for a list of videos.

    Raises:
        ValueError: the data set is of another kind, and its evaluator the business of a project.
    """
    from detectron2.data import MetadataCatalog

    from vdet_ssl.data.datasets import ensure_registered

    kind = MetadataCatalog.get(ensure_registered(dataset_name)).get("evaluator_type")
    if kind == "ava":
        from vdet_ssl.evaluation.ava_evaluator import AVAEvaluator

        return AVAEvaluator(cfg, dataset_name)
    if kind == "videos":
        from vdet_ssl.evaluation.knn import KNNEvaluator

        return KNNEvaluator(cfg, dataset_name)
    raise ValueError(f"{dataset_name} has the evaluator_type {kind!r}; there is an evaluator for 'ava' and 'videos'")
