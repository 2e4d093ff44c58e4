"""As much of a PostgreSQL client as the benchmarks need: logging in (trust or SCRAM-SHA-256),
staying idle, and reading a large result without looking at it.

pgbench cannot hold thousands of idle connections, and psql holds a whole result in memory."""

import base64
import hashlib
import hmac
import os
import socket
import struct


class ServerError(OSError):
    """An ErrorResponse, or bytes that are none of the protocol's."""


class Connection:
    def __init__(self, port, database, user, password, timeout=30):
        self.user, self.password = user, password
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        try:
            options = b"user\0%s\0database\0%s\0\0" % (user.encode(), database.encode())
            self.socket.sendall(struct.pack("!II", 8 + len(options), 196608) + options)
            self.authenticate()
            self.until_ready()
        except BaseException:
            self.socket.close()
            raise

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def exactly(self, count):
        received = bytearray()
        while len(received) < count:
            piece = self.socket.recv(count - len(received))
            if not piece:
                raise ServerError("the connection was closed")
            received += piece
        return bytes(received)

    def message(self):
        """The next message but notices and parameters."""
        while True:
            kind, length = struct.unpack("!cI", self.exactly(5))
            body = self.exactly(length - 4)
            if kind == b"E":
                fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0") if field}
                raise ServerError(f"{fields.get(b'C')} {fields.get(b'M')}")
            if kind not in b"NS":
                return kind, body

    def send(self, kind, body):
        self.socket.sendall(kind + struct.pack("!I", 4 + len(body)) + body)

    def until_ready(self):
        while self.message()[0] != b"Z":
            pass

    def authenticate(self):
        scram = None
        while True:
            kind, body = self.message()
            if kind != b"R":
                raise ServerError(f"expected an authentication message, got {kind!r}")
            request, data = struct.unpack("!I", body[:4])[0], body[4:]
            if request == 0:
                return
            if request == 10:
                scram = Scram(self.password)
                first = scram.first()
                self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)
            elif request == 11:
                self.send(b"p", scram.final(data))
            elif request == 12:
                scram.verify(data)
            else:
                raise ServerError(f"authentication method {request} is not one this client has")

    def run(self, sql):
        self.send(b"Q", sql.encode() + b"\0")
        self.until_ready()

    def value(self, sql):
        """The only column of the only row of a query's answer."""
        self.send(b"Q", sql.encode() + b"\0")
        value = None
        while (message := self.message())[0] != b"Z":
            if message[0] == b"D":
                value = message[1][6:].decode()
        return value

    def stream(self, sql, buffer=bytearray(256 * 1024)):
        """Runs a query and counts the bytes of its answer. The end is told by the last six
        bytes, a ReadyForQuery: the rows asked for here hold no zero bytes to imitate one."""
        self.send(b"Q", sql.encode() + b"\0")
        total, tail = 0, b""
        while tail != b"Z\0\0\0\5I":
            count = self.socket.recv_into(buffer)
            if count == 0:
                raise ServerError("the connection was closed")
            if total == 0 and buffer[:1] == b"E":
                raise ServerError(bytes(buffer[5:count]).replace(b"\0", b" ").decode(errors="replace"))
            total += count
            tail = (tail + bytes(buffer[max(0, count - 6):count]))[-6:]
        return total


class Scram:
    """SCRAM-SHA-256 (RFC 5802, 7677) without channel binding."""

    def __init__(self, password):
        self.password = password.encode()
        self.bare = b"n=,r=" + base64.b64encode(os.urandom(18))

    def first(self):
        return b"n,," + self.bare

    def final(self, server_first):
        attributes = dict(part.split(b"=", 1) for part in server_first.split(b","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", self.password, base64.b64decode(attributes[b"s"]), int(attributes[b"i"]))
        unproven = b"c=biws,r=" + attributes[b"r"]
        signed = b",".join((self.bare, server_first, unproven))
        client_key = digest(salted, b"Client Key")
        signature = digest(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(left ^ right for left, right in zip(client_key, signature))
        self.expected = base64.b64encode(digest(digest(salted, b"Server Key"), signed))
        return unproven + b",p=" + base64.b64encode(proof)

    def verify(self, server_final):
        if server_final.rstrip(b"\0") != b"v=" + self.expected:
            raise ServerError("the server does not know the password's verifier")


def digest(key, message):
    return hmac.digest(key, message, "sha256")
