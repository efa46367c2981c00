"""mmpose-service: RTMPose over HTTP, for the tests; it runs in the environment that it is started from.

    python service.py PORT

GET /healthz says what it runs on. GET /pose gives the keypoints of a fixed image, by seeded weights: the same numbers
whenever the stack computes the same.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mmcv
import mmpose
import numpy
import torch
from mmcv.ops import nms  # what a service that also detects would need
from mmpose.apis import inference_topdown, init_model

CONFIG = ".mim/configs/body_2d_keypoint/rtmpose/coco/rtmpose-m_8xb256-420e_coco-256x192.py"


def load():
    """RTMPose-m with seeded weights, on the CPU."""
    torch.manual_seed(0)
    config = Path(mmpose.__file__).parent / CONFIG
    return init_model(str(config), None, device="cpu", cfg_options={"model.backbone.init_cfg": None})


def image():
    """A picture of 256 by 192 with something in it."""
    y, x = numpy.mgrid[0:256, 0:192]
    return numpy.stack([(x * 3 + y) % 256, (x + y * 2) % 256, (x * y) % 256], axis=-1).astype(numpy.uint8)


def keypoints(model):
    """The keypoints of the image, as rounded numbers."""
    found = inference_topdown(model, image())[0].pred_instances
    return numpy.asarray(found.keypoints[0]).round(1).tolist()


class Handler(BaseHTTPRequestHandler):
    model = None

    def do_GET(self):
        if self.path == "/pose":
            self.answer({"keypoints": keypoints(self.model)})
        elif self.path == "/healthz":
            versions = {"numpy": numpy.__version__, "torch": torch.__version__, "mmcv": mmcv.__version__}
            self.answer({"ok": True, "ops": nms.__name__, "versions": versions})
        else:
            self.send_error(404)

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Nothing: the journal is for what goes wrong."""


def main():
    Handler.model = load()
    keypoints(Handler.model)  # the first inference is the slow one, and the one that fails
    server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    sys.stdout.write("mmpose-service: ready\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
