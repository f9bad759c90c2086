"""Parts of the soak: many connections, idle and busy, and ten times what a cluster can do."""

import os
import resource
import socket
import threading

from attack_test import resident_mib
from harness import Cluster, check, run
from overload_test import LARGE, SMALL, Load, SlowDsp, overload
from soak_promises import equal, figure

IDLE = 10_000


def median(values):
    return sorted(values)[len(values) // 2]


def pin(cluster):
    check(os.cpu_count() >= 2, 'two processors are there')
    for process in cluster.processes():
        run('taskset', '-a', '-c', '-p', 0, process['pid'])


def overloads(kind, size):
    """Figures of three floods with admission control, in turns with three without."""
    shares, offered, healths, most_mib, without = [], [], set(), 0, []
    for queue_ms, seconds in 3 * ((500, 8), (0, 8)):
        with Cluster(directory_shards=0, disks=1, sets=['gateway.loops=1',
                                    f'gateway.queue_ms={queue_ms}']) as cluster:
            cluster.up()
            pin(cluster)
            with Load(cluster, core=1) as load:
                load.ask(f'http_put {size} 64 0.5')
                with SlowDsp(cluster):
                    _, flood, watch = overload(cluster, load, seconds, kind, size)
        if queue_ms == 0:
            without.append(round(flood['share'], 2))
            continue
        shares.append(round(flood['share'], 2))
        offered.append(round(flood['offered'], 1))
        healths |= set(watch.statuses)
        most_mib = max(most_mib, watch.most_mib)
        check(flood['no_retry_after'] == 0 < flood['refused'], f'Retry-After: {flood}')
        check(flood['failed'] == 0, f'what is not refused is right: {flood}')
    return [figure(f'of the peak left, median of {shares}', median(shares), '>= 0.8',
                   median(shares) >= 0.8),
            figure('offered, in peaks, least', min(offered), '>= 8', min(offered) >= 8),
            figure('of the peak left without admission control', without, 'stated', True),
            equal('statuses of /healthz and /readyz meanwhile', sorted(map(str, healths)),
                  ['200']),
            figure('MiB of the gateway', most_mib, '<= 256', most_mib <= 256)]


def overload_part():
    """Ten times the rate of uploads onto a slow disk: servers on core 0, the load on core 1."""
    return overloads('put', SMALL)


def overload_reads():
    """Ten times the rate of GETs of 64 KiB from a slow dsp, likewise."""
    return overloads('get', LARGE)


def overload_small_reads():
    """The same of 16 KiB: needs two free processors, as ten times that fill most of one."""
    return overloads('get', SMALL)


def connections():
    """10,000 idle keep-alive connections from three addresses, each of which was served once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    check(hard >= IDLE + 500, f'RLIMIT_NOFILE: {hard}')
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Cluster(directory_shards=0, disks=1) as cluster:
        cluster.up()
        body = os.urandom(1000)
        request = f'GET /{cluster.upload(body)["id"]} HTTP/1.1\r\nHost: h\r\n\r\n'.encode()
        before, served, clients = resident_mib(cluster), 0, []

        def ask(client):
            client.sendall(request)
            received = b''
            while not received.endswith(body):
                piece = client.recv(1 << 16)
                check(piece, 'the connection is kept')
                received += piece
            return received.startswith(b'HTTP/1.1 200 ')
        try:
            for i in range(IDLE):  # one address may have 5,000
                clients.append(socket.create_connection(
                    ('127.0.0.1', cluster.port), 20, (f'127.0.0.{2 + i % 3}', 0)))
                served += ask(clients[-1])
            all_open = resident_mib(cluster)
            again = sum(ask(client) for client in clients[::100])
        finally:
            for client in clients:
                client.close()
    return [equal('connections served', served, IDLE),
            equal('of every hundredth, served again', again, IDLE // 100),
            figure(f'MiB of the gateway, {before} before', all_open, '<= 100', all_open <= 100)]


def busy():
    """1,024 busy connections for 20 s, half of them upload and half of them read."""
    with Cluster(directory_shards=0, disks=1) as cluster:
        cluster.up()
        with Load(cluster) as reads, Load(cluster) as writes:
            reads.ask('http_put 16384 64 1')
            reports = {}
            threads = [threading.Thread(target=lambda load=load, kind=kind: reports.update(
                {kind: load.ask(f'http_{kind} 16384 512 20')}))
                       for load, kind in ((reads, 'get'), (writes, 'put'))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        most_mib = resident_mib(cluster)
    return [equal(f'failed {kind}s of {reports[kind]["images"]}', reports[kind]['failed'], 0)
            for kind in ('get', 'put')] + [figure('MiB of the gateway', most_mib, 'stated', True)]


PARTS = {'overload': overload_part, 'overload_reads': overload_reads,
         'overload_small_reads': overload_small_reads, 'connections': connections, 'busy': busy}
