#!/bin/sh
# Make the environment that llm-compressor runs in, and fetch the published codes, outside of ours.
#
#     sh benchmarks/speed/peers.sh FOLDER
#
# Afterwards: --peer FOLDER/env/bin/python --wanda FOLDER/wanda --sparsegpt FOLDER/sparsegpt
# torch comes first and pinned: a plain "torch" on Linux brings gigabytes of CUDA packages.
set -eu
folder=${1:?give a folder outside of this repository}
here=$(dirname "$0")
mkdir -p "$folder"
${PYTHON:-python3} -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/env/bin/pip" install --quiet --disable-pip-version-check -r "$here/peers-requirements.txt"
fetch() {
    test -d "$folder/$1" || git clone --quiet "$2" "$folder/$1"
    git -C "$folder/$1" checkout --quiet "$3"
}
fetch wanda https://github.com/locuslab/wanda 8e8fc87b4a2f9955baa7e76e64d5fce7fa8724a6
fetch sparsegpt https://github.com/IST-DASLab/sparsegpt 147d2159dc4f3e9f73e47b32c04d7b3708f44436
