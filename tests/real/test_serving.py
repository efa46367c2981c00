"""A process that serves RTMPose from the environment keeps answering while the environment is repaired under it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from mmdoctor.apply.clone import clone
from tests.real.conftest import Doctor, uv, versions

pytestmark = pytest.mark.real

SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
import numpy, mmpose, torch
from mmpose.apis import inference_topdown, init_model

folder = Path(mmpose.__file__).parent / ".mim/configs/body_2d_keypoint/rtmpose/coco"
config = folder / "rtmpose-m_8xb256-420e_coco-256x192.py"
torch.manual_seed(0)
model = init_model(str(config), None, device="cpu", cfg_options={"model.backbone.init_cfg": None})
image = numpy.zeros((256, 192, 3), numpy.uint8)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        keypoints = inference_topdown(model, image)[0].pred_instances.keypoints
        body = json.dumps({"keypoints": keypoints.shape[1], "numpy": numpy.__version__}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Service:
    """The server in the environment, asked over loopback."""

    def __init__(self, env: Path) -> None:
        self.process = subprocess.Popen(
            [str(env / "bin" / "python"), "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def ask(self) -> dict[str, object]:
        with urlopen(f"http://127.0.0.1:{self.port}/", timeout=30) as answer:
            found: dict[str, object] = json.loads(answer.read())
            return found

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_it_answers_all_the_while_and_a_restart_runs_the_new_stack(demo: Path, scratch: Path, doctor: Doctor) -> None:
    env = scratch / "served"
    clone(demo, env)
    # Works with this NumPy and is not what the pin asks for: the service runs, and there is something to change.
    uv("pip", "install", "--quiet", "--python", str(env / "bin" / "python"), "numpy==1.26.3")
    service = Service(env)
    answers: list[dict[str, object]] = []
    failures: list[str] = []
    over = threading.Event()

    def ask_on() -> None:
        while not over.is_set():
            try:
                answers.append(service.ask())
            except OSError as error:
                failures.append(str(error))
            time.sleep(0.2)

    asking = threading.Thread(target=ask_on)
    asking.start()
    try:
        done = doctor("fix", "--env", str(env), "--pin", "numpy==1.26.4", "--apply", "--yes")
    finally:
        over.set()
        asking.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"process {service.process.pid}" in done.stderr  # named before, as one that uses it
    assert service.ask() == {"keypoints": 17, "numpy": "1.26.3"}  # the old one still answers
    service.stop()
    assert failures == []
    assert len(answers) > 10
    assert {answer["keypoints"] for answer in answers} == {17}
    assert versions(env)["numpy"] == "1.26.4"
    restarted = Service(env)
    try:
        assert restarted.ask() == {"keypoints": 17, "numpy": "1.26.4"}
    finally:
        restarted.stop()
