#!/usr/bin/env python3
"""A gateway that is told to stop: what is in progress ends, what is too slow is cut (SIGTERM)."""

import http.client
import re
import signal
import socket
import time

from harness import Cluster, alive, check, check_equal, main, random_bytes, wait_until


def admin_of(cluster):
    with open(f'/proc/{cluster.process("gateway-1")["pid"]}/cmdline', encoding='utf-8') as file:
        return re.search(r'--admin-listen=([^\0]+)', file.read())[1]


def connect(cluster):
    host, port = cluster.gateway.split(':')
    return socket.create_connection((host, int(port)), timeout=30)


def refused(cluster):
    try:
        connect(cluster).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # the listener was closed while this one stood in its queue
        return False
    return False


def read_to_end(client):
    received = b''
    while piece := client.recv(1 << 20):
        received += piece
    return received


def test_drain():
    """Not ready at once, still open for the delay; a download and an upload in progress finish."""
    with Cluster(disks=1, sets=['gateway.drain_delay_ms=1500']) as cluster:
        cluster.up()
        body = random_bytes(30 << 20, 1)
        path = '/' + cluster.upload(body)['id']
        admin, pid = admin_of(cluster), cluster.process('gateway-1')['pid']
        request = f'GET {path} HTTP/1.1\r\nHost: h\r\n\r\n'.encode()
        reader, writer, idle = connect(cluster), connect(cluster), connect(cluster)
        reader.sendall(request)
        begin = reader.recv(1000)
        writer.sendall(b'POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1234')
        kept = http.client.HTTPConnection(cluster.gateway, timeout=30)
        kept.request('GET', '/healthz')
        check_equal(kept.getresponse().read(), b'ok\n', 'a connection that is kept')
        begun = time.monotonic()
        cluster.kill(cluster.process('gateway-1'), signal.SIGTERM)
        for address in (admin, cluster.gateway):
            wait_until(lambda a=address: cluster.request('GET', '/readyz', address=a)[0] == 503,
                       f'{address} is not ready')
        kept.request('GET', '/healthz')
        answer = kept.getresponse()
        check_equal((answer.status, answer.getheader('Connection')), (200, 'close'), 'the last')
        wait_until(lambda: refused(cluster), 'no new connections')
        check_equal(idle.recv(1), b'', 'an idle connection')
        check(alive(pid), 'it waits for what is in progress')
        check_equal(cluster.request('GET', '/readyz', address=admin)[0], 503, 'the admin port')
        writer.sendall(b'56789')
        check(read_to_end(writer).startswith(b'HTTP/1.1 201 '), 'the upload is stored')
        received = begin + read_to_end(reader)
        check(received.partition(b'\r\n\r\n')[2] == body, 'the download is whole')
        wait_until(lambda: not alive(pid), 'it ends')
        check(time.monotonic() - begun < 20, 'it ends when the last answer has, not at the bound')
        check('stopped code=0' in cluster.log('gateway-1'), 'in order')


def test_too_slow_is_cut():
    """At its bound a drain cuts an upload that does not end; a second SIGTERM cuts it earlier."""
    for bound_ms, signals in ((700, 1), (60_000, 2)):
        with Cluster(disks=1, sets=[f'gateway.drain_ms={bound_ms}']) as cluster:
            cluster.up()
            pid = cluster.process('gateway-1')['pid']
            writer = connect(cluster)
            writer.sendall(b'POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1234')
            begun = time.monotonic()
            for number in range(signals):
                cluster.kill(cluster.process('gateway-1'), signal.SIGTERM)
                wait_until(lambda: refused(cluster), f'signal {number + 1} is taken')
            check_equal(writer.recv(100), b'', 'the cut upload')
            wait_until(lambda: not alive(pid), 'it ends')
            took = time.monotonic() - begun
            check(signals == 2 or took >= 0.7, f'not before the bound: {took:.2f} s')
            check(took < 30, f'in {took:.1f} s')


def test_nothing_to_wait_for():
    """Without requests in progress a gateway ends at once."""
    with Cluster(disks=1) as cluster:
        cluster.up()
        pid = cluster.process('gateway-1')['pid']
        idle = connect(cluster)
        begun = time.monotonic()
        cluster.kill(cluster.process('gateway-1'), signal.SIGTERM)
        wait_until(lambda: not alive(pid), 'it ends')
        check(time.monotonic() - begun < 3, 'at once')
        check_equal(idle.recv(1), b'', 'the idle connection')


if __name__ == '__main__':
    main([test_drain, test_too_slow_is_cut, test_nothing_to_wait_for])
