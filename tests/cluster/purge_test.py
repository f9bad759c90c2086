#!/usr/bin/env python3
"""A deleted file's copies in a CDN go, too: PURGE and POST at a server that fails at first, the
directory's nodes killed between a delete and its purge, and a real Varnish."""

import contextlib
import json
import queue
import socket
import struct
import threading
import time

from directory_test import nodes, told, wait_both
from fronts import Varnish
from harness import BIN, Cluster, check, check_equal, main, random_bytes, run, wait_until

TAGS = {'Surrogate-Key': 'cats pets', 'Cache-Tag': 'cats,big dogs'}
DELAY_S = 1.2  # the default of purge_delay_ms
RESET = struct.pack('ii', 1, 0)


class Cdn:
    """Takes requests, each on a connection of its own. What it says is of `plan`, in order, 'reset'
    being none; then 200."""

    def __init__(self, plan=()):
        self.plan = list(plan)
        self.requests = queue.Queue()
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client = self.listener.accept()[0]
                with client, contextlib.suppress(OSError):
                    client.settimeout(10)
                    self.answer(client)

    def answer(self, client):
        received = b''
        while b'\r\n\r\n' not in received:
            piece = client.recv(1 << 16)
            if not piece:
                return
            received += piece
        head, _, body = received.partition(b'\r\n\r\n')
        first, *lines = head.decode().split('\r\n')
        fields = dict(line.split(': ', 1) for line in lines)
        while len(body) < int(fields['Content-Length']):
            body += client.recv(1 << 16)
        self.requests.put((time.monotonic(), first, fields, body))
        said = self.plan.pop(0) if self.plan else 200
        if said == 'reset':
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        else:
            client.sendall(f'HTTP/1.1 {said} Said\r\nContent-Length: 0\r\n\r\n'.encode())

    def next(self, seconds=30):
        """(when, first line, fields, body) of the next request."""
        return self.requests.get(timeout=seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def upload(cluster, body, fields):
    status, _, answer = cluster.request('POST', '/v1/files', body,
                                        {'Content-Type': 'image/png', **fields})
    check_equal(status, 201, f'upload: {answer[:300]!r}')
    return json.loads(answer)


def delete(cluster, stored):
    """Seconds that the 204 took."""
    begun = time.monotonic()
    status, _, answer = cluster.request('DELETE', '/v1/files/' + stored['id'], headers={
        'Hayloft-Delete-Token': stored['delete_token']})
    check_equal(status, 204, f'DELETE: {answer!r}')
    return time.monotonic() - begun


def with_cdn(cdn, path='/i/{id}', *sets):
    return Cluster(dataservers=2, disks=1, copies=2, sets=[
        f'directory.purge_url=http://127.0.0.1:{cdn.port}{path}', *sets])


def check_done(cluster, purged, failures):
    """The active node counts so many, and has none left."""
    active, _ = nodes(cluster)
    wait_until(lambda: told(cluster, active, 'purges_pending') == 0, 'none is pending', 10)
    check_equal((told(cluster, active, 'purges_total'), told(cluster, active,
                                                             'purge_failures_total')),
                (purged, failures), 'purges confirmed, and failed')


def test_a_delete_is_told_until_it_is_confirmed():
    """500, a reset, then 200: the 204 waited for none of it; each time the id and the tags."""
    with Cdn([500, 'reset']) as cdn, with_cdn(cdn) as cluster:
        cluster.up()
        wait_both(cluster)
        stored = upload(cluster, random_bytes(5_000, 1), TAGS)
        took_s = delete(cluster, stored)
        answered = time.monotonic()
        check(took_s < DELAY_S, f'204 after {took_s:.2f} s')
        times = []
        for _ in range(3):
            when, first, fields, body = cdn.next()
            times.append(when)
            check_equal(first, f'PURGE /i/{stored["id"]} HTTP/1.1', 'the request')
            check_equal({name: fields.get(name) for name in TAGS}, TAGS, 'its tags')
            check_equal((fields['Host'], body), (f'127.0.0.1:{cdn.port}', b''), 'Host and body')
        pauses = [after - before for before, after in zip([answered] + times, times)]
        print('204 after', f'{took_s:.3f} s; purges after', [f'{pause:.2f} s' for pause in pauses])
        for pause, least_s in zip(pauses, (DELAY_S - 0.1, 0.9, 1.9)):
            check(least_s <= pause < least_s + 3, f'pauses: {pauses}')
        check_done(cluster, purged=1, failures=2)
        check_equal(cluster.request('GET', '/' + stored['id'])[0], 410, 'the file')
        check(cdn.requests.empty(), 'no more purges')


def test_by_post_and_only_of_the_last_reference():
    """One JSON body; two uploads of one image are one file, which goes with the second token."""
    sets = ('directory.purge_method=POST', 'directory.purge_host=api.example.com',
            'directory.purge_file_url=https://img.example.com/{id}.png')
    with Cdn([404]) as cdn, with_cdn(cdn, '/purge', *sets) as cluster:
        cluster.up()
        wait_both(cluster)
        first, second = (cluster.upload(random_bytes(5_000, 2)) for _ in range(2))
        tagged = upload(cluster, random_bytes(5_000, 2), TAGS)
        check_equal((second['id'], second['duplicate']), (first['id'], True), 'a duplicate')
        delete(cluster, first)
        delete(cluster, tagged)
        _, line, fields, body = cdn.next()
        check_equal((line, fields['Host'], fields['Content-Type']),
                    ('POST /purge HTTP/1.1', 'api.example.com', 'application/json'), 'its head')
        check_equal(json.loads(body), {
            'id': tagged['id'], 'url': f'https://img.example.com/{tagged["id"]}.png',
            'tags': ['cats', 'pets', 'big dogs']}, 'its body')
        check_done(cluster, purged=1, failures=0)  # 404: it has no copy
        check_equal(cluster.request('GET', '/' + first['id'])[0], 200, 'what another refers to')
        delete(cluster, second)
        check_equal(json.loads(cdn.next()[3])['tags'], [], 'tags of the other file')
        cluster.hayloft('rm', '--takedown', cluster.upload(random_bytes(5_000, 3))['id'])
        cdn.next()
        check_done(cluster, purged=3, failures=0)


def test_kill_9_between_delete_and_purge():
    """Both nodes, and a cluster that comes up again; the active one, and a standby that takes over:
    the purge is sent."""
    with Cdn() as cdn, with_cdn(cdn, '/{id}', 'directory.purge_delay_ms=4000') as cluster:
        cluster.up()
        wait_both(cluster)
        stored = upload(cluster, random_bytes(5_000, 4), TAGS)
        delete(cluster, stored)
        for process in cluster.processes('directory'):
            cluster.kill(process)
        check(cdn.requests.empty(), 'they died before the purge')
        cluster.up()
        _, line, fields, _ = cdn.next(60)
        check_equal((line, fields['Cache-Tag']),
                    (f'PURGE /{stored["id"]} HTTP/1.1', TAGS['Cache-Tag']), 'after the start')
        active, _ = wait_both(cluster)
        stored = upload(cluster, random_bytes(5_000, 5), TAGS)
        delete(cluster, stored)
        cluster.kill(active)
        check(cdn.requests.empty(), 'it died before the purge')
        _, line, fields, _ = cdn.next(60)
        check_equal((line, fields['Surrogate-Key']),
                    (f'PURGE /{stored["id"]} HTTP/1.1', TAGS['Surrogate-Key']), 'of the standby')


def test_varnish_forgets_a_deleted_file():
    """With the sample configuration: a hit, a delete, and within 2 s the file is gone there."""
    with Cluster(dataservers=2, disks=1, copies=2, gateways=2) as cluster, \
            Varnish(cluster) as varnish:
        cluster.sets += ['--set', f'directory.purge_url=http://{varnish.address}/{{id}}']
        cluster.up()
        wait_both(cluster)
        wait_until(lambda: cluster.request('GET', '/readyz', address=varnish.address)[0] == 200,
                   'Varnish sees the gateways')
        body = random_bytes(5_000, 6)
        stored = upload(cluster, body, {})

        def get():
            status, headers, got = cluster.request('GET', '/' + stored['id'],
                                                   address=varnish.address)
            return status, headers.get('X-Front-Cache'), got

        check_equal(get(), (200, 'MISS', body), 'the first time')
        check_equal(get(), (200, 'HIT', body), 'from the cache')
        delete(cluster, stored)
        begun = time.monotonic()
        check_equal(get()[:2], (200, 'HIT'), 'right after the delete')
        wait_until(lambda: get()[0] != 200, 'it is purged', 10)
        took_s = time.monotonic() - begun
        print(f'gone from Varnish {took_s:.2f} s after the 204')
        check_equal(get()[0], 410, 'what Varnish answers')
        check(took_s < 2, f'purged after {took_s:.2f} s')
        check_done(cluster, purged=1, failures=0)


def test_what_cannot_be_sent_is_refused_at_the_start():
    """https, names, and a PURGE of nothing."""
    for value, said in (('https://cdn.example.com/{id}', 'TLS is not spoken'),
                        ('http://cdn.example.com/{id}', 'in numbers'),
                        ('http://127.0.0.1:80/', '{id} has to stand in it')):
        told_why = run(f'{BIN}/hayloft-directory',
                       '--init', '--data=/nonexistent', '--purge-url=' + value, wanted=None).stderr
        check(said in told_why and 'purge' in told_why, told_why)


if __name__ == '__main__':
    main([test_a_delete_is_told_until_it_is_confirmed,
          test_by_post_and_only_of_the_last_reference, test_kill_9_between_delete_and_purge,
          test_varnish_forgets_a_deleted_file,
          test_what_cannot_be_sent_is_refused_at_the_start])
