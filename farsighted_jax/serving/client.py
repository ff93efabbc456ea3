"""A client of `farsighted serve` in one file: numpy and the standard library, Python 3.8 or newer.

Copy it to the robot's computer.

    with PolicyClient("127.0.0.1", 8000) as policy:
        reply = policy.infer({"rgb": {"primary": image}, "state": state, "instruction": "pick up the cup"})
        actions = reply["actions"]

It speaks WebSocket (RFC 6455) without TLS or compression, and of msgpack what the server uses.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct

import numpy as np

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class PolicyServerError(RuntimeError):
    """What the server says is wrong, "TYPE: what"; the connection is closed then.

    Attributes:
      kind: the type, e.g. "RequestError"; after "Overloaded" and "DeadlineExceeded" one may try again.
    """

    def __init__(self, text: str):
        """Takes the server's text."""
        super().__init__(text)
        self.kind = text.partition(":")[0]


class PolicyClient:
    """One connection, one question at a time.

    Attributes:
      metadata: what the server tells first.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8000, *, token: str = "", timeout_s: float = 60):
        """Connects.

        Args:
          host: name or address of the server.
          port: of the server.
          token: of the server, if it has one.
          timeout_s: seconds to connect in, and for every answer.

        Raises:
          PolicyServerError: it does not admit this client, or is no such server.
          OSError: nothing listens there, or no answer in time.
        """
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._file = self._socket.makefile("rb")
            self._shake_hands(f"{host}:{port}", token)
            self.metadata = self._answer()
        except BaseException:
            self._socket.close()
            raise

    def infer(self, observation: dict) -> dict:
        """The server's reply to an observation: "actions" float32[J, M], timings, and outputs asked for.

        Raises:
          PolicyServerError: the observation is wrong, or the server cannot answer.
          OSError: the connection broke, or no answer in time.
        """
        self._send(_BINARY, packed(observation))
        return self._answer()

    def reset(self) -> None:
        """Tells the server that an episode begins."""
        self._send(_BINARY, packed({"endpoint": "reset"}))
        opcode, text = self._message()
        if opcode != _TEXT or text != b"reset successful":
            raise PolicyServerError(text.decode("utf-8", "replace"))

    def close(self) -> None:
        """Takes leave."""
        try:
            self._send(_CLOSE, struct.pack(">H", 1000))
        except OSError:
            pass
        self._file.close()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _answer(self):
        opcode, data = self._message()
        if opcode == _TEXT:
            raise PolicyServerError(data.decode("utf-8", "replace"))
        return unpacked(data)

    def _shake_hands(self, host, token):
        key = base64.b64encode(os.urandom(16))
        lines = [
            "GET / HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key.decode()}", "Sec-WebSocket-Version: 13",
            *([f"Authorization: Api-Key {token}"] if token else []),
        ]  # fmt: skip
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        status = self._file.readline(4096).decode("latin-1").strip()
        headers = {}
        for line in iter(lambda: self._file.readline(4096).strip(), b""):
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        expected = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        if " 101 " not in status + " " or headers.get(b"sec-websocket-accept") != expected:
            raise PolicyServerError(f"Refused: {status or 'the connection was closed'}")

    def _send(self, opcode, data):
        size, mask = len(data), os.urandom(4)
        if size < 126:
            header = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
        elif size < 2**16:
            header = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            header = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size)
        masked = np.frombuffer(data, np.uint8) ^ np.tile(np.frombuffer(mask, np.uint8), size // 4 + 1)[:size]
        self._socket.sendall(header + mask + masked.tobytes())

    def _message(self):
        """(opcode, bytes) of the next whole message."""
        kind, parts = None, []
        while True:
            first, second = self._read(2)
            final, opcode, size = first & 0x80, first & 0x0F, second & 0x7F
            if size >= 126:
                size = int.from_bytes(self._read(2 if size == 126 else 8), "big")
            data = self._read(size)
            if opcode == _PING:
                self._send(_PONG, data)
            elif opcode == _CLOSE:
                raise ConnectionError(
                    f"the server closed the connection: {data[2:].decode('utf-8', 'replace')}"
                )
            elif opcode != _PONG:
                kind = opcode or kind
                parts.append(data)
                if final:
                    return kind, b"".join(parts)

    def _read(self, size):
        data = self._file.read(size)
        if len(data) < size:
            raise ConnectionError("the server closed the connection")
        return data


def packed(value) -> bytes:
    """Maps, lists, texts, bytes, numbers and numpy's arrays as msgpack."""
    parts: list = []
    _pack(value, parts.append)
    return b"".join(parts)


def unpacked(data: bytes):
    """Inverse of `packed`; arrays can be written to."""
    value, end = _unpack(data, 0)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes after the message")
    return value


def _pack(value, add):
    if value is None or isinstance(value, bool):
        add({None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value])
    elif isinstance(value, int):
        add(struct.pack(">Bq", 0xD3, value) if value < 2**63 else struct.pack(">BQ", 0xCF, value))
    elif isinstance(value, float):
        add(struct.pack(">Bd", 0xCB, value))
    elif isinstance(value, str):
        data = value.encode()
        add(struct.pack(">BI", 0xDB, len(data)) + data)
    elif isinstance(value, bytes):
        add(struct.pack(">BI", 0xC6, len(value)) + value)
    elif isinstance(value, (list, tuple)):
        add(struct.pack(">BI", 0xDD, len(value)))
        for item in value:
            _pack(item, add)
    elif isinstance(value, dict):
        add(struct.pack(">BI", 0xDF, len(value)))
        for key, item in value.items():
            _pack(key, add)
            _pack(item, add)
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = np.asarray(value, value.dtype.newbyteorder("="))
        header = {b"__ndarray__": True, b"dtype": value.dtype.str, b"shape": list(value.shape)}
        _pack({**header, b"data": value.tobytes()}, add)
    elif isinstance(value, np.generic) and value.dtype.kind in "biuf":
        _pack(value.item(), add)
    else:
        raise TypeError(f"{type(value).__name__} has no place in a message")


# First byte -> (format of a number, or of a size), what follows it.
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_SIZED = {
    0xC4: (">B", bytes), 0xC5: (">H", bytes), 0xC6: (">I", bytes),
    0xD9: (">B", str), 0xDA: (">H", str), 0xDB: (">I", str),
    0xDC: (">H", list), 0xDD: (">I", list), 0xDE: (">H", dict), 0xDF: (">I", dict),
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def _unpack(data, place):
    """(value, place after it)."""
    first, place = data[place], place + 1
    if first < 0x80 or first >= 0xE0:
        return first - 256 * (first >= 0xE0), place
    if first in _CONSTANTS:
        return _CONSTANTS[first], place
    if first in _NUMBERS:
        (value,) = struct.unpack_from(_NUMBERS[first], data, place)
        return value, place + struct.calcsize(_NUMBERS[first])
    if first < 0xC0:
        kind = dict if first < 0x90 else list if first < 0xA0 else str
        size = first & (0x1F if kind is str else 0x0F)
    elif first in _SIZED:
        form, kind = _SIZED[first]
        (size,) = struct.unpack_from(form, data, place)
        place += struct.calcsize(form)
    else:
        raise ValueError(f"a msgpack type {first:#x} that no server sends")
    if kind in (bytes, str):
        part = data[place : place + size]
        return (part if kind is bytes else part.decode()), place + size
    items = []
    for _ in range(size * (2 if kind is dict else 1)):
        item, place = _unpack(data, place)
        items.append(item)
    # Python 3.8 has no `strict`.
    return (items if kind is list else _array(dict(zip(items[::2], items[1::2])))), place  # noqa: B905


def _array(fields):
    if b"__ndarray__" in fields:
        return np.frombuffer(fields[b"data"], fields[b"dtype"]).reshape(fields[b"shape"]).copy()
    return fields
