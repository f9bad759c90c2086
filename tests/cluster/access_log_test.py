#!/usr/bin/env python3
"""The gateway's access log as its users see it: a line a request, also over SIGHUP (S18, S23)."""

import json
import os
import signal
import socket

from harness import Cluster, check, check_equal, main, random_bytes, wait_until


def lines(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding='ascii') as file:
        return [json.loads(line) for line in file]


def test_access_log():
    """Good, malformed and broken requests each get one line; SIGHUP begins a new file."""
    with Cluster(disks=1, sets=['gateway.access_log_format=json',
                                'gateway.server_timing=true']) as cluster:
        log = os.path.join(cluster.dir, 'access.log')
        cluster.sets += ['--set', f'gateway.access_log={log}']
        cluster.up()
        body = random_bytes(100_000, 1)
        stored = cluster.upload(body)
        path = f'/{stored["id"]}?signature=canary&download=a'
        status, headers, got = cluster.request('GET', path, headers={
            'X-Request-Id': 'mine-1', 'User-Agent': 'a"b', 'Authorization': 'Bearer canary',
            'Referer': 'http://x/?token=canary'})
        check_equal((status, got == body), (200, True), 'the file')
        check(headers['Server-Timing'].startswith('store;dur='), headers)
        read = wait_until(lambda: [line for line in lines(log)
                                   if line.get('request_id') == 'mine-1'], 'its line')[0]
        check_equal((read['method'], read['status'], read['client'], read['user_agent']),
                    ('GET', 200, '127.0.0.1', 'a\\x22b'), 'the line')
        check_equal(read['target'], f'/{stored["id"]}?signature=*&download=a', 'the target')
        check_equal(read['dsp'], cluster.process('dsp-1-1')['address'], 'the dsp')
        check(read['sent_bytes'] > len(body) and read['us'] > 0, read)
        host, port = cluster.gateway.split(':')
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(b'Authorization: Bearer canary\r\n\r\n')
            check(client.recv(4096).startswith(b'HTTP/1.1 400 '), 'a malformed request')
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(b'POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1')
        wait_until(lambda: {400, 499} <= {line['status'] for line in lines(log)}, 'both lines')
        check([line['end'] for line in lines(log) if line['status'] == 499] == ['broken'], 'broken')
        os.rename(log, log + '.1')
        cluster.kill(cluster.process('gateway-1'), signal.SIGHUP)
        wait_until(lambda: os.path.exists(log), 'a new file')
        cluster.download(stored['id'])
        wait_until(lambda: lines(log), 'a line in it')
        for name in (log, log + '.1', os.path.join(cluster.dir, 'log', 'gateway-1.log')):
            with open(name, encoding='utf-8') as file:
                check('canary' not in file.read(), f'a secret in {name}')


if __name__ == '__main__':
    main([test_access_log])
