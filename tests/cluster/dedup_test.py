#!/usr/bin/env python3
"""The same image uploaded twice is stored once, and nobody gets or loses another's (F45, S09).

Real images of Debian's packages; a pair of files with one SHA-1; the directory and the gateways
killed under uploads of which half are duplicates.
"""

import argparse
import contextlib
import glob
import hashlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

from harness import (BIN, Cluster, TOP, check, check_equal, main, metric, random_bytes, run,
                     wait_until)
from load import ERRORS, Threads, by_replica, connect
from networks import arguments_of

OPTIONS = argparse.ArgumentParser()
OPTIONS.add_argument('--seconds', type=float, default=10)
OPTIONS.add_argument('--seed', type=int, default=None)

IMAGES = '/usr/share/openclipart/png'
SAMPLE = 300
RACES = 40
PAIR = os.environ.get('HAYLOFT_COLLIDING_PAIR', os.path.join(TOP, '..', 'shared', 'data'))
KEY = 'Idempotency-Key'


def metrics(cluster, name):
    """Sum over all gateways."""
    return sum(metric(cluster.request('GET', '/metrics', address=admin)[2].decode(),
                      'hayloft_gateway_' + name) for admin in admins(cluster))


def admins(cluster):
    for process in cluster.processes('gateway'):
        with open(f'/proc/{process["pid"]}/cmdline', encoding='utf-8') as file:
            words = file.read().split('\0')
        yield next(word.split('=')[1] for word in words if word.startswith('--admin-listen='))


def post(cluster, body, wanted=(200, 201), gateway=None, **headers):
    """The JSON of an upload; its status is one of `wanted`."""
    fields = {'Content-Type': 'image/png',
              **{name.replace('_', '-'): value for name, value in headers.items()}}
    status, _, answer = cluster.request('POST', '/v1/files', body, fields, address=gateway)
    check(status in wanted, lambda: f'upload: {status}, not {wanted}: {answer[:300]!r}')
    told = json.loads(answer)
    if status in (200, 201):
        check_equal(told['duplicate'], status == 200, f'duplicate, with {status}')
        check_equal(told['sha1'], hashlib.sha1(body).hexdigest(), 'sha1')
    return told


def delete(cluster, told, wanted=204):
    status, _, answer = cluster.request('DELETE', '/v1/files/' + told['id'],
                                        headers={'Hayloft-Delete-Token': told['delete_token']})
    check_equal(status, wanted, f'DELETE {told["id"]}: {answer!r}')


def files_of(cluster):
    """How many files are stored, as dsps count them: a heartbeat later."""
    return cluster.status()['files']['live']


def check_files(cluster, wanted, what):
    wait_until(lambda: files_of(cluster) == wanted,
               lambda: f'{what}: {cluster.status()["files"]}, not {wanted} live', 15)


def upload_all(cluster, paths):
    """{path: id}; each file twice in the list is answered with one id."""
    stored = {}
    connection = http.client.HTTPConnection(cluster.gateway, timeout=60)
    for path in paths:
        with open(path, 'rb') as file:
            connection.request('POST', '/v1/files', file.read(), {'Content-Type': 'image/png'})
        answer = connection.getresponse()
        text = answer.read()
        check(answer.status in (200, 201), lambda: f'{path}: {answer.status} {text[:200]!r}')
        stored[path] = json.loads(text)['id']
    connection.close()
    return stored


def check_stored_once(cluster, paths):
    """Stored files and bytes are those of the distinct ones, and every id reads back. Returns
    (uploads, distinct files, their bytes)."""
    before = files_of(cluster)
    stored = upload_all(cluster, paths)
    distinct = {}
    for path in stored:
        with open(path, 'rb') as file:
            body = file.read()
        distinct[hashlib.sha1(body).hexdigest()] = len(body)
        check(cluster.download(stored[path]) == body, f'{path} reads back as it was')
    check_equal(len(set(stored.values())), len(distinct), 'ids')
    check_files(cluster, before + len(distinct), f'files stored of {len(stored)}')
    return len(stored), len(distinct), sum(distinct.values())


def test_real_images_are_stored_once():
    """A sample of openclipart-png, each twice: stored files and bytes are the distinct ones."""
    paths = sorted(glob.glob(IMAGES + '/**/*.png', recursive=True))
    if not paths:
        print(f'NOT TESTED: no images in {IMAGES} (package openclipart-png)')
        return
    chosen = random.Random(6).sample(paths, SAMPLE)
    with Cluster() as cluster:
        cluster.up()
        uploads, distinct, size = check_stored_once(cluster, chosen)
        check_stored_again(cluster, chosen, distinct, size)
        print(f'{uploads} uploads twice: {distinct} files, {size} bytes')


def check_stored_again(cluster, paths, distinct, size):
    """A second time nothing is stored."""
    check_equal(metrics(cluster, 'upload_bytes_total'), size, 'bytes stored')
    stored = upload_all(cluster, paths)
    check_equal(len(set(stored.values())), distinct, 'ids of the second time')
    check_equal((metrics(cluster, 'uploads_total'), metrics(cluster, 'upload_bytes_total')),
                (distinct, size), 'files and bytes stored, still')
    check_equal(metrics(cluster, 'uploads_unchecked_total'), 0, 'unchecked')


def colliding_pair():
    """Two files of one SHA-1; None, said loudly, where they are not at hand."""
    pair = []
    for name in ('sha-mbles-1.bin', 'sha-mbles-2.bin'):
        path = os.path.join(PAIR, name)
        if not os.path.exists(path):
            print(f'NOT TESTED: {path} is not there (HAYLOFT_COLLIDING_PAIR names its folder)')
            return None
        with open(path, 'rb') as file:
            pair.append(file.read())
    check(pair[0] != pair[1] and hashlib.sha1(pair[0]).digest() == hashlib.sha1(pair[1]).digest(),
          'they collide')
    return pair


def test_s09_a_forged_pair_comes_back_as_itself():
    """One SHA-1, two files: in either order, at the same time, and with suffixes."""
    pair = colliding_pair()
    if pair is None:
        return
    with Cluster(gateways=2) as cluster:
        cluster.up()
        gateways = [each['http'] for each in cluster.processes('gateway')]
        suffixes = [b'', b'x'] + [random_bytes(500 * i, i) for i in range(1, 9)]
        for i, suffix in enumerate(suffixes):
            bodies = [body + suffix for body in (pair if i % 2 else reversed(pair))]
            told = [post(cluster, body, wanted=(201,)) for body in bodies]
            check_equal(told[0]['sha1'], told[1]['sha1'], 'one SHA-1')
            check(told[0]['id'] != told[1]['id'], 'two files')
            again = [post(cluster, body, wanted=(200,)) for body in bodies]
            check_equal([each['id'] for each in again], [each['id'] for each in told], 'the same')
            for body, each in zip(bodies, told):
                check(cluster.download(each['id']) == body, 'it comes back as itself')
            delete(cluster, told[0])
            delete(cluster, again[0])
            check_equal(cluster.request('GET', '/' + told[0]['id'])[0], 410, 'it is deleted')
            check(cluster.download(told[1]['id']) == bodies[1], 'the other one is not')
        suffix = random_bytes(900, 99)
        wanted = [pair[i % 2] + suffix for i in range(40)]
        told = at_once(cluster, wanted, gateways)
        for body, each in zip(wanted, told):
            check(cluster.download(each['id']) == body, 'it comes back as itself')
        check_equal(len({each['id'] for each in told}), 2, 'two files')


def at_once(cluster, bodies, gateways):
    """The answers to uploads that begin together."""
    told = [None] * len(bodies)
    barrier = threading.Barrier(len(bodies))

    def upload(i):
        barrier.wait()
        told[i] = post(cluster, bodies[i], gateway=gateways[i % len(gateways)])
    threads = [threading.Thread(target=upload, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(None not in told, 'all are answered')
    return told


def test_many_uploads_of_one_new_image_at_once_are_one_file():
    """50 at once, through two gateways: one stored file, 50 tokens, and it goes with the last."""
    with Cluster(gateways=2) as cluster:
        cluster.up()
        gateways = [each['http'] for each in cluster.processes('gateway')]
        for i in range(3):
            body = random_bytes(20_000, 700 + i)
            before = files_of(cluster)
            told = at_once(cluster, [body] * 50, gateways)
            check_equal(len({each['id'] for each in told}), 1, 'ids')
            check_equal(len({each['delete_token'] for each in told}), 50, 'tokens')
            check_equal([each['duplicate'] for each in told].count(False), 1, 'one is new')
            check_files(cluster, before + 1, 'one file')
            for each in told[1:]:
                delete(cluster, each)
                delete(cluster, each)
            check(cluster.download(told[0]['id']) == body, 'its last uploader has it')
            delete(cluster, told[0])
            check_equal(cluster.request('GET', '/' + told[0]['id'])[0], 410, 'then it is gone')
            told = post(cluster, body, wanted=(201,))
            check(cluster.download(told['id']) == body, 'and can come again')
        check_equal(metrics(cluster, 'uploads_unchecked_total'), 0, 'unchecked')


def test_f44_f45_deletes_race_uploads_of_the_same_image():
    """Four gateways' worth of users upload one image and delete it, each his own reference, twice:
    who has uploaded reads it until he deletes it; in the end nothing is left."""
    with Cluster(gateways=2, disks=1) as cluster:
        cluster.up()
        gateways = [each['http'] for each in cluster.processes('gateway')]
        body, wrong, done = random_bytes(5_000, 45), [], []

        def user(number):
            gateway = gateways[number % 2]
            for _ in range(RACES):
                told = post(cluster, body, gateway=gateway)
                for where in gateways:
                    status, _, got = cluster.request('GET', '/' + told['id'], address=where)
                    if (status, got) != (200, body):
                        wrong.append((told, status))
                delete(cluster, told)
                delete(cluster, told)
                done.append(told['id'])
        threads = [threading.Thread(target=user, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check_equal((len(done), wrong[:3]), (8 * RACES, []), 'uploads; reads that failed')
        print(f'{len(done)} uploads, {len(set(done))} files')
        check_files(cluster, 0, 'files')
        for file_id in set(done):
            check_equal(cluster.request('GET', '/' + file_id)[0], 410, file_id)
        again = post(cluster, body, wanted=(201,))
        check(cluster.download(again['id']) == body, 'the image can come again')


def test_a_record_is_not_trusted():
    """The block file behind a record is gone: the same image is a new file, and readable."""
    with Cluster(disks=1) as cluster:
        cluster.up()
        body = random_bytes(30_000, 5)
        told = post(cluster, body, wanted=(201,))
        cluster.down()
        removed = 0
        for process in ('dataserver-1',):
            for path in glob.glob(os.path.join(cluster.dir, process, '**', '*'), recursive=True):
                if os.path.isfile(path) and holds(path, body[:4096]):
                    os.remove(path)
                    removed += 1
        check_equal(removed, 1, 'block files that hold it')
        cluster.up()
        again = post(cluster, body, wanted=(201,))
        check(again['id'] != told['id'], 'another file')
        check(cluster.download(again['id']) == body, 'it is readable')
        check_equal(post(cluster, body, wanted=(200,))['id'], again['id'], 'and shared')


def holds(path, bytes_wanted):
    with open(path, 'rb') as file:
        return bytes_wanted in file.read()


def test_commands_take_no_file_from_others():
    """`hayloft put` shares; `rm` removes one reference, and the file stays for who else has one."""
    with Cluster(disks=1) as cluster:
        cluster.up()
        body = random_bytes(30_000, 6)
        one, other = post(cluster, body, wanted=(201,)), post(cluster, body, wanted=(200,))
        check_equal(one['id'], other['id'], 'the shared file')
        path = os.path.join(cluster.dir, 'image')
        with open(path, 'wb') as file:
            file.write(body)
        third = json.loads(cluster.hayloft('put', '--json', '--content-type', one['content_type'],
                                           path).stdout)
        check_equal((third['id'], third['duplicate']), (one['id'], True), 'by `hayloft put`')
        for told in (third, one):
            cluster.hayloft('rm', one['id'], '--token', told['delete_token'])
        check(cluster.download(one['id']) == body, 'it is there for the other')
        cluster.hayloft('rm', one['id'], '--token', other['delete_token'])
        check_equal(cluster.request('GET', '/' + one['id'])[0], 410, 'nobody is left')
        again = post(cluster, body, wanted=(201,))
        cluster.hayloft('rm', '--takedown', again['id'])
        check_equal(cluster.request('GET', '/' + again['id'])[0], 410, 'it was taken down')
        # Its uploader can't undo that.
        cluster.hayloft('undelete', again['id'], '--token', again['delete_token'], wanted=1)
        cluster.hayloft('undelete', '--takedown', again['id'])
        check(cluster.download(again['id']) == body, 'an administrator can')


def test_nobody_deletes_past_the_directory():
    """Whoever wasn't told of it: a command, a gateway. Their delete is refused, the file stays."""
    with Cluster(disks=1) as cluster:
        cluster.up('--directory-shards', 0)
        told = cluster.upload(random_bytes(30_000, 7))  # and its place is in the gateway's cache
        gateway = cluster.process('gateway-1')
        without_list = arguments_of(gateway)
        again = run(f'{BIN}/hayloft', 'cluster', 'up', '--dir', cluster.dir,
                    '--directory-shards', 1, wanted=1)
        check('`hayloft cluster down` first' in again.stderr, again.stderr)
        cluster.down()
        cluster.up('--directory-shards', 1)
        body = random_bytes(30_000, 6)
        one, other = post(cluster, body, wanted=(201,)), post(cluster, body, wanted=(200,))
        refused = run(f'{BIN}/hayloft', 'rm', one['id'], '--token', one['delete_token'],
                      '--dir', '/nowhere', '--cluster', cluster.process('nameserver-1')['address'],
                      '--cluster-key-file', os.path.join(cluster.dir, 'secret'), wanted=1)
        check('name the directory' in refused.stderr, refused.stderr)
        cluster.kill(cluster.process('gateway-1'), signal.SIGTERM)
        with subprocess.Popen(without_list, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as ignorant:
            try:
                wait_until(lambda: answers(cluster), 'it serves')
                check_equal(post(cluster, body, wanted=(201,))['duplicate'], False, 'its own file')
                for each in (one, told):
                    delete(cluster, each, wanted=500)
            finally:
                ignorant.terminate()
        cluster.up()
        delete(cluster, one)
        check(cluster.download(other['id']) == body, 'it is there for the other')
        delete(cluster, other)
        delete(cluster, told)


def answers(cluster):
    with contextlib.suppress(ERRORS):
        return cluster.request('GET', '/readyz')[0] == 200
    return False


def test_without_the_directory():
    """Both nodes dead: uploads go on unchecked; deletes, names, keyed uploads are 503, and soon."""
    with Cluster() as cluster:
        cluster.up()
        body = random_bytes(9_000, 8)
        told = post(cluster, body, wanted=(201,))
        for process in cluster.processes('directory'):
            cluster.kill(process)
        own = post(cluster, body, wanted=(201,))
        check(own['id'] != told['id'], 'a file of its own')
        check(cluster.download(own['id']) == body, 'readable')
        post(cluster, body, wanted=(503,), **{KEY: 'k' * 16})
        for ask in (lambda: delete(cluster, told, wanted=503),
                    lambda: put_name(cluster, 'logo', body, 503),
                    lambda: check_equal(cluster.request('GET', '/v1/names/a')[0], 503, 'a name')):
            begun = time.monotonic()
            ask()
            check(time.monotonic() - begun < 2, 'it is said within 2 s')
        check_equal(metrics(cluster, 'uploads_unchecked_total'), 1, 'unchecked')
        wait_until(lambda: 'uploads_unchecked' in cluster.log('gateway-1'), 'the log says so', 10)
        cluster.up()
        wait_until(lambda: post(cluster, body)['duplicate'], 'duplicates are found again')
        delete(cluster, own)
        check_equal(cluster.request('GET', '/' + own['id'])[0], 410, 'its token was good')
        check(cluster.download(told['id']) == body, 'the other one stays')


def test_names():
    """Names over three shards: listed in order, page by page; overwritten, deleted; files go."""
    with Cluster(sets=['gateway.pages=none']) as cluster:
        cluster.up('--directory-shards', 3)
        body = random_bytes(3_000, 1)
        wanted, tokens = sorted(f'album/{i * 37 % 100:03}' for i in range(60)), {}
        for name in wanted:
            told = put_name(cluster, name, body, 201)
            tokens[name] = told['name_token']
        check_files(cluster, 1, 'one file for all of them')
        listed, after = [], ''
        while after is not None:
            answer = cluster.request('GET', f'/v1/names?prefix=album/&limit=7&after={after}')
            page = json.loads(answer[2])
            listed += [each['name'] for each in page['names']]
            after = page.get('after')
        check_equal(listed, wanted, 'names in order')
        name_by_id(cluster, told['id'])
        other = random_bytes(2_000, 2)
        put_name(cluster, wanted[0], other, 401)
        put_name(cluster, wanted[0], other, 200, tokens[wanted[0]])
        check(cluster.request('GET', '/v1/names/' + wanted[0])[2] == other, 'another image')
        for name in wanted:
            status = cluster.request('DELETE', '/v1/names/' + name,
                                     headers={'Hayloft-Name-Token': tokens[name]})[0]
            check_equal(status, 204, f'DELETE {name}')
        check_files(cluster, 0, 'the files went with their names')


def name_by_id(cluster, file_id):
    """Names for a stored file: only the first of them asks its shard for the epoch."""
    connection = http.client.HTTPConnection(cluster.gateway, timeout=60)  # to one thread
    looked_up = []
    for name in ('one', 'two'):
        connection.request('PUT', '/v1/names/' + name, headers={'Hayloft-Id': file_id})
        answer = connection.getresponse()
        told = json.loads(answer.read())
        check_equal((answer.status, told.get('id')), (201, file_id), f'a name by id: {told}')
        looked_up.append(directory_lookups(cluster))
        connection.request('DELETE', '/v1/names/' + name,
                           headers={'Hayloft-Name-Token': told['name_token']})
        answer = connection.getresponse()
        answer.read()
        check_equal(answer.status, 204, 'the name goes')
    connection.close()
    check_equal(looked_up[1], looked_up[0], 'look-ups for a second name')


def directory_lookups(cluster):
    return sum(metric(cluster.request('GET', '/metrics', address=process['http'])[2].decode(),
                      'hayloft_directory_lookups_total')
               for process in cluster.processes('directory'))


def put_name(cluster, name, body, wanted, token=None):
    headers = {'Content-Type': 'image/png'}
    if token is not None:
        headers['Hayloft-Name-Token'] = token
    status, _, answer = cluster.request('PUT', '/v1/names/' + name, body, headers)
    check_equal(status, wanted, f'PUT {name}: {answer[:300]!r}')
    return json.loads(answer)


class Duplicators(Threads):
    """Threads that upload, half of the time what was uploaded before, and delete some.

    An upload that got no answer is sent again under its Idempotency-Key until it has one.
    """

    def __init__(self, gateways, seed, threads=6):
        super().__init__(self.run, threads)
        self.gateways = gateways
        self.seed = seed
        self.held = {}     # token -> (id, content number)
        self.gone = {}     # likewise: the delete was answered with 204
        self.unsure = {}   # likewise: it was not
        self.unanswered = set()  # numbers of contents of which an upload got no answer
        self.uploads = self.duplicates = self.refused = self.broken = self.deletes = 0
        self.wrong = []

    def body(self, number):
        return random_bytes(500 + number % 5_000, self.seed * 100_000 + number)

    def run(self, number):
        choose = random.Random(self.seed * 1000 + number)
        connection, count = None, 0
        while not self.stopped.is_set():
            count += 1
            # Half of them anew; the others from what all threads upload, too.
            content = (number + 1) * 10_000 + count if count % 2 else choose.randrange(200)
            key = f'{self.seed}-{number}-{count}-{"k" * 16}'
            told = None
            while told is None:
                try:
                    if connection is None or connection.sock is None:
                        connection = connect(self.gateways, choose)
                    told = self.upload(connection, content, key)
                    if told and choose.random() < 0.3:
                        self.delete(connection, choose)
                except ERRORS:
                    with self.lock:
                        self.broken += 1
                    connection.close()
                    connection = None
                if told is None:
                    if self.stopped.is_set():
                        with self.lock:
                            self.unanswered.add(content)
                        return
                    self.stopped.wait(0.02)

    def upload(self, connection, content, key):
        connection.request('POST', '/v1/files', self.body(content),
                           {'Content-Type': 'image/png', KEY: key})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201):
            with self.lock:
                self.refused += 1
            return None
        told = json.loads(text)
        with self.lock:
            self.uploads += 1
            self.duplicates += told['duplicate']
            self.held[told['delete_token']] = (told['id'], content)
        return told

    def delete(self, connection, choose):
        with self.lock:
            if not self.held:
                return
            token = choose.choice(list(self.held))
            self.unsure[token] = self.held.pop(token)
            file_id, _ = self.unsure[token]
        for _ in range(3):
            connection.request('DELETE', '/v1/files/' + file_id,
                               headers={'Hayloft-Delete-Token': token})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 204:
                with self.lock:
                    self.deletes += 1
                    self.gone[token] = self.unsure.pop(token)
                return
            if answer.status != 503:
                with self.lock:
                    self.wrong.append((file_id, answer.status, text[:100]))
                return


def check_held(cluster, duplicators):
    """What somebody still refers to is read as it was, from the gateway and from each dsp."""
    for file_id, content in set(duplicators.held.values()):
        status, _, body = cluster.request('GET', '/' + file_id)
        check(status == 200, f'lost: {file_id}, {status}')
        check(body == duplicators.body(content), f'wrong: {file_id}')
    check_equal(duplicators.wrong[:3], [], 'deletes that were answered wrongly')
    files = {str(i): each for i, (each, _) in enumerate(set(duplicators.held.values()))}
    check(sum(len(each) for each in by_replica(cluster, files).values()) >= len(files), 'replicas')


def check_gone(cluster, duplicators):
    """What was deleted by all who had it answers no more. Returns how many files that are."""
    had = {file_id for each in (duplicators.held, duplicators.unsure)
           for file_id, _ in each.values()}
    gone = {file_id for file_id, content in duplicators.gone.values()
            if file_id not in had and content not in duplicators.unanswered}
    for file_id in gone:
        status = cluster.request('GET', '/' + file_id)[0]
        check(status in (404, 410), lambda each=file_id: f'deleted, and there: {each}, {status}')
    return len(gone)


def chaos(seconds, seed=None):
    """Each second a gateway or a node of the directory is killed. Returns what happened."""
    seed = seed if seed is not None else random.randrange(1 << 30)
    print(f'seed {seed}')
    kills = {'gateway': 0, 'directory': 0}
    with Cluster(dataservers=2, disks=1, gateways=2, copies=2) as cluster:
        cluster.up()
        gateways = [each['http'] for each in cluster.processes('gateway')]
        choose = random.Random(seed)
        starters = []
        with Duplicators(gateways, seed) as duplicators:
            begun = due = time.monotonic()
            while due < begun + seconds:
                due += 1
                wait_until(lambda at=due: time.monotonic() >= at, 'a second has passed')
                role = choose.choice(sorted(kills))
                with contextlib.suppress(IndexError):
                    cluster.kill(choose.choice(cluster.processes(role)))
                    kills[role] += 1
                starters.append(threading.Thread(target=cluster.up, kwargs={'wanted': None}))
                starters[-1].start()
            for starter in starters:
                starter.join()
            cluster.up()
            before = duplicators.uploads
            wait_until(lambda: duplicators.uploads >= before + 100, 'uploads after the last kill')
        cluster.up()
        check_held(cluster, duplicators)
        report = {'seconds': seconds, 'seed': seed, 'kills': kills, 'uploads': duplicators.uploads,
                  'duplicates': duplicators.duplicates, 'deletes': duplicators.deletes,
                  'refused': duplicators.refused, 'no_answer': duplicators.broken,
                  'held': len(duplicators.held), 'lost': 0, 'wrong': 0,
                  'gone': check_gone(cluster, duplicators), 'fsck': adopt_all(cluster)}
        check_held(cluster, duplicators)
        check_equal(check_gone(cluster, duplicators), report['gone'], 'files that are gone, still')
        check(report['gone'] > 0, 'some were deleted by all who had them')
        print(report)
        return report


def adopt_all(cluster):
    """fsck finds what has no record, adopts it, and then there is none."""
    cluster.down()
    cluster.up()  # closes the blocks, which are sealed then
    wait_until(lambda: cluster.status()['blocks']['closed'] == 0,
               lambda: f'all blocks are sealed: {cluster.status()["blocks"]}')
    fsck = ('fsck', '--directory', '--min-age-s', 0, '--json')
    adopted = json.loads(cluster.hayloft(*fsck, '--adopt').stdout)
    after = json.loads(cluster.hayloft(*fsck).stdout)
    check_equal((after['unknown'], after['unchecked'], after['pending']), (0, 0, 0), f'in {after}')
    return adopted


def test_kills_of_directory_and_gateway_under_duplicates():
    """kill -9 each second: nothing acknowledged is lost, no reader gets another image."""
    chaos(ARGUMENTS.seconds, ARGUMENTS.seed)


if __name__ == '__main__':
    ARGUMENTS, sys.argv[1:] = OPTIONS.parse_known_args()
    main([test_real_images_are_stored_once, test_s09_a_forged_pair_comes_back_as_itself,
          test_many_uploads_of_one_new_image_at_once_are_one_file,
          test_f44_f45_deletes_race_uploads_of_the_same_image, test_a_record_is_not_trusted,
          test_commands_take_no_file_from_others, test_without_the_directory, test_names,
          test_kills_of_directory_and_gateway_under_duplicates])
