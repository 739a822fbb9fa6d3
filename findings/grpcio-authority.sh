#!/usr/bin/env bash
# A grpcio channel with several addresses sends the whole list as `:authority`.
#
# Seen with grpcio 1.85.1: for the target `ipv4:127.0.0.1:P,127.0.0.1:Q`, which is a valid one (the
# form is in gRPC's naming document), a request's `:authority` is `127.0.0.1:P,127.0.0.1:Q`. RFC 3986
# knows no comma behind a port, and servers that check the header refuse the call. The channel option
# `grpc.default_authority` cures it.
#
# This installs grpcio and h2 from PyPI in a temporary folder and shows what a server receives. It
# fails when grpcio sends something else.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --only-binary :all: grpcio==1.85.1 h2==4.3.0
"$folder/venv/bin/python" - <<'PYTHON'
import socket
import threading

import grpc
import h2.connection
import h2.config
import h2.events


def first_authority(options):
    """What a call through a channel with two addresses says whom it is for."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [listener.getsockname()[1] for listener in listeners]
    seen, found = [], threading.Event()

    def serve(listener):
        connection, _ = listener.accept()
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        http = h2.connection.H2Connection(config=config)
        http.initiate_connection()
        connection.sendall(http.data_to_send())
        while data := connection.recv(65536):
            for event in http.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    seen.append(dict(event.headers)[":authority"])
                    found.set()
            connection.sendall(http.data_to_send())

    for listener in listeners:
        threading.Thread(target=serve, args=[listener], daemon=True).start()
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    channel = grpc.insecure_channel(target, options=options)
    call = channel.unary_unary("/service/Method").future(b"", wait_for_ready=True)
    assert found.wait(20), "no request came"
    call.cancel()
    channel.close()
    return seen[0], target.removeprefix("ipv4:")


print("grpcio", grpc.__version__)
authority, addresses = first_authority([])
print("target      ipv4:" + addresses)
print(":authority ", authority)
named, _ = first_authority([("grpc.default_authority", "name")])
print("with grpc.default_authority=name:", named)
assert grpc.__version__ == "1.85.1"
assert "," in authority or "%2C" in authority.upper(), "grpcio sends something else now"
assert named == "name"
PYTHON
