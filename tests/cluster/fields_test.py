#!/usr/bin/env python3
"""Surrogate-Key, Cache-Tag and X-Hayloft-* of an upload: kept with the file, sent back with it."""

import json
import os
import signal
import socket
import sys

from harness import Cluster, check, check_equal, main, random_bytes, run

FIELDS = {'surrogate-key': 'album-7 all', 'cache-tag': 'album-7,all', 'x-hayloft-album': 'summer 7'}
LINES = ('Surrogate-Key: album-7 all', 'Cache-Tag:album-7,all', 'X-HAYLOFT-Album:  summer 7 ')


def fields_of(headers):
    return {name.lower(): value for name, value in headers.items()
            if name.lower() in FIELDS or name.lower().startswith('x-hayloft-')}


def check_fields(cluster, file_id, body, wanted):
    """GET, HEAD and a range have them."""
    for method, headers in (('GET', {}), ('HEAD', {}), ('GET', {'Range': 'bytes=10-99'})):
        status, got, bytes_got = cluster.request(method, '/' + file_id, headers=headers)
        check_equal(status, 206 if headers else 200, method)
        check_equal(fields_of(got), wanted, f'fields of {method} {headers}')
        if method == 'GET':
            check(bytes_got == (body[10:100] if headers else body), 'the bytes')


def curl(cluster, *words):
    return json.loads(run('curl', '-sSf', *words, f'http://{cluster.gateway}/v1/files').stdout)


def check_each_replica(cluster, file_id, body):
    """While one dsp stands still it is the other that answers."""
    for dsp in cluster.processes('dsp'):
        cluster.kill(dsp, signal.SIGSTOP)
        try:
            check_fields(cluster, file_id, body, FIELDS)
        finally:
            cluster.kill(dsp, signal.SIGCONT)


def test_fields_live_as_long_as_the_file():
    """By raw body and by form; from each of two replicas; and after a restart of everything."""
    with Cluster(dataservers=2, disks=1, copies=2) as cluster:
        cluster.up()
        body = random_bytes(9_000, 1)
        path = os.path.join(cluster.dir, 'file')
        with open(path, 'wb') as file:
            file.write(body)
        words = [word for line in LINES for word in ('-H', line)]
        raw = curl(cluster, '--data-binary', f'@{path}', *words)
        parts = [f'a=@{path};headers="{LINES[0]}";headers="{LINES[1]}";headers="{LINES[2]}"',
                 f'b=@{path}']
        tagged, plain = curl(cluster, '-F', parts[0], '-F', parts[1])['files']
        check_each_replica(cluster, raw['id'], body)
        cluster.down()
        cluster.up()
        for each, wanted in ((raw, FIELDS), (tagged, FIELDS), (plain, {})):
            check_fields(cluster, each['id'], body, wanted)
            told = json.loads(cluster.request('GET', '/v1/files/' + each['id'])[2])
            check_equal(told['fields'], wanted, 'fields of the JSON')
        refuse_evil(cluster)


def refuse_evil(cluster):
    """S12: what could forge a line of an answer is refused, and nothing of it is stored."""
    host, port = cluster.gateway.split(':')
    for value in (b'a\rSet-Cookie: b', b'a\nSet-Cookie: b', b'a\0b', b'a\x7fb', b'a\tb',
                  b'\xc3\xbc'):
        for name in (b'X-Hayloft-A', b'Surrogate-Key', b'Cache-Tag'):
            with socket.create_connection((host, int(port)), timeout=30) as client:
                client.sendall(b'POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n' +
                               name + b': ' + value + b'\r\n\r\nx')
                answer = client.recv(1 << 16)
            check(answer.startswith(b'HTTP/1.1 400 '), f'{name} {value}: {answer[:100]}')
            check(b'Set-Cookie' not in answer, f'{name} {value}: {answer[:500]}')
    for line in ('X-Hayloft-Id: 1', 'X-Hayloft-: 1'):
        name, value = line.split(': ')
        check_equal(cluster.request('POST', '/v1/files', b'x', {name: value})[0], 400, line)


if __name__ == '__main__':
    sys.exit(main([test_fields_live_as_long_as_the_file]))
