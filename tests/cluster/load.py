"""Uploads that never stop, and the proof afterwards that nothing acknowledged was lost."""

import base64
import http.client
import json
import os
import random
import re
import socket
import threading
import time

from harness import check, check_equal, random_bytes

ERRORS = (OSError, http.client.HTTPException, socket.timeout)


class Uploaders:
    """Threads that upload, and delete a few of their files, through whatever gateway answers.

    What was acknowledged is kept: contents in a folder, and ids. An upload that got no answer may
    exist or not; it is not counted.
    """

    def __init__(self, cluster, folder, threads=4, gateways=None, deletes=True, seed=None):
        self.folder = folder
        self.manifest = folder + '.tsv'
        self.gateways = gateways or [cluster.gateway]
        self.deletes = deletes
        self.seed = seed if seed is not None else random.randrange(1 << 30)
        self.stored = {}     # name -> id
        self.deleted = {}    # name -> id; their DELETE was acknowledged
        self.tokens = {}     # name -> delete token
        self.refused = 0     # answers that were no acknowledgement
        self.broken = 0      # no answer
        self.longest_gap_s = 0.0
        self.last_ack = time.monotonic()
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        os.makedirs(folder, exist_ok=True)
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(threads)]

    def __enter__(self):
        self.last_ack = time.monotonic()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def run(self, number):
        choose = random.Random(self.seed * 1000 + number)
        connection, count = None, 0
        while not self.stopped.is_set():
            count += 1
            name = f'{number}-{count}'
            body = random_bytes(choose.choice((1, 700, 9_000, 17_000, 70_000)) + count % 97,
                                hash((self.seed, name)))
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(choose.choice(self.gateways),
                                                            timeout=20)
                self.upload(connection, name, body)
                if self.deletes and count % 10 == 0:
                    self.delete(connection, name)
            except ERRORS:
                with self.lock:
                    self.broken += 1
                connection.close()
                connection = None
                self.stopped.wait(0.02)

    def upload(self, connection, name, body):
        connection.request('POST', '/v1/files', body, {'Content-Type': 'image/png'})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201):
            with self.lock:
                self.refused += 1
            self.stopped.wait(0.02)
            return
        told = json.loads(text)
        with open(os.path.join(self.folder, name), 'wb') as file:
            file.write(body)
        with self.lock:
            now = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_ack)
            self.last_ack = now
            self.stored[name] = told['id']
            self.tokens[name] = told['delete_token']

    def delete(self, connection, name):
        with self.lock:  # from here on until the answer it may be deleted or not
            file_id = self.stored.pop(name, None)
        if file_id is None:
            return
        connection.request('DELETE', '/v1/files/' + file_id,
                           headers={'Hayloft-Delete-Token': self.tokens[name]})
        answer = connection.getresponse()
        answer.read()
        if answer.status == 204:
            with self.lock:
                self.deleted[name] = file_id

    def acknowledged(self):
        with self.lock:
            return len(self.stored) + len(self.deleted)


def block_of(file_id):
    """The first 5 of the 13 bytes that an id's 18 characters stand for."""
    return base64.urlsafe_b64decode(file_id + 'AA')[:5]


def by_replica(cluster, files):
    """{address of a dsp: [(name, id)...]}: every file at each dsp that has its block."""
    holders, found = {}, {}
    for name, file_id in sorted(files.items()):
        block = block_of(file_id)
        if block not in holders:
            told = json.loads(cluster.hayloft('stat', '--json', file_id).stdout)
            holders[block] = [replica['dsp'] for replica in told['replicas']]
            check(holders[block], f'{name} has a replica')
        for dsp in holders[block]:
            found.setdefault(dsp, []).append((name, file_id))
    return found


def check_nothing_lost(cluster, uploaders):
    """Every acknowledged file is read from each dsp that has it; acknowledged deletes hold."""
    for dsp, files in by_replica(cluster, uploaders.stored).items():
        with open(uploaders.manifest, 'w', encoding='utf-8') as file:
            file.writelines(f'{name}\t{file_id}\t\n' for name, file_id in files)
        done = cluster.hayloft('get', '--dsp', dsp, '--manifest', uploaders.manifest, '--verify',
                               uploaders.folder, wanted=None, timeout=300)
        check_equal((done.returncode, done.stdout), (0, f'{len(files)} files are as they were\n'),
                    f'every acknowledged file of {dsp}: ' + done.stderr[:3000])
    check_equal(len(set(uploaders.stored.values())), len(uploaders.stored), 'ids given once')
    for name, file_id in uploaders.deleted.items():
        check_equal(cluster.request('GET', '/' + file_id)[0], 410, f'{name} stays deleted')


def killed_by_signal(cluster):
    """How many dsps the dataservers saw end by a signal."""
    logs = [cluster.log(p['name']) for p in cluster.processes('dataserver')]
    return sum(len(re.findall(r'dsp_exited .*how=(?:signal|unknown)', log)) for log in logs)
