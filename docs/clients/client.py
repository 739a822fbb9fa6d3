"""Sets a key and reads it, whichever node leads: python client.py HOST:PORT HOST:PORT HOST:PORT

grpcio finds the leader by the health service, and waits while there is none. Where nodes speak TLS,
RAFTKV_CERTIFICATE names a certificate (certs/bob: bob.pem and bob.key, with ca.pem beside them), and
RAFTKV_SERVER_NAME what every node is called (demo.raftkv).
"""

import json
import os
import sys

import grpc
from raftkv.v1 import kv_pb2 as kv
from raftkv.v1 import kv_pb2_grpc

SERVICE_CONFIG = {
    # Connects to all nodes, and uses the one that calls "leader" serving.
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "leader"},
    "methodConfig": [{
        "name": [{"service": "raftkv.v1.Kv"}],
        # While there is no leader, calls wait.
        "waitForReady": True,
        # Allowed only because each write below has a request id.
        "retryPolicy": {
            "maxAttempts": 5,
            "initialBackoff": "0.05s",
            "maxBackoff": "1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE", "UNKNOWN"],
        },
    }],
}
OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.default_authority", "raftkv"),
    # A node that hangs is noticed after 1 + 1 s.
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 1000),
]


def channel(target):
    certificate = os.environ.get("RAFTKV_CERTIFICATE")
    if certificate is None:
        return grpc.insecure_channel(target, options=OPTIONS)

    def read(path):
        with open(path, "rb") as file:
            return file.read()

    name = os.environ["RAFTKV_SERVER_NAME"]
    authorities = read(os.path.join(os.path.dirname(certificate), "ca.pem"))
    credentials = grpc.ssl_channel_credentials(
        authorities, read(certificate + ".key"), read(certificate + ".pem")
    )
    options = [option for option in OPTIONS if option[0] != "grpc.default_authority"]
    # Certificates name the cluster, not an address.
    options += [("grpc.default_authority", name), ("grpc.ssl_target_name_override", name)]
    return grpc.secure_channel(target, credentials, options=options)


class Client:
    """One operation at a time; for many at a time take many clients, or the stream."""

    def __init__(self, nodes):
        target = "ipv4:" + ",".join(nodes)
        self.stub = kv_pb2_grpc.KvStub(channel(target))
        session = self.stub.OpenSession(kv.OpenSessionRequest(), timeout=30)
        self.client_id, self.newest_index = session.client_id, session.since_index
        self.sequence = 0

    def set(self, key, value):
        self.sequence += 1
        request_id = kv.RequestId(
            client_id=self.client_id, sequence=self.sequence, since_index=self.newest_index
        )
        request = kv.SetRequest(request=request_id, key=key, value=value)
        reply = self.stub.Set(request, timeout=30)
        self.newest_index = max(self.newest_index, reply.applied_index)

    def get(self, key):
        reply = self.stub.Get(kv.GetRequest(key=key), timeout=30)
        return reply.value if reply.found else None


def main():
    client = Client(sys.argv[1:])
    try:
        client.set("name1", "Jaggu")
        print(client.get("name1"))
    except grpc.RpcError as error:
        reason = dict(error.trailing_metadata() or ()).get("raft-error-reason")
        done = "see ErrorReason in kv.proto" if reason else "a write may have been done"
        sys.exit(f"{error.code()}: {error.details()} ({reason}: {done})")


main()
