#!/usr/bin/env bash
# Two packages with a file of the same name can't be loaded by one Python process.
#
# protobuf's registry goes by a file's path as it was given to the compiler, whatever its package is.
# etcd's client has a `kv.proto` (package mvccpb): with aetcd 1.0.0 and protobuf 7.36.2 loaded, a
# valid file `kv.proto` of another package, without one name in common, ends in "duplicate file name".
# The same file under a path that follows its package, `example/v1/kv.proto`, is taken.
#
# This installs both from PyPI in a temporary folder, loads them, and fails when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --only-binary :all: aetcd==1.0.0 grpcio==1.85.1 protobuf==7.36.2
"$folder/venv/bin/python" - <<'PYTHON'
import google.protobuf
from google.protobuf import descriptor_pb2, descriptor_pool
from aetcd.rpc import kv_pb2

pool = descriptor_pool.Default()
print("protobuf", google.protobuf.__version__)
print("aetcd has", kv_pb2.DESCRIPTOR.name, "of package", kv_pb2.DESCRIPTOR.package)


def load(path):
    file = descriptor_pb2.FileDescriptorProto(name=path, package="example.v1", syntax="proto3")
    file.message_type.add(name="Thing")
    try:
        pool.AddSerializedFile(file.SerializeToString())
    except TypeError as error:
        return str(error)
    return "taken"


by_name, by_path = load("kv.proto"), load("example/v1/kv.proto")
print("kv.proto of package example.v1:", by_name)
print("example/v1/kv.proto:", by_path)
assert kv_pb2.DESCRIPTOR.name == "kv.proto"
assert "duplicate file name" in by_name, "a file of the same name is taken now"
assert by_path == "taken"
PYTHON
