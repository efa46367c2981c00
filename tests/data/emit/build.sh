#!/usr/bin/env bash
# Written by `mmdoctor fix --emit script`. Usage: bash THIS_FILE ENVIRONMENT
# rtmpose: Python 3.13.1, torch 2.15.0+cpu, mmcv 2.1.0 (build), mmpose 1.3.2, numpy 2.5.5
# evidence for this stack: tested
# compiles mmcv 2.1.0: openmmlab: no wheel for torch 2.15; compiled here: CPU ops with gcc 12.2.0
# compiles xtcocotools 1.14.3: it has no wheel for Python 3.13.1 here
# your checkpoints hold weights alone: torch 2.15.0 loads nothing but tensors unless told otherwise, and training checkpoints of MMEngine hold more (TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 for those that you trust)
set -euo pipefail
env=$(realpath -m "${1:-.venv}")
python="$env/bin/python"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v uv >/dev/null || { echo 'this script needs uv: pip install uv' >&2; exit 2; }
printf '%s\n' torch==2.15.0 torchvision==0.29.2 numpy==2.5.5 opencv-python==5.0.0.93 mmcv==2.1.0 xtcocotools==1.14.3 mmengine==0.10.7 mmdet==3.2.0 mmpose==1.3.2 setuptools==80.10.2 >"$work/constraints.txt"
printf '%s\n' 'opencv-python-headless ; python_version < '"'"'0'"'"'' 'opencv-contrib-python ; python_version < '"'"'0'"'"'' 'opencv-contrib-python-headless ; python_version < '"'"'0'"'"'' 'chumpy ; python_version < '"'"'0'"'"'' >"$work/overrides.txt"
printf '%s\n' 'import hashlib, pathlib, re, sys' 'from urllib.parse import urljoin, urlsplit' 'from urllib.request import urlopen' 'index, package, name, digest, folder = sys.argv[1:]' 'page = index.rstrip("/") + "/" + package + "/"' 'links = [urljoin(page, link) for link in re.findall("href=.([^\x22\x27]+)", urlopen(page).read().decode())]' 'data = urlopen(next(link for link in links if urlsplit(link).path.endswith("/" + name))).read()' 'if digest and hashlib.sha256(data).hexdigest() != digest:' '    sys.exit(name + " is not the file that was tested")' 'pathlib.Path(folder, name).write_bytes(data)' >"$work/fetch.py"
printf '%s\n' 'import pathlib, sys' 'path = pathlib.Path(sys.argv[1])' 'old, new = (text.encode().decode("unicode_escape") for text in sys.argv[2:])' 'text = path.read_text(encoding="utf-8")' 'if old not in text:' '    sys.exit("a fix-up does not fit " + path.name)' 'path.write_text(text.replace(old, new), encoding="utf-8")' >"$work/change.py"

echo '[1/7] create the environment'
uv venv --python 3.13 --seed "$env"

echo '[2/7] build tools'
uv pip install --python "$python" setuptools==80.10.2 wheel ninja psutil packaging cython

echo '[3/7] torch, torchvision, NumPy, OpenCV'
uv pip install --python "$python" --index https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match torch==2.15.0+cpu torchvision==0.29.2+cpu numpy==2.5.5 opencv-python==5.0.0.93

echo '[4/7] mmcv 2.1.0, compiled here'
# about 4 minutes, openmmlab: no wheel for torch 2.15; compiled here: CPU ops with gcc 12.2.0; fix-up cxx20: The headers of torch 2.14 need C++20, and an explicit -std in setup.py suppresses the flag that torch would add.; fix-up py313: From Python 3.13 on exec() inside a function no longer writes to what locals() returns (PEP 667), so get_version() dies with KeyError: '__version__'.
uv pip install -q --python "$python" pip
index=$("$python" -m pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple)
"$python" "$work/fetch.py" "${PIP_INDEX_URL:-$index}" mmcv mmcv-2.1.0.tar.gz "d387bcab66b467479b6660310e23746cfc79c6e57acf04094680adb499a5cd3f" "$work"
tar -xzf "$work/mmcv-2.1.0.tar.gz" -C "$work"
# fix-up cxx20: The headers of torch 2.14 need C++20, and an explicit -std in setup.py suppresses the flag that torch would add.
"$python" "$work/change.py" "$work/mmcv-2.1.0/setup.py" -std=c++14 -std=c++20
"$python" "$work/change.py" "$work/mmcv-2.1.0/setup.py" -std=c++17 -std=c++20
# fix-up py313: From Python 3.13 on exec() inside a function no longer writes to what locals() returns (PEP 667), so get_version() dies with KeyError: '__version__'.
"$python" "$work/change.py" "$work/mmcv-2.1.0/setup.py" 'exec(compile(f.read(), version_file, '"'"'exec'"'"'))' 'found = {}\n        exec(compile(f.read(), version_file, '"'"'exec'"'"'), found)'
"$python" "$work/change.py" "$work/mmcv-2.1.0/setup.py" 'locals()['"'"'__version__'"'"']' 'found['"'"'__version__'"'"']'
PATH="$(dirname "$python"):$PATH" MMCV_WITH_OPS=1 CFLAGS=-g0 CXXFLAGS=-g0 "$python" -m pip wheel --no-build-isolation --no-deps --no-cache-dir -w "$work/wheels" "$work/mmcv-2.1.0"
uv pip install --python "$python" --constraint "$work/constraints.txt" --override "$work/overrides.txt" --reinstall-package mmcv "$work"/wheels/mmcv-2.1.0-*.whl

echo '[5/7] xtcocotools, compiled against numpy 2.5.5'
# about 0.3 minutes, it has no wheel for Python 3.13.1 here; fix-up owndata: NumPy 2.4 no longer declares NPY_OWNDATA for Cython, which then looks for it at run time: every mask dies with AttributeError.; fix-up py313: From Python 3.13 on exec() inside a function no longer writes to what locals() returns (PEP 667), so get_version() dies with KeyError: '__version__'.
uv pip install -q --python "$python" pip
index=$("$python" -m pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple)
"$python" "$work/fetch.py" "${PIP_INDEX_URL:-$index}" xtcocotools xtcocotools-1.14.3.tar.gz "6434382784d206204d2a1b491dba359ff3464a2b9eb5890fbc0d868cad4e810f" "$work"
tar -xzf "$work/xtcocotools-1.14.3.tar.gz" -C "$work"
# fix-up owndata: NumPy 2.4 no longer declares NPY_OWNDATA for Cython, which then looks for it at run time: every mask dies with AttributeError.
"$python" "$work/change.py" "$work/xtcocotools-1.14.3/xtcocotools/_mask.pyx" np.NPY_OWNDATA np.NPY_ARRAY_OWNDATA
# fix-up py313: From Python 3.13 on exec() inside a function no longer writes to what locals() returns (PEP 667), so get_version() dies with KeyError: '__version__'.
"$python" "$work/change.py" "$work/xtcocotools-1.14.3/setup.py" 'exec(compile(f.read(), version_file, '"'"'exec'"'"'))' 'found = {}\n        exec(compile(f.read(), version_file, '"'"'exec'"'"'), found)'
"$python" "$work/change.py" "$work/xtcocotools-1.14.3/setup.py" 'locals()['"'"'__version__'"'"']' 'found['"'"'__version__'"'"']'
"$python" "$work/change.py" "$work/xtcocotools-1.14.3/setup.py" 'locals()['"'"'short_version'"'"']' 'found['"'"'short_version'"'"']'
PATH="$(dirname "$python"):$PATH" "$python" -m pip wheel --no-build-isolation --no-deps --no-cache-dir -w "$work/wheels" "$work/xtcocotools-1.14.3"
uv pip install --python "$python" --constraint "$work/constraints.txt" --override "$work/overrides.txt" --reinstall-package xtcocotools "$work"/wheels/xtcocotools-1.14.3-*.whl

echo '[6/7] mmengine, mmdet, mmpose'
uv pip install --python "$python" --compile-bytecode --constraint "$work/constraints.txt" --override "$work/overrides.txt" opencv-python==5.0.0.93 mmengine==0.10.7 mmdet==3.2.0 mmpose==1.3.2 xtcocotools==1.14.3 mmcv==2.1.0

echo '[7/7] proof'
if command -v mmdoctor >/dev/null; then
  mmdoctor check --deep --env "$env"
  mmdoctor bench --env "$env"
else
  "$python" -c 'import torch, torchvision, mmcv._ext, xtcocotools._mask, mmpose.apis'
fi

echo "ready: $env"
