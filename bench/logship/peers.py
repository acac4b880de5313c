#!/usr/bin/env python3
"""Peers that take what logship's sinks send, count lines, and do nothing else: peers.py KIND PORT_FILE COUNT_FILE

KIND is es, loki, otlp, http, gelf or fluent. The port is written to PORT_FILE, the number of records to COUNT_FILE after
each batch. What a peer costs is not measured; it answers as little as its protocol allows.
"""

import gzip
import http.server
import os
import re
import socketserver
import sys
from pathlib import Path

KIND, PORT_FILE, COUNT_FILE = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
CHUNK = re.compile(rb"\xa5chunk\xb8(.{24})\xa4size(.{1,5})", re.DOTALL)
count = 0


def add(records: int) -> None:
    global count
    count += records
    fresh = COUNT_FILE.with_suffix(".new")
    fresh.write_text(str(count))
    os.rename(fresh, COUNT_FILE)


def unsnappy(body: bytes) -> bytes:
    """Snappy's block format, literals and copies (google/snappy, format_description.txt)."""
    at = shift = size = 0
    while True:
        byte = body[at]
        size |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            break
    out = bytearray()
    while at < len(body):
        tag = body[at]
        at += 1
        if tag & 3 == 0:
            length = tag >> 2
            if length >= 60:
                width = length - 59
                length = int.from_bytes(body[at : at + width], "little")
                at += width
            out += body[at : at + length + 1]
            at += length + 1
            continue
        width = (1, 2, 4)[(tag & 3) - 1]
        if width == 1:
            length, offset = 4 + (tag >> 2 & 7), (tag >> 5) << 8 | body[at]
        else:
            length, offset = (tag >> 2) + 1, int.from_bytes(body[at : at + width], "little")
        at += width
        for _ in range(length):
            out.append(out[-offset])
    return bytes(out)


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(data: bytes, wanted: int) -> list[bytes]:
    """The messages of a field number; others are passed over."""
    found, at = [], 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 2:
            length, at = varint(data, at)
            if key >> 3 == wanted:
                found.append(data[at : at + length])
            at += length
        elif key & 7 == 0:
            _, at = varint(data, at)
        else:
            at += 8 if key & 7 == 1 else 4
    return found


class Batches(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        answer, status = b"", 200
        if KIND == "es":
            records = body.count(b"\n") // 2
            answer = b'{"errors":false,"items":[' + b",".join([b'{"create":{"status":201}}'] * records) + b"]}"
        elif KIND == "loki":
            records = sum(len(fields(stream, 2)) for stream in fields(unsnappy(body), 1))
            status = 204
        elif KIND == "otlp":
            scopes = [scope for resource in fields(body, 1) for scope in fields(resource, 2)]
            records = sum(len(fields(scope, 2)) for scope in scopes)
        else:
            records = body.count(b"\n")
        add(records)
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_) -> None:
        pass


class Stream(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        rest = b""
        while part := self.request.recv(1 << 20):
            if KIND == "gelf":
                add(part.count(b"\0"))
                continue
            rest += part
            while found := CHUNK.search(rest):
                size = found.group(2)
                add(size[0] if size[0] < 128 else int.from_bytes(size[1 : 1 + (1, 2, 4)[size[0] - 0xCC]], "big"))
                self.request.sendall(b"\x81\xa3ack\xb8" + found.group(1))
                rest = b""
            # A message is as long as a batch; its end is what is looked for.
            rest = rest[-64:]


add(0)
handler = Stream if KIND in ("gelf", "fluent") else Batches
server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
server.daemon_threads = True
fresh = PORT_FILE.with_suffix(".new")
fresh.write_text(str(server.server_address[1]))
os.rename(fresh, PORT_FILE)
server.serve_forever()
