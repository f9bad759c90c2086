#!/usr/bin/env python3
"""Every way in which curl uploads, against a running gateway."""

import base64
import hashlib
import json
import os
import signal
import socket
import sys

from harness import (PATIENCE_S, Cluster, admin_address, check, check_equal, main, metric,
                     random_bytes, run, wait_until)

PNG = b'\x89PNG\r\n\x1a\n'


def image(size, seed):
    return PNG + random_bytes(size - len(PNG), seed)


class Uploads:
    """A cluster and a folder with images."""

    def __init__(self):
        self.cluster = Cluster(dataservers=1, disks=1, gateways=2)

    def __enter__(self):
        self.cluster.up()
        self.url = f'http://{self.cluster.gateway}/v1/files'
        return self

    def __exit__(self, *error):
        self.cluster.__exit__(*error)

    def file(self, name, data):
        path = os.path.join(self.cluster.dir, name)
        with open(path, 'wb') as file:
            file.write(data)
        return path

    def curl(self, *words, wanted=201, stdin=None):
        done = run('curl', '-sS', '-w', '\n%{http_code}', *words, self.url, text=False,
                   input=stdin)
        body, _, status = done.stdout.rpartition(b'\n')
        check_equal(int(status), wanted, f'curl {words}: {body[:300]!r}')
        return json.loads(body)

    def appended(self):
        """How many files the only dsp has stored."""
        dsp, = self.cluster.processes('dsp')
        told = self.cluster.request('GET', '/metrics', address=dsp['http'])[2].decode()
        return metric(told, 'hayloft_dsp_appends_total')

    def check_stored(self, stored, data):
        check_equal(stored['size'], len(data), 'size')
        check(self.cluster.download(stored['id']) == data, 'the bytes come back')


def test_curl_uploads_in_all_its_ways():
    """--data-binary, -T with and without a length, -F with one file and with many: 201, and 200 for
    what is stored already."""
    with Uploads() as up:
        data = image(100_000, 1)
        path = up.file('a.png', data)
        up.check_stored(up.curl('--data-binary', f'@{path}'), data)
        up.check_stored(up.curl('-X', 'POST', '-T', path, wanted=200), data)
        up.check_stored(up.curl('-X', 'POST', '-T', '-', stdin=data, wanted=200), data)
        (one,) = up.curl('-F', f'file=@{path};type=image/png', wanted=200)['files']
        up.check_stored(one, data)
        check_equal(up.appended(), 1, 'files that are stored')
        other = image(100_001, 1)
        up.check_stored(up.curl('-X', 'POST', '-T', '-', stdin=other), other)
        many = [image(5_000 + 40_000 * i, i) for i in range(12)]
        words = []
        for number, each in enumerate(many):
            words += ['-F', f'f{number}=@{up.file(f"{number}.png", each)}']
        files = up.curl(*words, '-F', 'note=a field')['files']
        check_equal(len(files), len(many), 'files')
        for stored, each in zip(files, many):
            up.check_stored(stored, each)
        large = image(20 << 20, 3)  # curl waits for "100 Continue"
        up.check_stored(up.curl('--data-binary', f'@{up.file("l.png", large)}',
                                '-H', 'Expect: 100-continue'), large)


def test_curl_is_refused_in_words_that_help():
    """Too large, encoded, empty: a status and a sentence."""
    with Uploads() as up:
        large = up.file('large', bytes(33 << 20))
        check_equal(up.curl('--data-binary', f'@{large}', wanted=413)['error'], 'too_large', 'code')
        small = up.file('small', image(1_000, 1))
        files = up.curl('-F', f'a=@{small}', '-F', f'b=@{large}', '-F', f'c=@{small}',
                        wanted=413)['files']
        check_equal([file.get('error') for file in files], [None, 'too_large', None], 'files')
        up.curl('--data-binary', f'@{small}', '-H', 'Content-Encoding: gzip', wanted=415)
        up.curl('-F', 'note=nothing', wanted=400)


def digest_headers(data):
    """Headers that are right for `data`: each way of saying it, each algorithm."""
    def digest(name):
        return base64.b64encode(hashlib.new(name, data).digest()).decode()
    return (f'Content-MD5: {digest("md5")}',
            f'Digest: SHA-256={digest("sha256")}, sha={digest("sha1")}',
            f'Content-Digest: sha-512=:{digest("sha512")}:',
            f'Repr-Digest: md5=:{digest("md5")}:;x="y", crc32c=:AAAAAA==:')


def test_what_arrives_is_held_against_its_digest():
    """Right ones are no hindrance; with a wrong one nothing is stored: raw, chunked, in a form."""
    with Uploads() as up:
        part = 'f=@{};headers="{}"'
        for number in range(4):
            data = image(300_000, number)
            header = digest_headers(data)[number]
            right, wrong = up.file('right', data), up.file('wrong', data[:-1] + b'x')
            up.check_stored(up.curl('--data-binary', f'@{right}', '-H', header), data)
            up.curl('-X', 'POST', '-T', '-', '-H', header, stdin=data, wanted=200)
            up.curl('-X', 'POST', '-T', '-', '-H', header, stdin=data[1:], wanted=400)
            answer = up.curl('--data-binary', f'@{wrong}', '-H', header, wanted=400)
            check_equal(answer['error'], 'digest_mismatch', header)
            quoted = header.replace('"', '\\"')
            files = up.curl('-F', part.format(right, quoted), '-F', part.format(wrong, quoted),
                            wanted=400)['files']
            check_equal([file.get('error') for file in files], [None, 'digest_mismatch'], header)
            up.curl('-F', f'f=@{right}', '-H', header, wanted=400)  # of which file would it be?
        check_equal(up.appended(), 4, 'files that are stored')


def test_a_gateway_that_dies_in_an_upload_leaves_nothing():
    """F13: killed in the middle of a form; what has no end is no file, and the other serves."""
    with Uploads() as up:
        cluster = up.cluster
        first, second = cluster.processes('gateway')
        before, admin = up.appended(), admin_address(first)
        address, port = first['address'].rsplit(':', 1)
        with socket.create_connection((address, int(port)), timeout=PATIENCE_S) as client:
            client.sendall(b'POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n'
                           b'Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n'
                           b'Content-Disposition: form-data; name=f; filename=f\r\n\r\n' +
                           image(400_000, 1))
            wait_until(lambda: metric(cluster.request('GET', '/metrics', address=admin)[2]
                                      .decode(), 'hayloft_gateway_http_received_bytes_total')
                       > 400_000, 'the gateway has the first half')
            cluster.kill(first, signal.SIGKILL)
            try:
                check_equal(client.recv(1), b'', 'the client sees the end, and no answer')
            except ConnectionResetError:
                pass
        status, _, body = cluster.request('POST', '/v1/files', image(1_000, 2),
                                          address=second['address'])
        check_equal(status, 201, f'the other gateway: {body[:200]!r}')
        check_equal(up.appended(), before + 1, 'files that were stored')


if __name__ == '__main__':
    sys.exit(main([test_curl_uploads_in_all_its_ways, test_curl_is_refused_in_words_that_help,
                   test_what_arrives_is_held_against_its_digest,
                   test_a_gateway_that_dies_in_an_upload_leaves_nothing]))
