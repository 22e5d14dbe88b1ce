#!/usr/bin/env bash
# Installs the programs that `make test-peers` talks to: Debian's Orthanc, dcmtk and dicom3tools where this may be done
# (root and apt-get), and dcmqi and plastimatch, whose binaries are in their wheels, into an environment of their own;
# likewise the clients of MONAI Label, schemathesis, and a browser's driver.
# What cannot be installed is said; the tests that need it are skipped with that message.
set -euo pipefail
python=${1:?usage: install.sh PYTHON FOLDER}
folder=${2:?usage: install.sh PYTHON FOLDER}

declare -A packages=([dcmqrscp]=dcmtk [dciodvfy]=dicom3tools [Orthanc]=orthanc)
missing=()
command -v chromium chromium-browser google-chrome > /dev/null || missing+=(chromium)
for program in "${!packages[@]}"; do
  command -v "$program" > /dev/null || missing+=("${packages[$program]}")
done
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing+=(orthanc-dicomweb)

if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    # Orthanc's package starts a service that would be open to the network; a policy of Debian's keeps it from that.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      printf '#!/bin/sh\nexit 101\n' > "$policy"
      chmod +x "$policy"
      trap 'rm -f "$policy"' EXIT
    fi
    apt=(apt-get --quiet --yes -o Acquire::Retries=1 -o Acquire::http::Timeout=30 -o DPkg::Lock::Timeout=60)
    "${apt[@]}" update > /dev/null || true
    echo "installing ${missing[*]} for the tests with real peers"
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends "${missing[@]}" > /dev/null ||
      echo "${missing[*]} could not be installed; the tests that need them will be skipped" >&2
    if [[ " ${missing[*]} " == *" orthanc "* ]] && command -v systemctl > /dev/null; then
      systemctl --quiet disable orthanc 2> /dev/null || true # nor at the next start of the machine
    fi
  else
    echo "${missing[*]}: not installed; the tests that need them will be skipped" >&2
  fi
fi

if [ ! -x "$folder/bin/segimage2itkimage" ] || [ ! -x "$folder/bin/plastimatch" ]; then
  echo "installing dcmqi and plastimatch into $folder, once"
  [ -x "$folder/bin/python" ] || "$python" -m venv "$folder" ||
    { "$python" -m venv --clear --without-pip "$folder" && "$python" -m pip --python "$folder/bin/python" install pip; }
  "$folder/bin/python" -m pip --disable-pip-version-check --quiet install dcmqi==1.5.7 plastimatch==1.10.0 ||
    echo "dcmqi and plastimatch could not be installed; the tests that need them will be skipped" >&2
fi

# s3fs, and moto as its server, beside the packages of PYTHON, of which they need other versions.
s3="$folder-s3"
if [ ! -x "$s3/bin/moto_server" ]; then
  echo "installing s3fs and moto into $s3, once"
  [ -x "$s3/bin/python" ] || "$python" -m venv "$s3" ||
    { "$python" -m venv --clear --without-pip "$s3" && "$python" -m pip --python "$s3/bin/python" install pip; }
  "$s3/bin/python" -m pip --disable-pip-version-check --quiet install s3fs==2026.9.0 "moto[server]==5.2.5" ||
    echo "s3fs and moto could not be installed; the tests that need them will be skipped" >&2
  "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    > "$("$s3/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages-of-attunet.pth"
fi

# The clients of MONAI Label: its Python client, 3D Slicer's module and OHIF, without the server and its dependencies.
labels="$folder-monailabel"
if ! compgen -G "$labels/lib/python*/site-packages/monailabel/client/client.py" > /dev/null; then
  echo "installing the clients of MONAI Label into $labels, once"
  [ -x "$labels/bin/python" ] || "$python" -m venv "$labels" ||
    { "$python" -m venv --clear --without-pip "$labels" && "$python" -m pip --python "$labels/bin/python" install pip; }
  { "$labels/bin/python" -m pip --disable-pip-version-check --quiet install --no-deps monailabel==0.8.5 &&
    "$labels/bin/python" -m pip --disable-pip-version-check --quiet install requests 2> /dev/null; } ||
    echo "the clients of MONAI Label could not be installed; the tests that need them will be skipped" >&2
fi

# schemathesis, which asks every route of a described API for anything.
asker="$folder-schemathesis"
if [ ! -x "$asker/bin/st" ]; then
  echo "installing schemathesis into $asker, once"
  [ -x "$asker/bin/python" ] || "$python" -m venv "$asker" ||
    { "$python" -m venv --clear --without-pip "$asker" && "$python" -m pip --python "$asker/bin/python" install pip; }
  "$asker/bin/python" -m pip --disable-pip-version-check --quiet install schemathesis==4.32.5 ||
    echo "schemathesis could not be installed; the test that needs it will be skipped" >&2
fi

# Playwright, which drives Debian's Chromium, and axe-core, which finds what people who cannot see a page would miss.
browser="$folder-browser"
if ! compgen -G "$browser/lib/python*/site-packages/playwright" > /dev/null; then
  echo "installing Playwright into $browser, once"
  [ -x "$browser/bin/python" ] || "$python" -m venv "$browser" ||
    { "$python" -m venv --clear --without-pip "$browser" && "$python" -m pip --python "$browser/bin/python" install pip; }
  "$browser/bin/python" -m pip --disable-pip-version-check --quiet install playwright==1.65.2 ||
    echo "Playwright could not be installed; the tests of the page will be skipped" >&2
fi
if [ ! -e "$browser/node_modules/axe-core/axe.min.js" ]; then
  command -v npm > /dev/null &&
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$browser" axe-core@4.14.1 > /dev/null ||
    echo "axe-core could not be installed (it needs npm); the test of accessibility will be skipped" >&2
fi
