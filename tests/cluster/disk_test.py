#!/usr/bin/env python3
"""Disks that are full, fail, are swapped or not there; and that fsync is real.

Faults are injected into running dsps by strace, a full disk is a small tmpfs.
"""

import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import time

from harness import (BIN, Cluster, alive, check, check_equal, main, random_bytes, run, wait_until)
from straces import Strace, read_trace

WRITES = 'pwrite64,pwritev,pwritev2'
SYNCS = 'fdatasync,fsync'


def check_fsync_is_real(uploads=100, copies=1):
    """For each upload, on each replica: its bytes are written, then an fdatasync begins and returns
    0, then comes the answer. Each dsp is on a machine of its own, so that all have a replica."""
    with Cluster(directory_shards=0, dataservers=copies, disks=1, copies=copies) as cluster:
        cluster.up()
        wait_until(lambda: all_sets_are_whole(cluster, copies), 'blocks with all copies')
        dsps = cluster.processes('dsp')
        pids = [process['pid'] for process in [*dsps, cluster.process('gateway-1')]]
        path = os.path.join(cluster.dir, 'trace')
        ids, sizes = [], []
        traced = f'trace={WRITES},{SYNCS},write,writev,sendmsg,sendto'
        with Strace(pids, path, '-e', traced) as trace:
            for i in range(uploads):
                body = f'hayloft-mark-{i:05}-'.encode() + random_bytes(200 + i * 170)
                ids.append(cluster.upload(body)['id'])
                sizes.append(len(body))
            trace.wait_for(lambda call: is_answer(call, ids[-1]), 'the last answer')
        calls = read_trace(path)
        for i, file_id in enumerate(ids):
            check_one_upload(calls, (f'hayloft-mark-{i:05}-', sizes[i]), file_id,
                             [d['data'] for d in dsps])
        syncs = sum(call.name in SYNCS for call in calls)
        check(syncs >= uploads * copies,
              f'{syncs} syncs for {uploads} uploads one after the other')
        return {'uploads': uploads, 'syncs': syncs, 'proven': len(ids)}


def all_sets_are_whole(cluster, copies):
    blocks = cluster.status()['blocks']
    return blocks['open'] == 2 * copies and blocks['short_of_members'] == 0


def is_answer(call, file_id):
    return 'HTTP/1.1 201' in call.arguments and file_id in call.arguments


def check_one_upload(calls, body, file_id, disks):
    mark, size = body
    answers = [c for c in calls if is_answer(c, file_id)]
    check_equal(len(answers), 1, f'answers that name {file_id}')
    for disk in disks:
        written = [c for c in calls if c.name in WRITES.split(',') and mark in c.arguments and
                   f'<{disk}/' in c.arguments.split(',')[0]]
        check_equal(len(written), 1, f'writes of {mark} to a block in {disk}')
        check(int(written[0].result) > size, 'all of its bytes, in one write')
        block_file = written[0].arguments.split(',')[0]
        covering = [c for c in calls if c.name in SYNCS.split(',') and
                    c.arguments.split(',')[0] == block_file and c.order > written[0].ended and
                    c.result == '0' and c.ended < answers[0].order]
        check(covering, f'a sync of {block_file} between the write of {mark} and its answer')


def test_an_answer_comes_after_its_fdatasync():
    """strace of gateway and dsp, 100 uploads."""
    check_fsync_is_real()


def test_an_answer_comes_after_an_fdatasync_on_each_of_three_replicas():
    """strace of gateway and three dsps, 20 uploads."""
    check_fsync_is_real(20, copies=3)


def mounted(folder, size):
    """A tmpfs of its own at the folder; False where mounting is not allowed."""
    os.makedirs(folder)
    return subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder],
                          check=False, capture_output=True).returncode == 0


def test_f22_a_full_disk_refuses_uploads_and_serves_the_rest():
    """507 on a full tmpfs; reads, deletes and a restart go on; space comes back after it."""
    with Cluster(directory_shards=0, dataservers=1, disks=1,
                 sets=['dsp.block_bytes=4194304', 'dsp.pool_files=1',
                       'gateway.upload_bytes_max=1000000']) as cluster:
        disk = os.path.join(cluster.dir, 'dataserver-1', 'disk-1')
        if not mounted(disk, '48m'):
            print('skipped: mounting is not allowed here')
            return
        try:
            fill_the_disk(cluster, disk)
        finally:
            cluster.down(wanted=None)
            run('umount', '-l', disk)


def fill_the_disk(cluster, disk):
    cluster.up()
    files, last = {}, None
    for i in range(400):
        body = random_bytes(200_000 + i)
        status, _, answer = cluster.request('POST', '/v1/files', body)
        last = status, json.loads(answer)
        if status == 507:
            break
        check(status in (201, 503), lambda: f'upload {i}: {status} {answer[:200]!r}')
        if status == 201:
            files[last[1]['id']] = body, last[1]['delete_token']
    check_equal(last[0], 507, f'status of an upload onto a full disk ({last[1]})')
    check(len(files) * 200_000 > 20_000_000, f'{len(files)} files found room')
    file_id, (_, token) = next(iter(files.items()))
    status, _, _ = cluster.request('DELETE', '/v1/files/' + file_id,
                                   headers={'Hayloft-Delete-Token': token})
    check_equal(status, 204, 'DELETE on a full disk')
    del files[file_id]
    for round_ in range(2):
        for other, (body, _) in files.items():
            check(cluster.download(other) == body, f'{other} on a full disk')
        check_equal(cluster.request('GET', '/' + file_id)[0], 410, 'the deleted one')
        if round_ == 0:
            cluster.kill(cluster.process('dsp-1-1'))
            wait_until(lambda: not_failed(cluster, 'dsp-1-1'), 'it comes back')
    check(alive(cluster.process('dsp-1-1')['pid']), 'a full disk is no failed one')
    check(shutil.disk_usage(disk).free > 0, 'the reserve is kept')


def not_failed(cluster, name):
    """The dsp runs and reads work."""
    states = {dsp['address']: dsp['state'] for dsp in cluster.status()['dsps']}
    found = [p for p in cluster.processes('dsp') if p['name'] == name]
    with contextlib.suppress(OSError):
        return found and alive(found[0]['pid']) and states.get(found[0]['address']) == 'up' and \
            cluster.request('GET', '/readyz', address=found[0]['http'])[0] == 200
    return False


def busy_dsp(cluster):
    """The one that uploads go to: they keep company in one block as long as it answers."""
    file_id = cluster.upload(random_bytes(3000))['id']
    told = json.loads(cluster.hayloft('stat', '--json', file_id).stdout)
    return next(process for process in cluster.processes('dsp')
                if process['address'] == told['replicas'][0]['dsp'])


def fail_a_disk(calls, error):
    """One of two disks fails: uploads go on, its dsp leaves and is started read-only."""
    with Cluster(directory_shards=0, dataservers=1, disks=2) as cluster:
        cluster.up()
        stored = {}
        for i in range(20):
            body = random_bytes(5000 + i)
            stored[cluster.upload(body)['id']] = body
        victim = busy_dsp(cluster)
        trace = os.path.join(cluster.dir, 'trace')
        read_only = error == 'EROFS'
        with Strace([victim['pid']], trace, '-e', f'trace={calls}',
                    '-e', f'inject={calls}:error={error}'):
            for i in range(20):
                body = random_bytes(9000 + i)
                stored[cluster.upload(body)['id']] = body
            if read_only:  # as long as the file system is
                check_reads(cluster, stored)
                check(alive(victim['pid']), 'the dsp lives')
                check(not glob.glob(f'{cluster.dir}/dataserver-1/*.failed'), 'no disk is marked')
            else:
                wait_until(lambda: not alive(victim['pid']), 'the dsp leaves')
        if calls == SYNCS:
            check_no_second_sync(trace, victim['data'])
        with open(trace, encoding='utf-8', errors='replace') as file:
            check('INJECTED' in file.read(), 'the fault happened')
        if not read_only:
            check_marked(cluster, victim, stored, writes_fail=calls == WRITES)
        return cluster.log(victim['name'])


def check_no_second_sync(trace, data):
    """A second sync of the same file would answer success, and what it is about be gone."""
    calls = [call for call in read_trace(trace) if call.name in SYNCS.split(',')]
    files = [call.arguments.split(',')[0] for call in calls]
    check(files, 'syncs were asked for')
    for file in set(files):
        check_equal(files.count(file), 1, f'syncs of {file} in {data} after one that failed')


def check_marked(cluster, victim, stored, writes_fail):
    """Marked, served read-only from then on, and writable again when an operator says so."""
    name = victim['name']
    mark = os.path.join(cluster.dir, 'dataserver-1', name + '.failed')
    wait_until(lambda: os.path.exists(mark), 'the disk is marked as failed')
    wait_read_only(cluster, name, victim['pid'])
    check_reads(cluster, stored)
    before = cluster.process(name)['pid']
    done = cluster.up()  # succeeds: a write would
    check(f'{name} is served read-only (disk_failed)' in done.stderr, f'up says: {done.stderr!r}')
    check_equal(cluster.process(name)['pid'], before, 'the process after up')
    cluster.kill(cluster.process(name))
    wait_read_only(cluster, name, before)  # a crash makes no healthy disk of it
    if not writes_fail:  # else the superblock could not be marked either
        before = cluster.process(name)['pid']
        os.remove(mark)
        cluster.up()  # the superblock knows it too
        wait_until(lambda: os.path.exists(mark), 'the dsp itself refuses')
        wait_read_only(cluster, name, before)
    dataserver = cluster.process('dataserver-1')
    os.kill(dataserver['pid'], signal.SIGTERM)
    wait_until(lambda: not alive(dataserver['pid']), 'the dataserver ends')
    clear = [f'{BIN}/hayloft-dsp', '--clear-failed', f'--data={victim["data"]}']
    run(*clear, '--cluster-id=' + 'ff' * 16, wanted=78)
    run(*clear, f'--cluster-id={cluster_id(cluster)}')
    os.remove(mark)
    check_equal(cluster.up().stderr.count('disk_failed'), 0, 'failed disks after the mark is off')
    wait_until(lambda: not_failed(cluster, name), 'it is up')
    check_reads(cluster, stored)


def wait_read_only(cluster, name, old_pid):
    """The nameserver calls its disk failed or read-only, and the dsp of it runs."""
    def seen():
        found = [p for p in cluster.processes('dsp') if p['name'] == name]
        states = {dsp['address']: dsp['state'] for dsp in cluster.status()['dsps']}
        return found and found[0]['pid'] != old_pid and alive(found[0]['pid']) and \
            states.get(found[0]['address']) == 'failed'
    wait_until(seen, 'a dsp that only reads')


def check_reads(cluster, stored):
    wait_until(lambda: all(cluster.request('GET', '/' + file_id)[2] == body
                           for file_id, body in stored.items()), 'all is read')


def cluster_id(cluster):
    with open(os.path.join(cluster.dir, 'options.json'), encoding='utf-8') as file:
        return json.load(file)['cluster_id']


def test_f20_eio_on_write_fails_the_disk_and_nothing_else():
    """No acknowledgement from it, uploads elsewhere, marked, not started again."""
    fail_a_disk(WRITES, 'EIO')


def test_f21_eio_on_fsync_fails_the_disk_and_is_not_retried():
    """The process leaves with 74; what it had acknowledged can be read."""
    fail_a_disk(SYNCS, 'EIO')


def test_f24_a_read_only_file_system_keeps_serving_reads():
    """EROFS: uploads go elsewhere; it is no failed disk."""
    log = fail_a_disk(WRITES, 'EROFS')
    check('disk_read_only' in log, 'the log says so')


def test_f65_a_dsp_whose_fsync_hangs_counts_as_silent():
    """Its loop lives and answers; uploads are answered in time, by the other disk."""
    with Cluster(directory_shards=0, dataservers=2, disks=1) as cluster:
        cluster.up()
        victim = busy_dsp(cluster)
        states = set()
        with Strace([victim['pid']], os.path.join(cluster.dir, 'trace'), '-e', f'trace={SYNCS}',
                    '-e', f'inject={SYNCS}:delay_enter=9000000'):
            end = time.monotonic() + 8
            while time.monotonic() < end:
                begun = time.monotonic()
                status, _, _ = cluster.request('POST', '/v1/files', random_bytes(5000))
                took = time.monotonic() - begun
                check(status in (201, 503) and took < 6, lambda: f'{status} after {took:.1f} s')
                states |= {dsp['state'] for dsp in cluster.status()['dsps']
                           if dsp['address'] == victim['address']}
            check('suspect' in states, lambda: f'its states were {states}')
            check_equal(status, 201, 'an upload once it is suspect')
            check(alive(victim['pid']), 'its process lives')


def test_f50_swapped_disks_are_welcome_and_a_clone_is_refused():
    """A disk is known by its id, wherever it is; two with one id are not served both."""
    with Cluster(directory_shards=0, dataservers=2, disks=1) as cluster:
        cluster.up()
        stored = {}
        for i in range(30):
            body = random_bytes(5000 + i)
            stored[cluster.upload(body)['id']] = body
        cluster.down()
        first, second = (os.path.join(cluster.dir, f'dataserver-{i}', 'disk-1') for i in (1, 2))
        os.rename(first, first + '.away')
        os.rename(second, first)
        os.rename(first + '.away', second)
        cluster.up()
        for file_id, body in stored.items():
            check(cluster.download(file_id) == body, f'{file_id} after the swap')
        check_clone_refused(cluster, stored)


def check_clone_refused(cluster, stored):
    """A copy of a disk, while the original runs and after: exit 78, one line, nothing touched."""
    victim = cluster.process('dsp-1-1')
    clone = os.path.join(cluster.dir, 'clone')
    # The dsp makes a pool file meanwhile: an unfinished one gets its name when it is whole.
    shutil.copytree(victim['data'], clone, ignore=shutil.ignore_patterns('*.tmp'))
    before = image(clone)
    command = [f'{BIN}/hayloft-dsp', f'--data={clone}', f'--cluster-id={cluster_id(cluster)}',
               f'--cluster-key-file={cluster.dir}/secret', '--name=clone', '--machine=machine-9',
               '--nameservers=' + ','.join(p['address'] for p in cluster.processes('nameserver')),
               f'--log-file={cluster.dir}/log/clone.log']

    def refused(text):
        done = run(*command, wanted=78)
        check_equal(done.stderr.count('\n'), 1, f'lines of {done.stderr!r}')
        check(text in done.stderr, f'it says why: {done.stderr!r}')
        check(image(clone) == before, 'the clone is as it was, byte for byte')
    refused('served on this machine')
    cluster.kill(victim)  # the original starts again, which raises its incarnation, twice
    wait_until(lambda: not_failed(cluster, 'dsp-1-1'), 'it is up again')
    cluster.kill(cluster.process('dsp-1-1'))
    wait_until(lambda: not_failed(cluster, 'dsp-1-1'), 'and again')
    cluster.kill(cluster.process('dataserver-1'))  # which would start the original again
    cluster.kill(cluster.process('dsp-1-1'))
    refused('that the nameserver knows')
    cluster.up()
    check_reads(cluster, stored)


def image(folder):
    files = {}
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), 'rb') as file:
                files[os.path.join(path, name)] = file.read()
    return files


def test_f51_an_emptied_mount_is_not_formatted_and_up_says_so():
    """The rest of the cluster starts; the folder stays empty."""
    with Cluster(directory_shards=0, dataservers=1, disks=2) as cluster:
        cluster.up()
        cluster.down()
        disk = os.path.join(cluster.dir, 'dataserver-1', 'disk-2')
        os.rename(disk, disk + '.away')
        os.mkdir(disk)
        done = cluster.up()
        check('dsp-1-2 is not served (configuration)' in done.stderr, f'up: {done.stderr!r}')
        check_equal(os.listdir(disk), [], 'what was written into the empty folder')
        cluster.upload(random_bytes(1000))
        os.rmdir(disk)
        os.rename(disk + '.away', disk)
        cluster.up()
        check_equal(len([d for d in cluster.status()['dsps'] if d['state'] == 'up']), 2, 'dsps up')


def test_s18_no_secret_in_logs_or_on_command_lines():
    """Neither the cluster's key nor a delete token."""
    with Cluster(directory_shards=0) as cluster:
        cluster.up()
        told = cluster.upload(random_bytes(1000))
        cluster.request('DELETE', '/v1/files/' + told['id'],
                        headers={'Hayloft-Delete-Token': told['delete_token']})
        with open(os.path.join(cluster.dir, 'secret'), encoding='utf-8') as file:
            secrets = [file.read().strip(), told['delete_token']]
        texts = [cluster.log(p['name']) for p in cluster.processes()]
        for process in cluster.processes():
            with open(f'/proc/{process["pid"]}/cmdline', encoding='utf-8') as file:
                texts.append(file.read())
        for secret in secrets:
            check(not any(re.search(re.escape(secret), text) for text in texts), 'a secret shows')


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])
