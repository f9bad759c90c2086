"""Uploads and reads that never stop, and the proof that nothing acknowledged was lost."""

import base64
import contextlib
import http.client
import json
import os
import random
import re
import socket
import subprocess
import threading
import time

from harness import MODE, TOP, check, check_equal, metric, random_bytes, wait_until

ERRORS = (OSError, http.client.HTTPException, socket.timeout)


class Threads:
    """`count` threads that do `run`, each with its number, until the end of a `with`."""

    def __init__(self, run, count):
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def connect(gateways, choose):
    """To a gateway that says to be ready, as a balancer does; to any, if none says so."""
    gateways = choose.sample(gateways, len(gateways))
    chosen = gateways[0]
    for gateway in gateways if len(gateways) > 1 else ():
        connection = http.client.HTTPConnection(gateway, timeout=1)
        with contextlib.suppress(*ERRORS), contextlib.closing(connection):
            connection.request('GET', '/readyz')
            if connection.getresponse().status == 200:
                chosen = gateway
                break
    return http.client.HTTPConnection(chosen, timeout=20)


class Uploaders(Threads):
    """Threads that upload, and delete a few of their files, through whatever gateway is ready.

    What was acknowledged is kept: contents in a folder, and ids. An upload that got no answer may
    exist or not; it is not counted. `ids` is a file that grows by those that are never deleted,
    for readers.
    """

    def __init__(self, cluster, folder, threads=4, gateways=None, deletes=True, seed=None):
        super().__init__(self.run, threads)
        self.folder = folder
        self.manifest = folder + '.tsv'
        self.ids = folder + '.ids'
        self.gateways = gateways or [cluster.gateway]
        self.deletes = deletes
        self.seed = seed if seed is not None else random.randrange(1 << 30)
        self.stored = {}     # name -> id
        self.deleted = {}    # name -> id; their DELETE was acknowledged
        self.tokens = {}     # name -> delete token
        self.refused = 0     # answers that were no acknowledgement
        self.refusals = []   # the first of them
        self.broken = 0      # no answer
        self.took = []       # (when it began, s) of each acknowledged upload
        self.longest_gap_s = 0.0  # without an acknowledgement
        self.gap_ended = 0.0
        self.last_ack = time.monotonic()
        os.makedirs(folder, exist_ok=True)
        with open(self.ids, 'w', encoding='utf-8'):
            pass

    def __enter__(self):
        self.last_ack = time.monotonic()
        return super().__enter__()

    def run(self, number):
        choose = random.Random(self.seed * 1000 + number)
        connection, count = None, 0
        while not self.stopped.is_set():
            count += 1
            name = f'{number}-{count}'
            # No two are equal: those would be one file.
            body = random_bytes(choose.choice((9, 700, 9_000, 17_000, 70_000)) + count % 97,
                                hash((self.seed, name)))
            try:
                if connection is None or connection.sock is None:  # the gateway closed it
                    connection = connect(self.gateways, choose)
                doomed = self.deletes and count % 10 == 0
                self.upload(connection, name, body, doomed)
                if doomed:
                    self.delete(connection, name)
            except ERRORS:
                with self.lock:
                    self.broken += 1
                connection.close()
                connection = None
                self.stopped.wait(0.02)

    def upload(self, connection, name, body, doomed):
        begun = time.monotonic()
        connection.request('POST', '/v1/files', body, {'Content-Type': 'image/png'})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201):
            with self.lock:
                self.refused += 1
                if len(self.refusals) < 5:
                    self.refusals.append((answer.status, text, round(time.monotonic() - begun, 2)))
            self.stopped.wait(0.02)
            return
        told = json.loads(text)
        with open(os.path.join(self.folder, name), 'wb') as file:
            file.write(body)
        with self.lock:
            now = time.monotonic()
            if now - self.last_ack > self.longest_gap_s:
                self.longest_gap_s, self.gap_ended = now - self.last_ack, now
            self.last_ack = now
            self.took.append((begun, now - begun))
            self.stored[name] = told['id']
            self.tokens[name] = told['delete_token']
            if not doomed:
                with open(self.ids, 'a', encoding='utf-8') as file:
                    file.write(f'{name}\t{told["id"]}\n')

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


def p99(values):
    return sorted(values)[len(values) * 99 // 100]


class HttpReaders(Threads):
    """Threads that read what uploaders have stored, each time a random one of all gateways.

    A read whose connection breaks, as its gateway was killed, is repeated at another gateway, for
    10 s at most. Any status but 200, other bytes, or no answer at all is a failed read.
    """

    def __init__(self, uploaders, threads=2):
        super().__init__(self.run, threads)
        self.uploaders = uploaders
        self.reads = 0
        self.repeated = 0
        self.failed = []
        self.took = []

    def run(self, number):
        choose, connections, known, at = random.Random(number), {}, [], 0
        while not self.stopped.is_set():
            if self.reads % 16 == 0 or not known:
                with open(self.uploaders.ids, encoding='utf-8') as file:
                    file.seek(at)
                    whole = file.read().rpartition('\n')[0]
                    at += len(whole) + 1 if whole else 0
                    known += [line.split('\t') for line in whole.splitlines()]
            if known:
                self.read_one(*choose.choice(known), choose, connections)
            else:
                self.stopped.wait(0.02)

    def read_one(self, name, file_id, choose, connections):
        with open(os.path.join(self.uploaders.folder, name), 'rb') as file:
            wanted = file.read()
        begun = time.monotonic()
        got = None
        while got is None and time.monotonic() < begun + 10:
            gateway = choose.choice(self.uploaders.gateways)
            try:
                got = self.get(connections, gateway, file_id)
            except ERRORS:
                connections.pop(gateway).close()
                self.stopped.wait(0.02)
                with self.lock:
                    self.repeated += 1
        with self.lock:
            self.reads += 1
            self.took.append((begun, time.monotonic() - begun))
            if got != (200, wanted):
                self.failed.append((file_id, got and got[0], round(self.took[-1][1], 2)))

    def get(self, connections, gateway, file_id):
        if gateway not in connections:
            connections[gateway] = http.client.HTTPConnection(gateway, timeout=15)
        connections[gateway].request('GET', '/' + file_id)
        answer = connections[gateway].getresponse()
        return answer.status, answer.read()


class SdkReader:
    """sdk_reader.cc over the same files; `report` when it has ended."""

    def __init__(self, cluster, uploaders):
        self.command = [os.path.join(TOP, 'out', MODE, 'sdk_reader'),
                        ','.join(p['address'] for p in cluster.processes('nameserver')),
                        os.path.join(cluster.dir, 'secret'), uploaders.ids, uploaders.folder]
        self.process = None
        self.report = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        try:
            self.report = json.loads(self.process.communicate(timeout=60)[0])
        finally:
            self.process.kill()


def check_reads(http_readers, sdk_reader, at_least):
    """None failed, and there were some. Returns both counts of reads."""
    check_equal(http_readers.failed[:5], [], f'failed reads of {http_readers.reads} by HTTP')
    report = sdk_reader.report
    check_equal((report['failed'], report['wrong']), (0, 0), f'reads by the SDK: {report}')
    reads = http_readers.reads, report['reads']
    check(min(reads) >= at_least, f'reads by HTTP and by the SDK: {reads}')
    return reads


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


def verify_at(cluster, uploaders, dsp, files):
    """`hayloft get --verify` of (name, id) pairs from one dsp."""
    with open(uploaders.manifest, 'w', encoding='utf-8') as file:
        file.writelines(f'{name}\t{file_id}\t\n' for name, file_id in files)
    return cluster.hayloft('get', '--dsp', dsp, '--manifest', uploaders.manifest, '--verify',
                           uploaders.folder, wanted=None, timeout=300)


def check_nothing_lost(cluster, uploaders):
    """Every acknowledged file is read from each dsp that has it; deletes hold there."""
    for dsp, files in by_replica(cluster, uploaders.stored).items():
        done = verify_at(cluster, uploaders, dsp, files)
        check_equal((done.returncode, done.stdout), (0, f'{len(files)} files are as they were\n'),
                    f'every acknowledged file of {dsp}: ' + done.stderr[:3000])
    for dsp, files in by_replica(cluster, uploaders.deleted).items():
        check_equal(verify_at(cluster, uploaders, dsp, files).stdout, '0 files are as they were\n',
                    f'of {len(files)} deleted files that {dsp} has')
    check_equal(len(set(uploaders.stored.values())), len(uploaders.stored), 'ids given once')
    for name, file_id in uploaders.deleted.items():
        check_equal(cluster.request('GET', '/' + file_id)[0], 410, f'{name} stays deleted')


def measured(cluster, dsp, name):
    text = cluster.request('GET', '/metrics', address=dsp['http'])[2].decode()
    return metric(text, 'hayloft_dsp_' + name)


def wait_promised(cluster, epoch):
    """Every dsp has promised to obey no lower epoch."""
    wait_until(lambda: all(measured(cluster, dsp, 'promised_epoch') >= epoch
                           for dsp in cluster.processes('dsp')), f'all promise epoch {epoch}')


def stale_commands(cluster):
    """Orders that dsps have refused since they started: of who is not active any more."""
    return sum(measured(cluster, dsp, 'commands_stale_total') for dsp in cluster.processes('dsp'))


def kill_for_good(cluster, dsp):
    """Its dataserver first, so that it stays dead until `cluster up`."""
    owners = [each for each in cluster.processes('dataserver')
              if dsp['name'].split('-')[1] == each['name'].split('-')[1]]
    check_equal(len(owners), 1, f'dataservers of {dsp["name"]}')
    for process in owners + [dsp]:
        cluster.kill(process)


def wait_sealed(cluster):
    """Whatever was closed is sealed on all its replicas, and those are equal. Returns `blocks`.

    So it must stay for longer than the second in which a heartbeat tells of a dsp's own close.
    """
    since = None

    def sealed():
        nonlocal since
        blocks = cluster.status()['blocks']
        since = (since or time.monotonic()) if blocks['closed'] == 0 else None
        return since is not None and time.monotonic() > since + 1.5 and blocks
    blocks = wait_until(sealed, lambda: f'closed blocks are sealed: {cluster.status()["blocks"]}')
    check_equal((blocks['divergent'], blocks['lost']), (0, 0), f'divergent and lost: {blocks}')
    return blocks


def killed_by_signal(cluster):
    """How many dsps the dataservers saw end by a signal."""
    logs = [cluster.log(p['name']) for p in cluster.processes('dataserver')]
    return sum(len(re.findall(r'dsp_exited .*how=(?:signal|unknown)', log)) for log in logs)
