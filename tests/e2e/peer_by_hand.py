#!/usr/bin/python3
"""The two ends of stillpointd's protocol by hand (common/wire/peer.proto), for what its own programs never do.
  peer_by_hand.py hello HOST|SOCKET LEAST MOST   says a hello of these versions, without a credential; prints the answer
  peer_by_hand.py garbage HOST                   sends noise; prints `closed` once it is dropped
  peer_by_hand.py pose PORT                      a daemon run by whoever calls this; prints `ready`, serves one caller"""
import os
import socket
import struct
import subprocess
import sys

PORT = 295
CHALLENGE, HELLO, WELCOME, REFUSAL, REQUEST, REPLY = 1, 2, 3, 4, 6, 7


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(data):
    """{number: value} of a message; the last one of each."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        tag = number()
        value = number()
        if tag & 7 == 2:
            value, at = data[at:at + value], at + value
        found[tag >> 3] = value
    return found


def send(connection, kind, body):
    message = field(kind, body)
    connection.sendall(struct.pack("<I", len(message)) + message)


def receive(connection):
    """(kind, fields) of the next message."""
    head = connection.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        return None, {}
    (kind, body), = fields(connection.recv(struct.unpack("<I", head)[0], socket.MSG_WAITALL)).items()
    return kind, fields(body)


def versions(least, most):
    return field(1, field(1, least) + field(2, most))


def connect(where):
    if not where.startswith("/"):
        return socket.create_connection((where, PORT), 20)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(where)
    return connection


def hello(where, least, most):
    connection = connect(where)
    assert receive(connection)[0] == CHALLENGE
    send(connection, HELLO, versions(least, most) + field(2, os.urandom(32)))
    kind, body = receive(connection)
    if kind == REFUSAL:
        print("refused:", body[2].decode())
        return
    assert kind == WELCOME, kind
    print("version", body[1])
    send(connection, REQUEST, field(1, b""))
    kind, body = receive(connection)
    assert kind == REPLY, kind
    print("host", fields(body[2])[1].decode())


def garbage(where):
    connection = connect(where)
    connection.sendall(os.urandom(4000))
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    print("closed")


def pose(port):
    listener = socket.create_server(("", port))
    print("ready", flush=True)
    listener.settimeout(30)
    connection, _ = listener.accept()
    send(connection, CHALLENGE, versions(1, 1) + field(2, os.urandom(32)))
    receive(connection)
    credential = subprocess.run(["munge", "-s", "trust me"], capture_output=True, check=True).stdout.strip()
    send(connection, WELCOME, field(1, 1) + field(2, credential))
    connection.settimeout(20)
    connection.recv(1)


if __name__ == "__main__":
    {"hello": lambda where, least, most: hello(where, int(least), int(most)),
     "garbage": garbage,
     "pose": lambda port: pose(int(port))}[sys.argv[1]](*sys.argv[2:])
