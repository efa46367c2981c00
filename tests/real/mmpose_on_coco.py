"""What MMPose does with COCO keypoint files; run by the Python of an environment that has it.

    python mmpose_on_coco.py FILE...

Each file is loaded by CocoDataset and judged by CocoMetric, each instance's keypoints, moved by three pixels, being the
predictions. Prints one JSON object: what happened to each file, in one sentence.
"""

import contextlib
import io
import json
import logging
import sys
import warnings

import numpy as np

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)


def loaded(path):
    from mmpose.datasets import CocoDataset

    return CocoDataset(ann_file=path, data_prefix={"img": "images"}, test_mode=True, pipeline=[])


def seen(dataset):
    """What reaches the model: instances, their boxes beside their keypoints, odd weights of keypoints, odd paths."""
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    ratios = []
    for info in infos:
        x1, y1, x2, y2 = info["bbox"][0]
        span = np.ptp(info["keypoints"][0], axis=0)
        ratios.append((x2 - x1) * (y2 - y1) / (span[0] * span[1]))
    weights = sorted({float(value) for info in infos for value in info["keypoints_visible"].flat} - {0.0, 1.0})
    paths = sorted({info["img_path"] for info in infos if not info["img_path"].startswith("images/")})
    parts = [f"{len(infos)} instances", f"boxes {np.mean(ratios):.3g} times their keypoints' area"]
    parts += [f"weights {', '.join(f'{weight:g}' for weight in weights)}"] if weights else []
    parts += [f"images from {', '.join(paths)}"] if paths else []
    return ", ".join(parts)


def evaluated(path, dataset):
    from mmpose.datasets.transforms import GetBBoxCenterScale, PackPoseInputs
    from mmpose.evaluation.metrics import CocoMetric

    metric = CocoMetric(ann_file=path)
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        keypoints = info["keypoints"] + np.array([3, 0])
        info["img"] = np.zeros((8, 8, 3), dtype=np.uint8)
        sample = PackPoseInputs()(GetBBoxCenterScale()(info))["data_samples"].to_dict()
        sample["pred_instances"] = {"keypoints": keypoints, "keypoint_scores": np.ones(keypoints.shape[:2])}
        metric.process([], [sample])
    return metric.compute_metrics(metric.results)["AP"]


def said(error):
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def outcome(path):
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            dataset = loaded(path)
        except Exception as error:  # noqa: BLE001  whatever it is, it is the outcome
            return f"loading raises {said(error)}"
        before = seen(dataset)
        try:
            return f"{before}, AP {evaluated(path, dataset):.3f}"
        except Exception as error:  # noqa: BLE001  whatever it is, it is the outcome
            return f"{before}, evaluation raises {said(error)}"


if __name__ == "__main__":
    print(json.dumps({path: outcome(path) for path in sys.argv[1:]}, indent=1))  # noqa: T201
