#!/usr/bin/env python3
"""HTTP through real processes: what a gateway's death, a slow client or a crowd does.

What bad input gets is in tests/unit/gateway*_test.cc, against the same server object.
"""

import json
import os
import re
import resource
import socket

from harness import (TOP, Cluster, admin_address, check, check_equal, main, metric, random_bytes,
                     run, wait_until)
from rights_test import fixture, usual


def png(size, seed):
    return b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR' + random_bytes(size - 16, seed)


def connect(cluster):
    host, port = cluster.gateway.split(':')
    return socket.create_connection((host, int(port)), timeout=30)


def read_to_end(client):
    """What still comes, and whether it ended by a reset."""
    received = b''
    try:
        while piece := client.recv(1 << 16):
            received += piece
    except ConnectionResetError:
        return received, True
    return received, False


def files(cluster):
    return cluster.status()['files']['live']


def test_curl_round_trip():
    """Raw and chunked by curl; whole, ranges, HEAD, conditions; delete and undelete."""
    with Cluster(disks=1) as cluster:
        cluster.up()
        url = f'http://{cluster.gateway}'
        for seed, how in enumerate((['--data-binary'], ['-T'])):
            body = png(50_000, seed)
            chunked = ['-X', 'POST', '-H', 'Transfer-Encoding: chunked'] if how == ['-T'] else []
            source = '@-' if how == ['--data-binary'] else '-'
            stored = json.loads(run('curl', '-sS', *chunked, *how, source, f'{url}/v1/files',
                                    input=body, text=False).stdout)
            check_equal(stored['content_type'], 'image/png', 'the sniffed type')
            path = '/' + stored['id']
            check_equal(cluster.download(stored['id']), body, 'the bytes')
            status, headers, part = cluster.request('GET', path, headers={'Range': 'bytes=-100'})
            check_equal((status, part), (206, body[-100:]), 'a range')
            check_equal(headers['Content-Range'], 'bytes 49900-49999/50000', 'Content-Range')
            check_equal(cluster.request('HEAD', path)[1]['Content-Length'], '50000', 'HEAD')
            again = cluster.request('GET', path, headers={'If-None-Match': headers['ETag']})
            check_equal((again[0], again[2]), (304, b''), 'a revalidation')
            token = {'Hayloft-Delete-Token': stored['delete_token']}
            check_equal(cluster.request('DELETE', '/v1/files' + path)[0], 401, 'without a token')
            check_equal(cluster.request('DELETE', '/v1/files' + path, headers=token)[0], 204, 'rm')
            check_equal(cluster.request('GET', path)[0], 410, 'a deleted file')
            undelete = f'/v1/files{path}/undelete'
            check_equal(cluster.request('POST', undelete, headers=token)[0], 200, 'undelete')
            check_equal(cluster.download(stored['id']), body, 'the bytes after an undelete')


def test_curl_lines_of_the_documentation():
    """Each line of docs/http.md, "With curl", does what it says at a gateway that wants keys."""
    with open(os.path.join(TOP, 'docs', 'http.md'), encoding='utf-8') as file:
        block = re.search(r'## With curl\n```\n(.*?)```', file.read(), re.S)[1]
    lines = block.splitlines()
    check_equal(lines[0], 'G=http://127.0.0.1:8080', 'where the gateway is')
    body = png(50_000, 1)
    with fixture(usual, 'gateway.pages=all') as (cluster, keys):
        told = cluster.request('POST', '/v1/files', body, keys.bearer)[2]
        stored = json.loads(told)
        gateway = f'http://{cluster.gateway}'
        names = dict(os.environ, G=gateway, ID=stored['id'], TOKEN=stored['delete_token'],
                     KEY=keys.upload, URL=gateway + keys.url('POST', '/v1/files'))
        image = os.path.join(keys.dir, 'cat.png')
        for line in lines[1:]:
            with open(image, 'wb') as file:
                file.write(body[:1000] if '-C -' in line else body)
            # Lines that have no right of their own are given one.
            right = '' if '$KEY' in line or '$URL' in line else '-H "Authorization: Bearer $KEY"'
            script = f'set -o pipefail; curl() {{ command curl -f {right} "$@"; }}; {line}'
            done = run('bash', '-c', script, wanted=None, text=False, cwd=keys.dir, env=names)
            check_equal(done.returncode, 0, f'{line}: {done.stdout[:300]} {done.stderr[:300]}')
            told = re.search(rb'"name_token":"([^"]+)"', done.stdout)
            if told and 'NAME_TOKEN' not in names:
                names['NAME_TOKEN'] = told[1].decode()
            with open(image, 'rb') as file:
                check(file.read() == body, f'{line}: the file')


def test_gateway_killed_mid_transfer():
    """F13: a reader sees that its body is short; an upload leaves nothing behind."""
    with Cluster(disks=1) as cluster:
        cluster.up()
        body = png(30 << 20, 1)
        stored = cluster.upload(body)
        reader = connect(cluster)
        reader.sendall(f'GET /{stored["id"]} HTTP/1.1\r\nHost: h\r\n\r\n'.encode())
        received = reader.recv(4096)
        check(received.startswith(b'HTTP/1.1 200 OK\r\n'), 'the answer has begun')
        length = int(re.search(rb'Content-Length: (\d+)', received)[1])
        check_equal(length, len(body), 'Content-Length')
        writer = connect(cluster)
        writer.sendall(b'POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n'
                       + b'x' * 99_999)
        before = wait_until(lambda: files(cluster), 'the first file is counted')
        cluster.kill(cluster.process('gateway-1'))
        rest, _ = read_to_end(reader)
        check(len(received) + len(rest) < length, 'the body is shorter than was said')
        check_equal(read_to_end(writer)[0], b'', 'answer to an upload cut short')
        cluster.up()
        check_equal(files(cluster), before, 'files after the cut upload')
        check_equal(cluster.download(stored['id']), body, 'the bytes from the next gateway')


def test_two_thousand_connections():
    """All are served, and what they cost the gateway is bounded."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    with Cluster(disks=1) as cluster:
        cluster.up()
        body = png(16 << 10, 1)
        path = '/' + cluster.upload(body)['id']
        pid = cluster.process('gateway-1')['pid']

        def resident_kib():
            with open(f'/proc/{pid}/status', encoding='utf-8') as file:
                return int(re.search(r'VmRSS:\s+(\d+)', file.read())[1])

        before = resident_kib()
        clients = [connect(cluster) for _ in range(2000)]
        request = f'GET {path} HTTP/1.1\r\nHost: h\r\n\r\n'.encode()
        for _ in range(2):
            for client in clients:
                client.sendall(request)
            for client in clients:
                received = b''
                while len(received) < len(body) or not received.endswith(body[-16:]):
                    piece = client.recv(1 << 16)
                    check(piece, 'the connection is kept')
                    received += piece
                check(received.endswith(b'\r\n\r\n' + body), 'the bytes')
        grown = resident_kib() - before
        print(f'2,000 connections: {grown} KiB more, {grown / 2000:.1f} KiB each')
        check(grown < 128 << 10, f'memory grew by {grown} KiB')
        for client in clients:
            client.close()


def test_metrics_count_what_happened():
    """The counters of the admin port agree with what was done."""
    with Cluster(disks=1) as cluster:
        cluster.up()
        admin = admin_address(cluster.process('gateway-1'))
        body = png(1000, 1)
        stored = cluster.upload(body)
        for _ in range(3):
            cluster.download(stored['id'])
        text = cluster.request('GET', '/metrics', address=admin)[2].decode()
        check_equal(metric(text, 'hayloft_gateway_uploads_total'), 1, 'uploads')
        check_equal(metric(text, 'hayloft_gateway_reads_total'), 3, 'reads')


if __name__ == '__main__':
    main([test_curl_round_trip, test_curl_lines_of_the_documentation,
          test_gateway_killed_mid_transfer, test_two_thousand_connections,
          test_metrics_count_what_happened])
