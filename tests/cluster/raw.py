"""A client that sends a request as it is given and takes the answer apart to the byte: what is read
here and would be mended or hidden by a client's library is a failure."""

import re
import socket

from harness import check, check_equal

BODILESS = (204, 304)


def connect(address, receive_buffer=None):
    """A connection; with a small buffer the server soon notices that nothing is read."""
    host, port = address.rsplit(':', 1)
    client = socket.socket()
    client.settimeout(30)
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect((host, int(port)))
    return client


def read_to_end(client):
    """(what still comes, whether it ended by a reset)."""
    received = []
    try:
        while piece := client.recv(1 << 16):
            received.append(piece)
    except ConnectionResetError:
        return b''.join(received), True
    return b''.join(received), False


def request_bytes(method, target, lines=(), body=b''):
    """Of a request that is its connection's last, unless `lines` have a Connection."""
    names = {line.split(':')[0].lower() for line in lines}
    own = [line for line in ('Host: h', 'Connection: close')
           if line.split(':')[0].lower() not in names]
    if body and not names & {'content-length', 'transfer-encoding'}:
        own.append(f'Content-Length: {len(body)}')
    head = '\r\n'.join([f'{method} {target} HTTP/1.1', *own, *lines])
    return head.encode('latin-1') + b'\r\n\r\n' + body


class Answer:
    """One whole answer, and nothing behind it."""

    def __init__(self, received, is_head=False):
        head, end, self.body = received.partition(b'\r\n\r\n')
        check(end, lambda: f'a head: {received[:200]!r}')
        self.status_line, *lines = head.decode('ascii').split('\r\n')
        match = re.fullmatch(r'HTTP/1\.1 ([1-5]\d\d) [A-Za-z -]+', self.status_line)
        check(match, lambda: f'a status line: {self.status_line!r}')
        self.status = int(match[1])
        self.fields = {}
        for line in lines:
            check(re.fullmatch(r'[A-Za-z-]+: [!-~]([ -~]*[!-~])?', line), f'a field: {line!r}')
            name, value = line.split(': ', 1)
            check(name not in self.fields, lambda: f'{name} once: {lines}')
            self.fields[name] = value
        bodiless = is_head or self.status in BODILESS
        said = self.fields.get('Content-Length')
        check('Transfer-Encoding' not in self.fields, 'no answer is chunked')
        check((said is None) == (self.status in BODILESS), lambda: f'Content-Length: {lines}')
        check_equal(len(self.body), 0 if bodiless else int(said), f'bytes of {self.status_line}')

    def __getitem__(self, name):
        return self.fields.get(name)

    def names(self):
        return set(self.fields)

    def lasting(self):
        """What is the same whenever it is asked for."""
        return {name: value for name, value in self.fields.items()
                if name not in ('Date', 'X-Request-Id', 'Server-Timing')}


def ask(address, method, target, *lines, body=b''):
    """The answer to one request, on a connection of its own that must end in order."""
    with connect(address) as client:
        client.sendall(request_bytes(method, target, lines, body))
        received, was_reset = read_to_end(client)
    check(not was_reset, f'{method} {target}: the connection ends in order')
    return Answer(received, method == 'HEAD')
