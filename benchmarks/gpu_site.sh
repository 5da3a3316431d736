#!/usr/bin/env bash
# Packs what a machine without a network lacks for on_gpu.sh: bash benchmarks/gpu_site.sh THERE SITE.txz [PYTHON]
#
# THERE is a file with what `pip list --format=freeze` prints on that machine (x86-64, Linux): those packages are neither
# packed nor replaced. PYTHON is its version, 3.12 unless said. UV says where uv is, beside which there must be xz.
# There: mkdir site; tar -xJf SITE.txz -C site; PYTHONPATH=$PWD/site PYTHON=python3 bash benchmarks/on_gpu.sh figures
set -euo pipefail
there=$(realpath "$1")
site=$(realpath "$2")
for_there=(--python-version "${3:-3.12}" --python-platform x86_64-manylinux_2_28)
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# "Torch==2.11.0+cu130" and "torch @ file:..." -> torch==2.11.0 and torch, as uv spells names
sed -E -e 's/ *@.*//' -e 's/\+.*//' -e '/^(#|-|pe_beam|pe-beam)/d' "$there" |
    awk -F== 'NF { name = tolower($1); gsub(/[-_.]+/, "-", name); print name ($2 == "" ? "" : "==" $2) }' >"$work/there"
"$uv" pip compile --quiet --no-header --no-annotate --extra text --extra image "${for_there[@]}" \
    --override "$work/there" setup.py --output-file "$work/all" >/dev/null
# What torch's own wheel brings beside it is not looked for where torch is.
awk -F== 'NR == FNR { there[$1]; next } !($1 in there || ("torch" in there && /^(nvidia|cuda|triton)/))' \
    "$work/there" "$work/all" >"$work/lacking"
"$uv" pip install --quiet --no-deps --link-mode copy "${for_there[@]}" --target "$work/site" --requirement "$work/lacking"
"$uv" pip install --quiet --no-deps --link-mode copy "${for_there[@]}" --target "$work/site" . # for its entry points
find "$work/site" -name __pycache__ -prune -exec rm -r {} +
if [ -x "$(command -v strip)" ]; then # of what debuggers want; these are copies, not links to a cache
    find "$work/site" -name '*.so*' -type f -exec strip --strip-debug {} +
fi
tar -C "$work/site" -c . | xz -T0 -6 >"$site"
echo "$(grep -c . "$work/lacking") packages and pe_beam, $(du -m "$site" | cut -f1) MB: $site"
