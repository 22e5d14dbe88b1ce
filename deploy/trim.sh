#!/bin/sh
# Deletes from an installation what the runtime never uses: a third of its size. Usage: trim.sh FOLDER
set -eu
cd "$1"
find . -type d -name tests -prune -exec rm -r {} +
# OpenVINO: only the plugin of the CPU and the reader of its own format
for unused in intel_gpu_plugin intel_npu_plugin onnx_frontend tensorflow_frontend tensorflow_lite_frontend \
  pytorch_frontend paddle_frontend gguf_frontend jax_frontend; do
  rm -f openvino/libs/libopenvino_"$unused".so*
done
rm -r openvino/include openvino/cmake openvino/libs/cache.json
rm -r pydicom/data/test_files
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' -o -name '*.a' \) -delete
# symbols of debuggers, where they are half of a file; libraries that auditwheel has patched do not survive it
find fontTools kiwisolver _CharLS* -name '*.so' -exec strip --strip-unneeded {} +
