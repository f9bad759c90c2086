#!/usr/bin/env python3
"""The directory's processes: two nodes a shard, who takes over, what a lost store costs.

Records are made by `hayloft fsck --directory --adopt`, and asked for by `hayloft fsck --directory`.
"""

import glob
import json
import os
import shutil
import signal
import time

from harness import (BIN, Cluster, alive, check, check_equal, main, metric, random_bytes, run,
                     wait_until)
from load import ERRORS

FILES = 40
CRASH_S, STOP_S = 1.0, 6.0


def asked(cluster, process):
    """/metrics of a node as text; None if it doesn't answer now."""
    try:
        status, _, body = cluster.request('GET', '/metrics', address=process['http'], timeout=0.5)
    except ERRORS:
        return None
    return body.decode() if status == 200 else None


def told(cluster, process, name):
    text = asked(cluster, process)
    return text and metric(text, 'hayloft_directory_' + name)


def nodes(cluster, shard=0):
    """(the active one or None, the others)"""
    all_nodes = [p for p in cluster.processes('directory')
                 if p['name'].startswith(f'directory-{shard}-')]
    active = [each for each in all_nodes if told(cluster, each, 'active') == 1]
    check(len(active) < 2, lambda: f'two answer: {active}')
    return active[0] if active else None, [each for each in all_nodes if each not in active]


def wait_both(cluster, shard=0):
    def whole():
        active, others = nodes(cluster, shard)
        return active and all(told(cluster, each, 'in_sync') == 1 for each in [active] + others)
    wait_until(whole, f'both nodes of shard {shard} are in sync', 40)
    return nodes(cluster, shard)


def fsck(cluster, *words):
    return json.loads(cluster.hayloft('fsck', '--directory', '--min-age-s', 0, '--json',
                                      *words).stdout)


def filled(cluster, *words):
    """A cluster of sealed blocks whose files the directory knows: their ids."""
    cluster.up(*words)
    files = {cluster.upload(body)['id']: body
             for body in (random_bytes(1000 + i, i) for i in range(FILES))}
    cluster.down()  # closes the blocks
    cluster.up()
    wait_until(lambda: fsck(cluster)['files'] == FILES,
               lambda: f'all blocks with files are sealed: {cluster.status()["blocks"]}')
    found = fsck(cluster, '--adopt')
    check_equal((found['known'] + found['adopted'], found['unknown']), (FILES, 0), f'in {found}')
    check_known(cluster)
    return files


def check_known(cluster, pinned=0):
    found = fsck(cluster)
    check_equal({name: found[name] for name in ('known', 'unknown', 'pinned', 'unchecked')},
                {'known': FILES, 'unknown': 0, 'pinned': pinned, 'unchecked': 0}, 'fsck')
    wait_until(lambda: pinned_as_told(cluster) == pinned, 'its gauge', 10)


def pinned_as_told(cluster):
    active, _ = nodes(cluster)
    return active and told(cluster, active, 'pinned')


def takeover_s(cluster, name):
    begun = time.monotonic()
    wait_until(lambda: told(cluster, cluster.process(name), 'active') == 1, f'{name} is active', 30)
    return time.monotonic() - begun


def flip(path, *places):
    """A bit of the byte at each of these places of a file, as it lies; default: of one byte in its
    middle."""
    with open(path, 'r+b') as file:
        for place in places or [os.path.getsize(path) // 2]:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 0x10]))


def test_f11_the_other_node_takes_over():
    """kill -9 and SIGSTOP of the active one: the other serves, and knows all that was known."""
    with Cluster() as cluster:
        filled(cluster)
        active, (standby,) = wait_both(cluster)
        cluster.kill(active)
        took_s = takeover_s(cluster, standby['name'])
        print(f'kill -9: another is active after {took_s:.2f} s')
        check(took_s < CRASH_S, f'within {CRASH_S} s of a crash')
        check_known(cluster)
        cluster.up()
        active, (standby,) = wait_both(cluster)
        cluster.kill(active, signal.SIGSTOP)
        took_s = takeover_s(cluster, standby['name'])
        print(f'SIGSTOP: another is active after {took_s:.2f} s')
        check(took_s < STOP_S, f'within {STOP_S} s of a hang')
        check_known(cluster)
        cluster.kill(active, signal.SIGCONT)
        _, (follower,) = wait_both(cluster)
        check_equal(follower['name'], active['name'], 'who was stopped follows')
        check_known(cluster)


def test_f11_both_nodes_die():
    """Nothing that was acknowledged is lost; meanwhile images are read and stored."""
    with Cluster() as cluster:
        files = filled(cluster)
        for process in cluster.processes('directory'):
            cluster.kill(process)
        file_id, body = next(iter(files.items()))
        check(cluster.download(file_id) == body, 'reads go on')
        cluster.upload(random_bytes(5000))
        cluster.up()
        wait_both(cluster)
        check_known(cluster)


def test_a_rolling_restart_loses_nothing():
    """Each node is stopped in order and started again: the other one has taken over before."""
    with Cluster() as cluster:
        filled(cluster)
        for _ in range(2):
            active, (standby,) = wait_both(cluster)
            cluster.kill(active, signal.SIGTERM)
            takeover_s(cluster, standby['name'])
            wait_until(lambda: not alive(active['pid']), 'it ended')  # pylint: disable=W0640
            check_known(cluster)
            cluster.up()
            wait_both(cluster)
        check_known(cluster)


def test_shards_know_their_own():
    """Three shards: each file is known to one; a second `up` with another number is refused."""
    with Cluster() as cluster:
        filled(cluster, '--directory-shards', 3)
        check_equal(len(cluster.processes('directory')), 6, 'nodes')
        indexes = []
        for shard in range(3):
            active, _ = wait_both(cluster, shard)
            check_equal(told(cluster, active, 'shard'), shard, active['name'])
            indexes.append(told(cluster, active, 'log_index'))
        check(all(index > 1 for index in indexes), f'each has records: {indexes}')
        cluster.up('--directory-shards', 2, wanted=1)
        check_known(cluster)


def test_f46_a_rebuild_pins():
    """Both folders lost: the files are found again, and kept until an administrator unpins."""
    with Cluster() as cluster:
        files = filled(cluster)
        one = cluster.processes('directory')[0]
        cluster.kill(one)
        wait_until(lambda: not alive(one['pid']), 'it is dead')
        shutil.rmtree(one['data'])
        check('--rebuild' in cluster.up(wanted=1).stderr, 'an empty folder stays one unasked')
        cluster.up('--rebuild')  # from the other one
        wait_both(cluster)
        check_known(cluster)
        cluster.down()
        for process in (one, dict(one, data=one['data'].replace('-0-1', '-0-2'))):
            shutil.rmtree(process['data'])
        cluster.up(wanted=1)
        cluster.up('--rebuild')
        found = fsck(cluster)
        check_equal((found['known'], found['unknown']), (0, FILES), 'it knows nothing any more')
        check_equal(fsck(cluster, '--adopt')['adopted'], FILES, 'adopted')
        check_known(cluster, pinned=FILES)
        some = list(files)[:3]
        done = json.loads(cluster.hayloft('unpin', '--yes', '--json', *some).stdout)
        check_equal(done, {'unpinned': 3, 'failed': 0}, 'unpin of some')
        check_known(cluster, pinned=FILES - 3)
        done = json.loads(cluster.hayloft('unpin', '--yes', '--json', '--all').stdout)
        check_equal(done, {'unpinned': FILES - 3, 'failed': 0}, 'unpin --all')
        check_known(cluster)
        cluster.down()
        cluster.up()
        check_known(cluster)
        for file_id, body in files.items():
            check(cluster.download(file_id) == body, f'{file_id} is as it was')


def test_f61_a_lost_folder_and_one_that_has_followed_nobody_yet():
    """`up --rebuild` takes neither for a store, whichever is which; beside a sound one it follows.
    """
    with Cluster(disks=1) as cluster:
        filled(cluster)
        both = ('directory-0-1', 'directory-0-2')
        for lost, joined in (both, reversed(both)):
            wait_both(cluster)
            cluster.down()
            folder = os.path.join(cluster.dir, joined)
            for name in (lost, joined):
                shutil.rmtree(os.path.join(cluster.dir, name))
            join(cluster, folder)
            cluster.up('--rebuild')
            wait_both(cluster)
            found = fsck(cluster, '--adopt')
            check_equal((found['adopted'], found['known']), (FILES, 0), f'in {found}')
            check_known(cluster, pinned=FILES)
        cluster.down()
        shutil.rmtree(folder)
        join(cluster, folder)
        cluster.up('--rebuild')
        wait_both(cluster)
        check_known(cluster, pinned=FILES)


def join(cluster, folder):
    """A node that has followed nobody yet."""
    with open(os.path.join(cluster.dir, 'options.json'), encoding='utf-8') as file:
        cluster_id = json.load(file)['cluster_id']
    run(f'{BIN}/hayloft-directory', '--init', '--join', f'--data={folder}',
        f'--cluster-id={cluster_id}')
    run(f'{BIN}/hayloft-directory', '--check-store', f'--data={folder}', wanted=1)


def test_f28_a_damaged_store_is_set_aside_and_made_anew():
    """Bits flipped in a node's LevelDB: met at its start or when it reads; the other one serves."""
    with Cluster() as cluster:
        filled(cluster)
        for kind in ('CURRENT', 'MANIFEST-*'):
            _, (standby,) = wait_both(cluster)
            cluster.down()
            flip(glob.glob(os.path.join(standby['data'], 'leveldb', kind))[0])
            cluster.up()
            wait_both(cluster)
            check_known(cluster)
        asides = glob.glob(os.path.join(standby['data'], 'leveldb.damaged-*'))
        check(asides, 'the damaged store lies beside the new one')
        # Of the active one, while it runs: the next row that is read tells.
        cluster.down()
        cluster.up()
        active, (standby,) = wait_both(cluster)
        for table in glob.glob(os.path.join(active['data'], 'leveldb', '*.ldb')):
            flip(table, *range(100, os.path.getsize(table) * 3 // 4, 300))
        check_known(cluster)
        now_active, (follower,) = wait_both(cluster)
        check_equal((now_active['name'], follower['name']), (standby['name'], active['name']),
                    'the other one is active')
        check(glob.glob(os.path.join(active['data'], 'leveldb.damaged-*')), 'it is set aside')
        check_known(cluster)


if __name__ == '__main__':
    main([test_f11_the_other_node_takes_over, test_f11_both_nodes_die,
          test_a_rolling_restart_loses_nothing, test_shards_know_their_own,
          test_f46_a_rebuild_pins, test_f61_a_lost_folder_and_one_that_has_followed_nobody_yet,
          test_f28_a_damaged_store_is_set_aside_and_made_anew])
