#!/usr/bin/env python3
"""Stopping and starting: in any order, after any end, with a part lost."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import time

from harness import Cluster, alive, check, check_equal, main, random_bytes, wait_until

ROLES = ('nameserver', 'dataserver', 'gateway')


def fill(cluster, count=60):
    """Uploads files of several sizes and deletes every tenth: ({id: body}, [deleted ids])."""
    files, deleted = {}, []
    for i in range(count):
        body = random_bytes(1 + i * 1777, i)
        told = cluster.upload(body)
        files[told['id']] = body
        if i % 10 == 0:
            status, _, _ = cluster.request('DELETE', '/v1/files/' + told['id'], headers={
                'Hayloft-Delete-Token': told['delete_token']})
            check_equal(status, 204, 'DELETE')
            deleted.append(told['id'])
            del files[told['id']]
    return files, deleted


def check_files(cluster, files, deleted):
    for file_id, body in files.items():
        check(cluster.download(file_id) == body, f'{file_id} is as it was')
    for file_id in deleted:
        check_equal(cluster.request('GET', '/' + file_id)[0], 410, f'{file_id} stays deleted')
    wait_until(lambda: cluster.status()['files'] ==
               {'live': len(files), 'deleted': len(deleted), 'lost': 0},
               lambda: f'status counts them: {cluster.status()["files"]}')


def test_down_and_up_keep_everything():
    """After `down` nothing runs and cluster.json is empty; `up` finds all as it was."""
    with Cluster() as cluster:
        cluster.up()
        files, deleted = fill(cluster)
        before = cluster.processes()
        start = time.monotonic()
        cluster.down()
        check(time.monotonic() - start < 30, 'down took less than 30 s')
        check_equal(cluster.processes(), [], 'cluster.json after down')
        check(not any(alive(process['pid']) for process in before), 'nothing runs')
        cluster.down()  # a second time is fine
        cluster.up()
        addresses = {process['name']: process['address'] for process in cluster.processes()}
        check_equal(addresses, {p['name']: p['address'] for p in before}, 'addresses')
        check_files(cluster, files, deleted)


def test_f49_killed_all_at_once_and_started_in_any_order():
    """Each order of the roles: ready within 60 s, with every file and every delete."""
    with Cluster() as cluster:
        cluster.up()
        files, deleted = fill(cluster, 30)
        commands = {}
        for role in ROLES:
            for process in cluster.processes(role):
                with open(f'/proc/{process["pid"]}/cmdline', encoding='utf-8') as file:
                    commands[role] = file.read().rstrip('\0').split('\0')
        for order in itertools.permutations(ROLES):
            for process in cluster.processes():
                cluster.kill(process)
            wait_until(lambda: not any(alive(p['pid']) for p in cluster.processes()), 'all dead')
            started = []
            for role in order:
                log = next(word.removeprefix('--log-file=') for word in commands[role]
                           if word.startswith('--log-file='))
                before = os.path.getsize(log)
                started.append(subprocess.Popen(commands[role], stdin=subprocess.DEVNULL,
                                                stdout=subprocess.DEVNULL,
                                                stderr=subprocess.DEVNULL))
                wait_until(lambda: os.path.getsize(log) > before, f'{role} runs, in {order}')
            try:
                wait_until(lambda: can_write(cluster), f'a write succeeds: {order}')
                check_files(cluster, files, deleted)
            finally:
                for process in started:
                    process.kill()
                    process.wait()
            file_id = next(iter(files))
            files[file_id] = files[file_id]
        cluster.up()
        check_files(cluster, files, deleted)


def can_write(cluster):
    """A write would succeed: asked without writing, so that the counts stay as they are."""
    try:
        return cluster.request('GET', '/readyz')[0] == 200 and cluster.hayloft(
            'status', wanted=None).returncode == 0
    except OSError:
        return False


def test_f10_the_nameservers_store_is_rebuilt_from_reports():
    """Its folder is removed: up refuses without --rebuild; with it all is there again."""
    with Cluster() as cluster:
        cluster.up()
        files, deleted = fill(cluster)
        cluster.down()
        shutil.rmtree(os.path.join(cluster.dir, 'nameserver-1'))
        done = cluster.up(wanted=1)
        check('--rebuild' in done.stderr, f'the way out is named: {done.stderr!r}')
        os.makedirs(os.path.join(cluster.dir, 'nameserver-1', 'leveldb'))  # killed just then
        done = cluster.up(wanted=1)
        check('--rebuild' in done.stderr, f'the way out is named: {done.stderr!r}')
        cluster.up('--rebuild')
        check_files(cluster, files, deleted)
        cluster.down()
        cluster.up('--rebuild')  # said once more, of a sound store
        check_files(cluster, files, deleted)
        body = random_bytes(10_000)
        told = cluster.upload(body)
        check(told['id'] not in files and told['id'] not in deleted, 'no id is given twice')
        files[told['id']] = body
        cluster.down()
        cluster.up()
        check_files(cluster, files, deleted)


def test_down_ends_stopped_processes_too():
    """SIGSTOPped ones are killed; exit 0, within 30 s."""
    with Cluster() as cluster:
        cluster.up()
        processes = cluster.processes()
        for name in ('gateway-1', 'dsp-1-1', 'nameserver-1'):
            cluster.kill(cluster.process(name), signal.SIGSTOP)
        start = time.monotonic()
        cluster.down()
        check(time.monotonic() - start < 30, 'down took less than 30 s')
        check(not any(alive(process['pid']) for process in processes), 'nothing runs')
        cluster.up()
        for process in cluster.processes():
            cluster.kill(process)
        cluster.down()  # all were gone already
        check_equal(cluster.processes(), [], 'cluster.json')


def test_f33_f65_a_stopped_dsp_is_replaced_and_uploads_go_on():
    """SIGSTOP of one dsp: uploads go elsewhere, its files are back when it was restarted."""
    with Cluster(disks=2, sets=['dataserver.hang_ms=3000']) as cluster:
        cluster.up()
        files, deleted = fill(cluster, 30)
        stopped = cluster.process('dsp-1-1')
        cluster.kill(stopped, signal.SIGSTOP)
        for i in range(10):
            body = random_bytes(3000 + i)
            files[cluster.upload(body)['id']] = body
        wait_until(lambda: [p for p in cluster.processes('dsp')
                            if p['name'] == 'dsp-1-1' and p['pid'] != stopped['pid']],
                   'the stopped dsp is replaced')
        cluster.up()
        check_files(cluster, files, deleted)


def test_up_starts_what_is_missing_and_nothing_else():
    """One killed process of each role comes back under its address; the others keep their pids."""
    with Cluster(dataservers=2, disks=1) as cluster:
        cluster.up()
        files, deleted = fill(cluster, 20)
        for name in ('gateway-1', 'nameserver-1', 'dataserver-2'):
            before = {p['name']: p['pid'] for p in cluster.processes()}
            cluster.kill(cluster.process(name))
            wait_until(lambda: not alive(before[name]), 'it is dead')  # pylint: disable=W0640
            cluster.up()
            after = {p['name']: p['pid'] for p in cluster.processes()}
            check(after.pop(name) != before.pop(name), f'{name} is another process')
            check_equal(after, before, f'the others after {name} was killed')
        check_files(cluster, files, deleted)


def test_reads_go_on_without_the_nameserver():
    """Locations in hand serve reads; uploads go on with grants in hand."""
    with Cluster() as cluster:
        cluster.up()
        files, _ = fill(cluster, 20)
        for file_id, body in files.items():
            check(cluster.download(file_id) == body, file_id)
        cluster.kill(cluster.process('nameserver-1'))
        for file_id, body in files.items():
            check(cluster.download(file_id) == body, f'{file_id} without a nameserver')
        status, _, answer = cluster.request('POST', '/v1/files', b'with a grant in hand')
        check(status == 201, lambda: f'upload without a nameserver: {status} {answer[:200]!r}')
        files[json.loads(answer)['id']] = b'with a grant in hand'
        cluster.up()
        for file_id, body in files.items():
            check(cluster.download(file_id) == body, f'{file_id} with a new nameserver')


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])
