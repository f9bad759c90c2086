"""A cluster of two copies behind two gateways, a few files in it, and what the answers for them
must be to the byte: for tests of reads by raw sockets."""

import json
import os
import re
import socket
import time
from email.utils import formatdate, parsedate_to_datetime

from harness import Cluster, Failure, check, check_equal, metric, random_bytes, wait_until
from load import measured
from raw import ask, connect, read_to_end, request_bytes

MIB = 1 << 20
UNKNOWN = '/' + 'A' * 18
IMAGE = b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR' + random_bytes(99_984, 1)
TEXT = b'all work and no play makes jack a dull boy\n' * 3000
LONG = IMAGE + random_bytes(16 * MIB, 2)
CONNECTIONS_MAX = 60  # of one gateway
SPANS = '0-4999999,6000000-9999999,12000000-'
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b'<!doctype html><script>alert(document.domain)</script>'
FOR_EVER = 'public, max-age=31536000, immutable'
SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
ALWAYS = {'Date', 'X-Request-Id', 'X-Content-Type-Options', 'Connection'}
CORS = {'Access-Control-Allow-Origin', 'Access-Control-Expose-Headers',
        'Cross-Origin-Resource-Policy'}
STORED = {'ETag', 'Cache-Control', 'X-Cache', 'Server-Timing'}
FILE = ALWAYS | CORS | STORED | {'Content-Type', 'Content-Length', 'Last-Modified',
                                 'Accept-Ranges'}
ERROR = ALWAYS | {'Content-Type', 'Content-Length', 'Cache-Control'}


class Stored:
    """A file that was uploaded."""

    def __init__(self, answer, body):
        self.body = body
        self.json = json.loads(answer.body)
        self.id = self.json['id']
        self.path = '/' + self.id
        self.etag = f'"{self.id}"'


class Origin:
    """The cluster; what is asked of its gateways; a few files."""

    def __init__(self):
        self.cluster = Cluster(dataservers=2, disks=1, copies=2, gateways=2,
                               sets=['gateway.read_timeout_ms=1500',
                                     'gateway.server_timing=true',
                                     'gateway.access_log_format=json',
                                     f'gateway.connections_per_address_max={CONNECTIONS_MAX}'])
        self.access_log = os.path.join(self.cluster.dir, 'access.log')
        self.cluster.sets += ['--set', f'gateway.access_log={self.access_log}']
        self.gateways = [f'127.0.0.1:{self.cluster.port + i}' for i in range(2)]

    def start(self):
        self.cluster.up()
        self.image = self.upload(IMAGE, 'image/png')
        self.text = self.upload(TEXT, 'text/plain')  # is stored as zstd
        self.long = self.upload(LONG, 'image/png')
        modified = self.get(self.image)['Last-Modified']
        seconds = parsedate_to_datetime(modified).timestamp()
        self.modified = modified
        self.before = formatdate(seconds - 1, usegmt=True)
        self.after = formatdate(seconds + 1, usegmt=True)

    def ask(self, method, target, *lines, body=b'', gateway=0):
        return ask(self.gateways[gateway], method, target, *lines, body=body)

    def upload(self, body, content_type, *lines):
        answer = self.ask('POST', '/v1/files', f'Content-Type: {content_type}', *lines, body=body)
        check(answer.status_line in ('HTTP/1.1 201 Created', 'HTTP/1.1 200 OK'),  # it is there
              f'an upload: {answer.status_line}')
        return Stored(answer, body)

    def get(self, stored, *lines, query='', gateway=0):
        """GET of a file; HEAD must say the same."""
        target = stored.path + query
        answer = self.ask('GET', target, *lines, gateway=gateway)
        if not any(line.startswith('Range:') for line in lines):
            head = self.ask('HEAD', target, *lines, gateway=gateway)
            check_equal((head.status_line, head.lasting()), (answer.status_line, answer.lasting()),
                        f'HEAD of {target} {lines}')
        return answer

    def check_whole(self, stored, answer):
        check_equal(answer.status_line, 'HTTP/1.1 200 OK', 'the status of a whole file')
        check_equal(answer.names(), FILE, 'the fields of a whole file')
        check_equal(answer['ETag'], stored.etag, 'ETag')
        check(answer.body == stored.body, f'the bytes, {len(answer.body)}')

    def check_part(self, stored, answer, first, last):
        check_equal(answer.status_line, 'HTTP/1.1 206 Partial Content', 'the status of a part')
        check_equal(answer.names(), FILE | {'Content-Range'}, 'the fields of a part')
        check_equal(answer['Content-Range'], f'bytes {first}-{last}/{len(stored.body)}',
                    'Content-Range')
        check_equal(answer['ETag'], stored.etag, 'ETag of a part')
        check(answer.body == stored.body[first:last + 1], 'the bytes of a part')

    def check_parts(self, stored, answer, wanted):
        check_equal(answer.status_line, 'HTTP/1.1 206 Partial Content', 'several ranges')
        check_equal(answer.names(), FILE, 'their fields: no Content-Range')
        boundary = re.fullmatch(r'multipart/byteranges; boundary=([\w-]+)',
                                answer['Content-Type'])[1]
        body = b''.join(f'\r\n--{boundary}\r\nContent-Type: image/png\r\nContent-Range: bytes '
                        f'{first}-{last}/{len(stored.body)}\r\n\r\n'.encode()
                        + stored.body[first:last + 1] for first, last in wanted)
        check(answer.body == body[2:] + f'\r\n--{boundary}--\r\n'.encode(), 'the parts')

    def check_not_modified(self, stored, answer):
        """RFC 9110 section 15.4.5: what the 200 would have of these; no other field of the file."""
        check_equal(answer.status_line, 'HTTP/1.1 304 Not Modified', 'a revalidation')
        check_equal(answer.names(), ALWAYS | CORS | STORED, 'the fields of a 304')
        check_equal((answer['ETag'], answer['Cache-Control']), (stored.etag, FOR_EVER), 'a 304')

    def check_error(self, answer, status_line, code, more=frozenset()):
        check_equal(answer.status_line, 'HTTP/1.1 ' + status_line, code)
        check_equal(answer.names() - CORS, ERROR | more, f'the fields of {status_line}')
        check_equal((answer['Cache-Control'], answer['Content-Type']),
                    ('no-store', 'application/json'), status_line)
        if answer.body:  # not of HEAD
            check_equal(json.loads(answer.body)['error'], code, f'the code of {status_line}')

    # --- deaths --------------------------------------------------------------------------------
    def begin(self, stored, *lines):
        """A reader that has taken a part of an answer, and takes no more until it is told."""
        client = connect(self.gateways[0], receive_buffer=4096)
        client.sendall(request_bytes('GET', stored.path, lines))
        received = b''
        while len(received) < MIB:
            piece = client.recv(1 << 16)
            check(piece, f'the answer goes on after {len(received)} bytes')
            received += piece
        return client, received

    @staticmethod
    def finish(client, received):
        """All of what it got in the end."""
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
        begun = time.monotonic()
        with client:
            received += read_to_end(client)[0]
        check(time.monotonic() - begun < 10, 'within the time that a read may take')
        return received

    def check_short(self, client, received):
        """An answer that was broken off does not look whole."""
        said = int(re.search(rb'Content-Length: (\d+)', received)[1])
        got = len(self.finish(client, received)) - received.index(b'\r\n\r\n') - 4
        check(got < said, f'{got} of {said} bytes: a short body that looks whole')

    def reads(self):
        return {dsp['name']: measured(self.cluster, dsp, 'reads_total')
                for dsp in self.cluster.processes('dsp')}

    def lasting(self):
        """What both gateways say of the files, in each form. A replica that has just begun may not
        yet know whether others have seen a delete: caches are then told to ask again."""
        said = []
        for stored in (self.image, self.text):
            for method, *lines in (('GET',), ('HEAD',), ('GET', 'If-None-Match: *'),
                                   ('GET', 'Range: bytes=5-9'), ('GET', 'Accept-Encoding: zstd')):
                for gateway in (0, 1):
                    answer = self.ask(method, stored.path, *lines, gateway=gateway)
                    fields = answer.lasting()
                    check(fields.pop('Cache-Control') in (FOR_EVER, 'no-cache'), answer.fields)
                    said.append((answer.status_line, fields))
        return said

    def restore(self):
        """Starts what is dead, and waits until each dsp answers for what it holds."""
        self.cluster.up()

        def answers(dsp):
            text = self.cluster.request('GET', '/metrics', address=dsp['http'])[2].decode()
            if metric(text, 'hayloft_dsp_starting') > 0:
                return False
            closed, idle, empty = (metric(text, f'hayloft_dsp_blocks_{kind}')
                                   for kind in ('closed', 'not_serving', 'open'))
            return closed == 0 and idle <= empty  # an empty block is asked about at its first use
        for dsp in self.cluster.processes('dsp'):
            wait_until(lambda dsp=dsp: answers(dsp), f'{dsp["name"]} answers')

    def begin_from(self, dsp, *lines):
        """The same, when `dsp` has sent some of it."""
        for _ in range(30):
            counted = self.reads()[dsp['name']]
            client, received = self.begin(self.long, *lines)
            if self.reads()[dsp['name']] > counted:
                return client, received
            client.close()
        raise Failure(f'{dsp["name"]} is never read from')
