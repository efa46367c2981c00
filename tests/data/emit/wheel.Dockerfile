# Written by `mmdoctor fix --emit dockerfile`.
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
FROM python:3.10-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv
ENV UV_LINK_MODE=copy work=/tmp/mmdoctor
RUN mkdir -p "$work" && \
    printf '%s\n' torch==2.1.2 torchvision==0.16.2 numpy==1.26.4 opencv-python==4.8.1.78 mmcv==2.1.0 xtcocotools==1.14.3 mmengine==0.10.7 mmdet==3.3.0 mmpose==1.3.2 setuptools==69.5.1 >"$work/constraints.txt" && \
    printf '%s\n' 'opencv-python-headless ; python_version < '"'"'0'"'"'' 'opencv-contrib-python ; python_version < '"'"'0'"'"'' 'opencv-contrib-python-headless ; python_version < '"'"'0'"'"'' 'chumpy ; python_version < '"'"'0'"'"'' >"$work/overrides.txt"
RUN uv venv --python python3 --seed /opt/mmpose
# build tools
RUN uv pip install --python /opt/mmpose/bin/python setuptools==69.5.1
# torch, torchvision, NumPy, OpenCV
RUN uv pip install --python /opt/mmpose/bin/python torch===2.1.2 torchvision===0.16.2 numpy==1.26.4 opencv-python==4.8.1.78
# mmcv 2.1.0, prebuilt wheel
RUN uv pip install --python /opt/mmpose/bin/python --find-links https://download.openmmlab.com/mmcv/dist/cu121/torch2.1.0/index.html --only-binary mmcv --reinstall-package mmcv --constraint /tmp/mmdoctor/constraints.txt --override /tmp/mmdoctor/overrides.txt mmcv==2.1.0
# xtcocotools, prebuilt wheel
RUN uv pip install --python /opt/mmpose/bin/python --constraint /tmp/mmdoctor/constraints.txt --override /tmp/mmdoctor/overrides.txt --only-binary xtcocotools xtcocotools==1.14.3 --reinstall-package xtcocotools
# mmengine, mmdet, mmpose
RUN uv pip install --python /opt/mmpose/bin/python --compile-bytecode --constraint /tmp/mmdoctor/constraints.txt --override /tmp/mmdoctor/overrides.txt opencv-python==4.8.1.78 mmengine==0.10.7 mmdet==3.3.0 mmpose==1.3.2 xtcocotools==1.14.3 mmcv==2.1.0
RUN /opt/mmpose/bin/python -c 'import torch, torchvision, mmcv._ext, xtcocotools._mask, mmpose.apis'
ENV PATH="/opt/mmpose/bin:$PATH" VIRTUAL_ENV=/opt/mmpose
