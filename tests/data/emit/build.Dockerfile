# Written by `mmdoctor fix --emit dockerfile`.
# rtmpose: Python 3.13.1, torch 2.15.0+cpu, mmcv 2.1.0 (build), mmpose 1.3.2, numpy 2.5.5
# evidence for this stack: tested
# compiles mmcv 2.1.0: openmmlab: no wheel for torch 2.15; compiled here: CPU ops with gcc 12.2.0
# compiles xtcocotools 1.14.3: it has no wheel for Python 3.13.1 here
# your checkpoints hold weights alone: torch 2.15.0 loads nothing but tensors unless told otherwise, and training checkpoints of MMEngine hold more (TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 for those that you trust)
FROM python:3.13-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends g++ libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv
ENV UV_LINK_MODE=copy work=/tmp/mmdoctor
RUN mkdir -p "$work" && \
    printf '%s\n' torch==2.15.0 torchvision==0.29.2 numpy==2.5.5 opencv-python==5.0.0.93 mmcv==2.1.0 xtcocotools==1.14.3 mmengine==0.10.7 mmdet==3.2.0 mmpose==1.3.2 setuptools==80.10.2 >"$work/constraints.txt" && \
    printf '%s\n' 'opencv-python-headless ; python_version < '"'"'0'"'"'' 'opencv-contrib-python ; python_version < '"'"'0'"'"'' 'opencv-contrib-python-headless ; python_version < '"'"'0'"'"'' 'chumpy ; python_version < '"'"'0'"'"'' >"$work/overrides.txt" && \
    printf '%s\n' 'import hashlib, pathlib, re, sys' 'from urllib.parse import urljoin, urlsplit' 'from urllib.request import urlopen' 'index, package, name, digest, folder = sys.argv[1:]' 'page = index.rstrip("/") + "/" + package + "/"' 'links = [urljoin(page, link) for link in re.findall("href=.([^\x22\x27]+)", urlopen(page).read().decode())]' 'data = urlopen(next(link for link in links if urlsplit(link).path.endswith("/" + name))).read()' 'if digest and hashlib.sha256(data).hexdigest() != digest:' '    sys.exit(name + " is not the file that was tested")' 'pathlib.Path(folder, name).write_bytes(data)' >"$work/fetch.py" && \
    printf '%s\n' 'import pathlib, sys' 'path = pathlib.Path(sys.argv[1])' 'old, new = (text.encode().decode("unicode_escape") for text in sys.argv[2:])' 'text = path.read_text(encoding="utf-8")' 'if old not in text:' '    sys.exit("a fix-up does not fit " + path.name)' 'path.write_text(text.replace(old, new), encoding="utf-8")' >"$work/change.py"
RUN uv venv --python python3 --seed /opt/mmpose
# build tools
RUN uv pip install --python /opt/mmpose/bin/python setuptools==80.10.2 wheel ninja psutil packaging cython
# torch, torchvision, NumPy, OpenCV
RUN uv pip install --python /opt/mmpose/bin/python --index https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match torch==2.15.0+cpu torchvision==0.29.2+cpu numpy==2.5.5 opencv-python==5.0.0.93
# mmcv 2.1.0, compiled here
RUN uv pip install -q --python /opt/mmpose/bin/python pip && \
    index=$(/opt/mmpose/bin/python -m pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple) && \
    /opt/mmpose/bin/python "$work/fetch.py" "${PIP_INDEX_URL:-$index}" mmcv mmcv-2.1.0.tar.gz "d387bcab66b467479b6660310e23746cfc79c6e57acf04094680adb499a5cd3f" "$work" && \
    tar -xzf "$work/mmcv-2.1.0.tar.gz" -C "$work" && \
    /opt/mmpose/bin/python "$work/change.py" "$work/mmcv-2.1.0/setup.py" -std=c++14 -std=c++20 && \
    /opt/mmpose/bin/python "$work/change.py" "$work/mmcv-2.1.0/setup.py" -std=c++17 -std=c++20 && \
    /opt/mmpose/bin/python "$work/change.py" "$work/mmcv-2.1.0/setup.py" 'exec(compile(f.read(), version_file, '"'"'exec'"'"'))' 'found = {}\n        exec(compile(f.read(), version_file, '"'"'exec'"'"'), found)' && \
    /opt/mmpose/bin/python "$work/change.py" "$work/mmcv-2.1.0/setup.py" 'locals()['"'"'__version__'"'"']' 'found['"'"'__version__'"'"']' && \
    PATH="$(dirname /opt/mmpose/bin/python):$PATH" MMCV_WITH_OPS=1 CFLAGS=-g0 CXXFLAGS=-g0 /opt/mmpose/bin/python -m pip wheel --no-build-isolation --no-deps --no-cache-dir -w "$work/wheels" "$work/mmcv-2.1.0" && \
    uv pip install --python /opt/mmpose/bin/python --constraint /tmp/mmdoctor/constraints.txt --override /tmp/mmdoctor/overrides.txt --reinstall-package mmcv "$work"/wheels/mmcv-2.1.0-*.whl
# xtcocotools, compiled against numpy 2.5.5
RUN uv pip install -q --python /opt/mmpose/bin/python pip && \
    index=$(/opt/mmpose/bin/python -m pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple) && \
    /opt/mmpose/bin/python "$work/fetch.py" "${PIP_INDEX_URL:-$index}" xtcocotools xtcocotools-1.14.3.tar.gz "6434382784d206204d2a1b491dba359ff3464a2b9eb5890fbc0d868cad4e810f" "$work" && \
    tar -xzf "$work/xtcocotools-1.14.3.tar.gz" -C "$work" && \
    /opt/mmpose/bin/python "$work/change.py" "$work/xtcocotools-1.14.3/xtcocotools/_mask.pyx" np.NPY_OWNDATA np.NPY_ARRAY_OWNDATA && \
    /opt/mmpose/bin/python "$work/change.py" "$work/xtcocotools-1.14.3/setup.py" 'exec(compile(f.read(), version_file, '"'"'exec'"'"'))' 'found = {}\n        exec(compile(f.read(), version_file, '"'"'exec'"'"'), found)' && \
    /opt/mmpose/bin/python "$work/change.py" "$work/xtcocotools-1.14.3/setup.py" 'locals()['"'"'__version__'"'"']' 'found['"'"'__version__'"'"']' && \
    /opt/mmpose/bin/python "$work/change.py" "$work/xtcocotools-1.14.3/setup.py" 'locals()['"'"'short_version'"'"']' 'found['"'"'short_version'"'"']' && \
    PATH="$(dirname /opt/mmpose/bin/python):$PATH" /opt/mmpose/bin/python -m pip wheel --no-build-isolation --no-deps --no-cache-dir -w "$work/wheels" "$work/xtcocotools-1.14.3" && \
    uv pip install --python /opt/mmpose/bin/python --constraint /tmp/mmdoctor/constraints.txt --override /tmp/mmdoctor/overrides.txt --reinstall-package xtcocotools "$work"/wheels/xtcocotools-1.14.3-*.whl
# mmengine, mmdet, mmpose
RUN uv pip install --python /opt/mmpose/bin/python --compile-bytecode --constraint /tmp/mmdoctor/constraints.txt --override /tmp/mmdoctor/overrides.txt opencv-python==5.0.0.93 mmengine==0.10.7 mmdet==3.2.0 mmpose==1.3.2 xtcocotools==1.14.3 mmcv==2.1.0
RUN /opt/mmpose/bin/python -c 'import torch, torchvision, mmcv._ext, xtcocotools._mask, mmpose.apis'
ENV PATH="/opt/mmpose/bin:$PATH" VIRTUAL_ENV=/opt/mmpose
