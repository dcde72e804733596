"""A proxy in front of an S3 server that behaves as networks and busy servers do: errors, resets, stalls, slowness."""

import asyncio
import contextlib
import email.utils
import random
import re
import socket
import struct
import threading

ERROR = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>%s</Code><Message>made up by the proxy</Message>'
    b"<RequestId>656c76696e6727732072657175657374</RequestId>"
    b"<HostId>Uuag1LuByRx9e6j5Onimru9pO4ZVKnJ2Qz7/C1NPcfTWAtRPfTaOFg==</HostId></Error>"
)
REASONS = {500: (b"Internal Server Error", b"InternalError"), 503: (b"Slow Down", b"SlowDown")}
CHUNK = 16_384
SHARE = {"errors": 0.1, "stall": 0.02}
STALL_S = 5


class Proxy:
    """Hand every request to a server, unless `mode` says otherwise; runs in a thread of its own.

    Attributes
    ----------
    mode : {"pass", "errors", "slow", "stall", "down"}
        errors: 10 % of the requests end in 500, in 503 or with the connection reset, before the server has seen them,
        after it has done them, or in the middle of its answer. slow: every answer waits 30 ms and then comes at
        32 kB/s. stall: 2 % of the answers wait 5 s before their first byte (the AWS SDK
        hangs up after 3, if nobody tells it otherwise). down: connections are reset at once.
    share : float or None
        Of requests that are harmed, instead of the mode's own.
    clock_off_s : float
        How far ahead the server's clock is to seem, by the dates of its answers.
    faults : int
        Requests that were harmed.
    """

    def __init__(self, host, port, seed=0):
        self.host, self.port = host, port
        self.mode, self.share = "pass", None
        self.clock_off_s = 0
        self.requests = self.faults = 0
        self.chance = random.Random(seed)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self):
        async def end():
            self.server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._call(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    async def _serve(self, client, answer):
        """Serve one connection of a client, request by request, with a connection of its own to the server."""
        upstream = None
        try:
            while self.mode != "down":
                head = await client.readuntil(b"\r\n\r\n")
                if upstream is None:
                    upstream = await asyncio.open_connection(self.host, self.port)
                await self._exchange(head, client, answer, upstream)
            _reset(answer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            _reset(answer)  # one of the two ends is gone: so is the other, for the client
        finally:
            for writer in filter(None, (answer, upstream and upstream[1])):
                writer.close()

    async def _exchange(self, head, client, answer, upstream):
        """Hand one request up and its answer down; raises ConnectionError where the connection is to end."""
        self.requests += 1
        harm = when = None
        if self.mode in SHARE and self.chance.random() < (self.share or SHARE[self.mode]):
            self.faults += 1
            harm = self.chance.choice([500, 503, "reset"]) if self.mode == "errors" else "stall"
            when = self.chance.choice(["before", "after", "amid"])
        there, up = upstream
        up.write(head)
        if harm not in (None, "stall") and when == "before":
            up.transport.abort()  # the server has the request's head only, and drops it
            await self._fail(harm, answer)
        body = asyncio.create_task(_copy_body(client, up, _length(head)))
        try:
            reply = await there.readuntil(b"\r\n\r\n")
            while reply.split(b" ", 2)[1] == b"100":
                answer.write(reply)
                reply = await there.readuntil(b"\r\n\r\n")
            await body
        finally:
            body.cancel()
        if harm == "stall":
            await asyncio.sleep(STALL_S)
        elif harm is not None and when == "after":
            await self._fail(harm, answer)
        slow = self.mode == "slow"
        if slow:
            self.faults += 1
            await asyncio.sleep(0.03)
        answer.write(_redated(reply, self.clock_off_s) if self.clock_off_s else reply)
        empty = head.startswith(b"HEAD ") or reply.split(b" ", 2)[1] in (b"204", b"304")
        length = 0 if empty else _length(reply)
        if harm in (500, 503, "reset") and when == "amid":
            await _copy(there, answer, (length or 0) // 2, slow)
            await self._fail("reset", answer)
        await _copy_body(there, answer, length, slow)

    async def _fail(self, harm, answer):
        if harm != "reset":
            reason, code = REASONS[harm]
            body = ERROR % code
            answer.write(
                b"HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (harm, reason, len(body))
            )
            answer.write(body)
            await answer.drain()
            await asyncio.sleep(0.05)
        raise ConnectionResetError


def _redated(head, seconds):
    """Return a message's head with another time of day in it."""

    def moved(found):
        told = email.utils.parsedate_to_datetime(found[1].decode()).timestamp()
        return b"Date: " + email.utils.formatdate(told + seconds, usegmt=True).encode()

    return re.sub(rb"(?i)\bdate: ([^\r]+)", moved, head)


def _reset(writer):
    """Close a connection so that the other side sees a reset, not an end."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _length(head):
    """Return the length of a message's body, None where it comes in chunks."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
        if name.lower() == b"transfer-encoding":
            return None
    return 0


async def _copy_body(reader, writer, length, slow=False):
    if length is None:
        await _copy_chunks(reader, writer, slow)
    else:
        await _copy(reader, writer, length, slow)


async def _copy(reader, writer, length, slow=False):
    while length:
        data = await reader.read(min(length, 1_600 if slow else CHUNK))
        if not data:
            raise ConnectionResetError
        length -= len(data)
        writer.write(data)
        await writer.drain()
        if slow:
            await asyncio.sleep(0.05)
    await writer.drain()


async def _copy_chunks(reader, writer, slow):
    while True:
        line = await reader.readuntil(b"\r\n")
        writer.write(line)
        size = int(line.split(b";")[0], 16)
        await _copy(reader, writer, size + 2, slow)
        if not size:
            return
