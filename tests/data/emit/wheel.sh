#!/usr/bin/env bash
# Written by `mmdoctor fix --emit script`. Usage: bash THIS_FILE ENVIRONMENT
# hoof-training: Python 3.10.0, torch 2.1.2+cu121, mmcv 2.1.0 (wheel), mmpose 1.3.2, numpy 1.26.4
# evidence for this stack: tested-elsewhere
# pretended: python=3.10
# pretended: driver=535.104.05
# pretended: gpu=7.5
# pretended: os=linux
# https://pypi.org/simple answers (not looked at: a pretended machine)
# https://download.openmmlab.com/mmcv/dist/cpu/torch2.1.0/index.html answers (not looked at: a pretended machine)
# the system has libGL.so.1, which OpenCV's GUI build needs (not seen here)
# a range that a [mim] extra only declares does not hold; nothing asserts it at import
set -euo pipefail
env=$(realpath -m "${1:-.venv}")
python="$env/bin/python"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v uv >/dev/null || { echo 'this script needs uv: pip install uv' >&2; exit 2; }
printf '%s\n' torch==2.1.2 torchvision==0.16.2 numpy==1.26.4 opencv-python==4.8.1.78 mmcv==2.1.0 xtcocotools==1.14.3 mmengine==0.10.7 mmdet==3.3.0 mmpose==1.3.2 setuptools==69.5.1 >"$work/constraints.txt"
printf '%s\n' 'opencv-python-headless ; python_version < '"'"'0'"'"'' 'opencv-contrib-python ; python_version < '"'"'0'"'"'' 'opencv-contrib-python-headless ; python_version < '"'"'0'"'"'' 'chumpy ; python_version < '"'"'0'"'"'' >"$work/overrides.txt"

echo '[1/7] create the environment'
uv venv --python 3.10 --seed "$env"

echo '[2/7] build tools'
uv pip install --python "$python" setuptools==69.5.1

echo '[3/7] torch, torchvision, NumPy, OpenCV'
uv pip install --python "$python" torch===2.1.2 torchvision===0.16.2 numpy==1.26.4 opencv-python==4.8.1.78

echo '[4/7] mmcv 2.1.0, prebuilt wheel'
uv pip install --python "$python" --find-links https://download.openmmlab.com/mmcv/dist/cu121/torch2.1.0/index.html --only-binary mmcv --reinstall-package mmcv --constraint "$work/constraints.txt" --override "$work/overrides.txt" mmcv==2.1.0

echo '[5/7] xtcocotools, prebuilt wheel'
uv pip install --python "$python" --constraint "$work/constraints.txt" --override "$work/overrides.txt" --only-binary xtcocotools xtcocotools==1.14.3 --reinstall-package xtcocotools

echo '[6/7] mmengine, mmdet, mmpose'
uv pip install --python "$python" --compile-bytecode --constraint "$work/constraints.txt" --override "$work/overrides.txt" opencv-python==4.8.1.78 mmengine==0.10.7 mmdet==3.3.0 mmpose==1.3.2 xtcocotools==1.14.3 mmcv==2.1.0

echo '[7/7] proof'
if command -v mmdoctor >/dev/null; then
  mmdoctor check --deep --env "$env"
  mmdoctor bench --env "$env"
else
  "$python" -c 'import torch, torchvision, mmcv._ext, xtcocotools._mask, mmpose.apis'
fi

echo "ready: $env"
