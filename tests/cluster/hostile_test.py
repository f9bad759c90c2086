#!/usr/bin/env python3
"""Malformed frames against the ports of running servers, and a gateway that runs out of memory."""

import resource
import socket
import struct
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait

from attack_test import resident_mib
from harness import (Cluster, admin_address, alive, check, check_equal, main, metric, random_bytes,
                     wait_until)
from load import Uploaders, check_nothing_lost


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def header(magic=b'HFR1', version=1, kind=1, message=0, payload=0, bad_crc=False):
    """A frame's header (common/frame.h), right but for what is asked for."""
    fields = magic + struct.pack('<HHQHHIIIII', version, kind, 1, 0, 0, 0, message, payload, 0, 0)
    return fields + struct.pack('<I', crc32c(fields) ^ bad_crc)


HOSTILE = {
    'zeros': bytes(44),
    'wrong magic': header(magic=b'HFR0'),
    'bad CRC': header(bad_crc=True),
    'unknown type': header(kind=0xfff0),
    'the greatest lengths': header(message=0xffffffff, payload=0xffffffff),
    'a length of 0 where a message must be': header(message=0),
    'noise': random_bytes(4096, 5),
    'HTTP': b'GET / HTTP/1.1\r\nHost: h\r\n\r\n' + bytes(44),
}


def test_s05_malformed_frames():
    """S05: at a dsp's and a nameserver's port: the connection ends, is counted, nothing else."""
    with Cluster(disks=1) as cluster:
        cluster.up()
        body = random_bytes(5000, 1)
        stored = cluster.upload(body)['id']
        for name in ('dsp-1-1', 'nameserver-1'):
            process = cluster.process(name)

            def counted():
                text = cluster.request('GET', '/metrics', address=admin_address(process))[2]
                return metric(text.decode(), 'hayloft_rpc_server_bad_frames_total')
            before = counted()
            for what, frame in HOSTILE.items():
                host, port = process['address'].rsplit(':', 1)
                with socket.create_connection((host, int(port)), timeout=20) as client:
                    client.sendall(frame)
                    try:
                        check_equal(client.recv(1), b'', f'{name}, {what}: it is closed')
                    except ConnectionResetError:
                        pass
            wait_until(lambda: counted() == before + len(HOSTILE),
                       lambda: f'{name}: {counted() - before} of {len(HOSTILE)} counted', 10)
            check(alive(process['pid']), f'{name} lives')
            check_equal(cluster.process(name)['pid'], process['pid'], f'{name} is the same')
        check_equal(cluster.download(stored), body, 'others are served')


def limit_memory(pid, more):
    """The process gets so many bytes of address space besides those that it has."""
    with open(f'/proc/{pid}/statm', encoding='utf-8') as file:
        most = int(file.read().split()[0]) * resource.getpagesize() + more
    resource.prlimit(pid, resource.RLIMIT_AS, (most, most))


def test_f58_memory_limit():
    """F58: beyond its memory for uploads and readers a gateway refuses; its RSS stays bounded."""
    uploads = downloads = 32 << 20
    with Cluster(disks=1, sets=['gateway.loops=1', f'gateway.upload_memory_bytes={uploads}',
                                'gateway.upload_bytes_max=8388608',
                                f'gateway.download_memory_bytes={downloads}']) as cluster:
        cluster.up()
        pid = cluster.process('gateway-1')['pid']
        long = cluster.upload(random_bytes(8 << 20, 2))['id']
        before = resident_mib(cluster)
        # A leak beyond the budgets meets this limit of the process and ends it.
        limit_memory(pid, 512 << 20)
        clients, half, most = [], random_bytes(4 << 20, 3), before
        try:
            for i in range(96):
                client = socket.create_connection(('127.0.0.1', cluster.port), timeout=20)
                clients.append(client)
                if i % 2:
                    client.sendall(f'GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n'.encode())
                    continue
                client.sendall(b'POST /v1/files HTTP/1.1\r\nHost: h\r\n'
                               b'Content-Length: 8000000\r\n\r\n')
                try:
                    client.sendall(half)
                except OSError:
                    pass  # refused already
                most = max(most, resident_mib(cluster))
            text = cluster.request('GET', '/metrics', address=admin_address(
                cluster.process('gateway-1')))[2].decode()
            refused = metric(text, 'hayloft_gateway_upload_memory_refused_total')
            check_equal(cluster.request('GET', '/healthz')[0], 200, 'health meanwhile')
        finally:
            for client in clients:
                client.close()
        print(f'   gateway: {before} MiB before, {most} at most, {refused:.0f} uploads refused')
        check(refused > 0, 'the budget was met')
        check(most - before <= (uploads + downloads >> 20) + 32, f'MiB: {before} to {most}')
        check_equal(cluster.process('gateway-1')['pid'], pid, 'the gateway is the same')
        check(alive(pid), 'the gateway lives')
        check_equal(len(cluster.download(long)), 8 << 20, 'it serves afterwards')


def test_f58_memory_limit_of_a_dsp():
    """F58: a dsp that gets no more memory refuses uploads, and lives; what it has is served."""
    size = 24 << 20
    # So much may wait for the disk that memory is what is short.
    with Cluster(disks=1, directory_shards=0,
                 sets=['dsp.append_queue_bytes=1073741824', 'gateway.queue_ms=0',
                       'gateway.upload_memory_bytes=1073741824']) as cluster:
        cluster.up()
        body = random_bytes(size, 2)
        stored = cluster.upload(body)['id']
        dsp = cluster.process('dsp-1-1')
        limit_memory(dsp['pid'], 64 << 20)
        large, small, ended = [], [], threading.Event()

        def flood():
            large.extend(cluster.request('POST', '/v1/files', body)[0] for _ in range(3))

        def trickle(number):
            while not ended.is_set():
                small.append(cluster.request('POST', '/v1/files', body[:700 << number])[0])
        with ThreadPoolExecutor(24) as pool:
            others = [pool.submit(trickle, i) for i in range(8)]
            floods = [pool.submit(flood) for _ in range(16)]
            wait(floods)
            ended.set()
        for done in floods + others:
            done.result()
        print(f'   large: {Counter(large)}, small: {Counter(small)}')
        check(set(large + small) <= {201, 503, 507}, 'statuses')
        check(large.count(201) < len(large), 'some were refused')
        check_equal(cluster.process('dsp-1-1')['pid'], dsp['pid'], 'the dsp is the same')
        check(alive(dsp['pid']), 'the dsp lives')
        check(cluster.download(stored) == body, 'what it has is served')
        wait_until(lambda: cluster.request('POST', '/v1/files', body[:5000])[0] == 201,
                   'it stores again')


def test_f58_killed_for_memory():
    """F58: SIGKILL of a dsp and of the gateway under load, as the OOM killer does: none lost."""
    with Cluster(disks=1) as cluster:
        cluster.up()
        with Uploaders(cluster, cluster.dir + '/up', threads=4) as uploaders:
            for name in ('dsp-1-1', 'gateway-1'):
                had = uploaders.acknowledged()
                wait_until(lambda: uploaders.acknowledged() >= had + 50,  # pylint: disable=W0640
                           'uploads under way')
                killed = cluster.process(name)
                cluster.kill(killed)
                wait_until(lambda: not alive(killed['pid']), 'it is dead')  # pylint: disable=W0640
                if name == 'gateway-1':
                    cluster.up()  # as systemd would; a dsp's dataserver does it by itself
            had = uploaders.acknowledged()
            wait_until(lambda: uploaders.acknowledged() >= had + 50, 'uploads go on')
        print(f'   {uploaders.acknowledged()} acknowledged')
        check_nothing_lost(cluster, uploaders)


if __name__ == '__main__':
    main([test_s05_malformed_frames, test_f58_memory_limit, test_f58_memory_limit_of_a_dsp,
          test_f58_killed_for_memory])
