#!/usr/bin/env python3
"""The directory or the gateway is killed at each step of uploads, deletes, undeletes and names
(F11, F72). Test builds only: a release build has no failpoints.

    steps_test.py [--seed N] [--kills N] [test ...]

Users repeat what got no answer until it has one. In the end all is as they were told: what somebody
refers to is read, what the last one let go of is gone, nothing is half done, and `fsck` adopts what
has no record.
"""

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import time

from dedup_test import KEY, adopt_all
from directory_test import nodes, told
from harness import (BIN, MODE, Cluster, alive, check, check_equal, main, random_bytes, wait_until)
from load import ERRORS, Threads
from rights_test import fixture

OPTIONS = argparse.ArgumentParser()
OPTIONS.add_argument('--seed', type=int, default=None)
OPTIONS.add_argument('--kills', type=int, default=1, help='at each step')
SHARDS = 2

# What a directory node has decided, logged, applied, told the dsps or another shard, answered.
DIRECTORY = ('ha_log_append_before', 'ha_log_append_after', 'ha_apply_after', 'rpc_call_SetDelete',
             'rpc_done_SetDelete', 'rpc_call_DirDelete', 'rpc_done_DirDelete',
             'rpc_reply_DirLookup', 'rpc_reply_DirUpload', 'rpc_reply_DirReference',
             'rpc_reply_DirDelete', 'rpc_reply_DirUndelete', 'rpc_reply_DirNamePut',
             'rpc_reply_DirNameDelete')
# What a gateway has asked of the directory and the dsps, and been answered.
GATEWAY = ('rpc_done_DirLookup', 'rpc_call_Append', 'rpc_done_Append', 'rpc_call_DirUpload',
           'rpc_done_DirUpload', 'rpc_done_DirReference', 'rpc_done_DirDelete',
           'rpc_call_DirUndelete', 'rpc_done_DirUndelete', 'rpc_done_DirNameGet',
           'rpc_call_DirNamePut', 'rpc_done_DirNamePut', 'rpc_done_DirNameDelete')


class Users(Threads):
    """Each has references and names of its own; the images are those of all.

    Images of names are no others': a name whose writing got no answer may leave a reference behind.
    """

    def __init__(self, cluster, keys, seed, threads=4):
        super().__init__(self.run, threads)
        self.cluster = cluster
        self.bearer = keys.bearer
        self.seed = seed
        self.held = {}     # token -> (id, image)
        self.deleted = {}  # likewise
        self.names = {}    # name -> image; None: deleted
        self.done = {'upload': 0, 'delete': 0, 'undelete': 0, 'name': 0, 'unname': 0}
        self.repeated = 0
        self.wrong = []

    def body(self, image):
        return random_bytes(400 + image % 700, self.seed * 10_000 + image)

    def ask(self, method, path, body=None, **headers):
        """(status, body), as soon as it is no 503; None at the end."""
        headers = dict(self.bearer, **{name.replace('_', '-'): each
                                       for name, each in headers.items()})
        while True:
            connection = http.client.HTTPConnection(self.cluster.gateway, timeout=20)
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 503:
                    return answer.status, text
            except ERRORS:
                pass
            finally:
                connection.close()
            with self.lock:
                self.repeated += 1
            if self.stopped.is_set():
                return None
            self.stopped.wait(0.02)

    def run(self, number):
        choose = random.Random(self.seed * 100 + number)
        mine = []  # tokens
        count = 0
        while not self.stopped.is_set():
            count += 1
            step = choose.choice(('upload', 'upload', 'delete', 'undelete', 'name', 'unname'))
            if step == 'upload':
                self.upload(choose.randrange(40), f'{self.seed}-{number}-{count}-{"k" * 16}', mine)
            elif step in ('name', 'unname'):
                self.name(step, f'{number}-{choose.randrange(3)}', 1_000 + choose.randrange(20))
            elif mine:
                self.change(step, choose.choice(mine))

    def finish(self, step, answer, wanted):
        """Whether it was answered; counts it."""
        if answer is None:
            return False
        with self.lock:
            self.done[step] += 1
            if answer[0] not in wanted:
                self.wrong.append((step, answer))
        return answer[0] in wanted

    def upload(self, image, key, mine):
        answer = self.ask('POST', '/v1/files', self.body(image), Content_Type='image/png',
                          **{KEY: key})
        if self.finish('upload', answer, (200, 201)):
            got = json.loads(answer[1])
            with self.lock:
                self.held[got['delete_token']] = (got['id'], image)
            mine.append(got['delete_token'])

    def change(self, step, token):
        source, target = (self.held, self.deleted) if step == 'delete' else \
            (self.deleted, self.held)
        with self.lock:
            taken = source.pop(token, None)  # until it is answered it may be either
        if taken is None:
            return
        method, path = ('DELETE', '') if step == 'delete' else ('POST', '/undelete')
        answer = self.ask(method, '/v1/files/' + taken[0] + path, Hayloft_Delete_Token=token)
        if self.finish(step, answer, (200, 204)):
            with self.lock:
                target[token] = taken

    def name(self, step, name, image):
        path = '/v1/names/' + name
        if step == 'unname':
            answer = self.ask('DELETE', path)
            wanted = (204, 404)
        else:
            answer = self.ask('PUT', path, self.body(image), Content_Type='image/png')
            wanted = (200, 201)
        while answer is not None and answer[0] == 409:  # what was asked before came to it late
            answer = self.ask('DELETE', path) if step == 'unname' else \
                self.ask('PUT', path, self.body(image), Content_Type='image/png')
        if self.finish(step, answer, wanted):
            with self.lock:
                self.names[name] = image if step == 'name' else None
        else:
            with self.lock:
                self.names.pop(name, None)

    def check_all(self):
        """All is as it was said. Returns how much that was."""
        check_equal(self.wrong[:3], [], 'answers that nothing explains')
        for file_id, image in set(self.held.values()):
            status, _, body = self.cluster.request('GET', '/' + file_id)
            check((status, body) == (200, self.body(image)), lambda: f'lost: {file_id}, {status}')
        gone = {file_id for file_id, _ in self.deleted.values()}
        gone -= {file_id for file_id, _ in self.held.values()}
        for file_id in gone:
            check_equal(self.cluster.request('GET', '/' + file_id)[0], 410, f'deleted: {file_id}')
        for name, image in self.names.items():
            status, _, body = self.cluster.request('GET', '/v1/names/' + name)
            wanted = (404, None) if image is None else (200, self.body(image))
            check((status, body if image is not None else None) == wanted,
                  lambda: f'name {name}: {status}')  # pylint: disable=W0640
        return {'held': len(self.held), 'gone': len(gone), 'names': len(self.names),
                'repeated': self.repeated, **self.done}


def kill_all(cluster, role):
    for process in cluster.processes(role):
        cluster.kill(process)
        wait_until(lambda: not alive(process['pid']), 'it is dead')  # pylint: disable=W0640


def kill_at(cluster, role, point, count):
    """Ends all processes of the role and starts them so that they end themselves there."""
    kill_all(cluster, role)
    before = {process['pid'] for process in cluster.processes(role)}
    with subprocess.Popen([f'{BIN}/hayloft', 'cluster', 'up', '--dir', cluster.dir],
                          env=dict(os.environ, HAYLOFT_FAILPOINT=f'{point}:{count}'),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as up:
        wait_until(lambda: not before & {process['pid'] for process in cluster.processes(role)},
                   'they are started')
        wait_until(lambda: not all(alive(process['pid']) for process in cluster.processes(role)),
                   f'{role} is killed at {point}:{count}')
        up.kill()


def kills_at(role, points):
    seed = ARGUMENTS.seed if ARGUMENTS.seed is not None else random.randrange(1 << 20)
    print(f'seed {seed}')
    choose = random.Random(seed)

    def make(sets):
        return Cluster(disks=1, directory_shards=SHARDS, sets=sets)
    with fixture(make) as (cluster, keys):
        with Users(cluster, keys, seed) as users:
            for point in points * ARGUMENTS.kills:
                begun = time.monotonic()
                kill_at(cluster, role, point, choose.randrange(1, 4))
                print(f'{point}: {time.monotonic() - begun:.1f} s', flush=True)
            kill_all(cluster, role)  # some may not have come to the last place yet
            cluster.up()
            before = sum(users.done.values())
            wait_until(lambda: sum(users.done.values()) >= before + 50, 'all goes on')
        check_replayed(cluster)
        print(users.check_all())
        adopt_all(cluster)
        users.check_all()
        for image in range(40):  # no record points at a dead file
            status, answer = users.ask('POST', '/v1/files', users.body(image),
                                       Content_Type='image/png')
            check(status in (200, 201), lambda: f'{status} {answer!r}')  # pylint: disable=W0640
            check(cluster.download(json.loads(answer)['id']) == users.body(image), 'it is read')


def check_replayed(cluster):
    def nothing_pending():
        for shard in range(SHARDS):
            active, _ = nodes(cluster, shard)
            if active is None or told(cluster, active, 'pending') != 0 or \
                    told(cluster, active, 'drops') != 0:
                return False
        return True
    wait_until(nothing_pending, 'what is pending is replayed')


def test_f11_f72_the_directory_is_killed_at_each_step():
    """Its records are whole or not there, and what they say is made true on the dsps."""
    kills_at('directory', DIRECTORY)


def test_f11_f72_the_gateway_is_killed_at_each_step():
    """What it had begun is finished by whoever asks again, or costs space."""
    kills_at('gateway', GATEWAY)


if __name__ == '__main__':
    ARGUMENTS, sys.argv[1:] = OPTIONS.parse_known_args()
    if MODE == 'release':
        print('skipped: a release build has no failpoints')
        main([])
    main([test_f11_f72_the_directory_is_killed_at_each_step,
          test_f11_f72_the_gateway_is_killed_at_each_step])
