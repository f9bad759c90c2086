"""Parts of the soak that hold or don't: real images, fsync, kills, sweeps, seeds, fuzzers."""

import glob
import json
import os
import random
import re
import shutil

from disk_test import check_fsync_is_real
from harness import TOP, Cluster, check_equal, run, wait_until
from kill_test import FAILPOINTS, chaos

IMAGES = '/usr/share/openclipart/png'
JOBS = os.cpu_count()
FAILPOINT_TEST = 'test_f01_f02_f03_f05_kills_at_failpoints_lose_nothing'


def figure(name, value, target, passed):
    return {'figure': name, 'value': value, 'target': target, 'pass': bool(passed)}


def equal(name, value, target):
    return figure(name, value, target, value == target)


def make(*words, timeout=3600):
    return run('make', '--no-print-directory', '-C', TOP, *words, timeout=timeout, wanted=None)


def manifest_ids(path):
    """{path: id} of a manifest."""
    with open(path, encoding='utf-8') as file:
        return dict(line.split('\t')[:2] for line in file if '\t' in line)


def curl_uploads(cluster, paths):
    """Uploads by curl, every other one chunked; returns {path: id}."""
    config = os.path.join(cluster.dir, 'curl')
    with open(config, 'w', encoding='utf-8') as file:
        for i, path in enumerate(paths):
            name = json.dumps(os.path.join(IMAGES, path))
            file.write('next\n' if i else '')
            file.write(f'url = "http://{cluster.gateway}/v1/files"\nsilent\n')
            file.write('header = "Content-Type: image/png"\nheader = "Expect:"\n')
            file.write('header = "Transfer-Encoding: chunked"\n' if i % 2 else '')
            file.write(f'data-binary = {name[0]}@{name[1:]}\nwrite-out = "\\n"\n')
    lines = run('curl', '--config', config, timeout=900).stdout.splitlines()
    answers = [json.loads(line) for line in lines if line]
    check_equal(len(answers), len(paths), 'answers to curl')
    return dict(zip(paths, (answer['id'] for answer in answers)))


def count_equal_downloads(cluster, ids, ranges=False):
    """How many come back by HTTP as they are in IMAGES, whole or as a random range."""
    same = 0
    for path, file_id in ids.items():
        with open(os.path.join(IMAGES, path), 'rb') as file:
            body = file.read()
        headers, wanted, status = {}, body, 200
        if ranges:
            first = random.randrange(len(body))
            last = random.randrange(first, len(body))
            headers, wanted = {'Range': f'bytes={first}-{last}'}, body[first:last + 1]
            status = 206
        got = cluster.request('GET', '/' + file_id, headers=headers)
        same += got[0] == status and got[2] == wanted
    return same


def images():
    """All PNG of openclipart-png go up by command and by curl and come back byte for byte."""
    with Cluster(directory_shards=0, dataservers=3, disks=2) as cluster:
        cluster.up()
        manifest = os.path.join(cluster.dir, 'm.tsv')
        cluster.hayloft('put', '-r', IMAGES, '--manifest', manifest, timeout=900)
        by_command = manifest_ids(manifest)
        total = len(by_command)
        figures = [equal('images stored by hayloft put -r', total, 6900)]
        verify = cluster.hayloft('get', '--manifest', manifest, '--verify', IMAGES, wanted=None)
        figures.append(equal('equal by hayloft get', verify.stdout.split(' ')[0], str(total)))
        by_curl = curl_uploads(cluster, sorted(by_command))
        figures.append(equal('images stored by curl, half of them chunked', len(by_curl), total))
        for what, ranges in (('whole', False), ('by a random range', True)):
            for how, ids in (('put', by_command), ('curl', by_curl)):
                figures.append(equal(f'equal by HTTP, {what}, stored by {how}',
                                     count_equal_downloads(cluster, ids, ranges), total))
        wait_until(lambda: cluster.status()['files']['live'] == 2 * total, 'status counts them')
        for what in ('restart', 'rebuild'):
            cluster.down()
            if what == 'rebuild':
                shutil.rmtree(os.path.join(cluster.dir, 'nameserver-1'))
            cluster.up(*(['--rebuild'] if what == 'rebuild' else []))
            verify = cluster.hayloft('get', '--manifest', manifest, '--verify', IMAGES,
                                     wanted=None, timeout=300)
            figures.append(equal(f'equal after a {what}', verify.stdout.split(' ')[0], str(total)))
            figures.append(equal(f'equal after a {what}, stored by curl',
                                 count_equal_downloads(cluster, by_curl), total))
            wait_until(lambda: cluster.status()['files']['live'] == 2 * total, 'status counts')
            figures.append(equal(f'files by status after a {what}',
                                 cluster.status()['files']['live'], 2 * total))
        return figures


def fsync():
    """strace: the answer's write comes after an fdatasync that covers the upload's last byte."""
    report = check_fsync_is_real(100)
    return [equal('uploads whose answer follows its fdatasync', report['proven'], 100),
            figure('fdatasyncs for them', report['syncs'], '>= 100', report['syncs'] >= 100)]


def kills():
    """60 s of uploads while a random process is killed with -9 each second."""
    report = chaos(60, directory_shards=0)
    return [equal('acknowledged uploads lost', report['lost'], 0),
            figure('acknowledged uploads', report['acknowledged'], '> 1200',
                   report['acknowledged'] > 1200),
            figure('kills', json.dumps(report['kills']), '>= 58',
                   sum(report['kills'].values()) >= 58),
            figure('longest time without an acknowledgement, s', report['longest_gap_s'], '<= 30',
                   report['longest_gap_s'] <= 30)]


def failpoints():
    """Kills at each named place of a dsp, test build: nothing acknowledged is lost."""
    check_equal(make('MODE=asan', 'binaries').returncode, 0, 'build of MODE=asan')
    environment = dict(os.environ, MODE='asan')
    script = os.path.join(TOP, 'tests', 'cluster', 'kill_test.py')
    done = run(script, '--kills', 10, FAILPOINT_TEST, env=environment, timeout=1800, wanted=None)
    found = re.search(r"'kills': (\d+)", done.stdout)
    count = int(found.group(1)) if found else 0
    return [equal('exit code', done.returncode, 0),
            figure('kills', count, f'>= {10 * len(FAILPOINTS)}', count >= 10 * len(FAILPOINTS))]


def sweep():
    """SimDevice crashes at every write and sync, torn in 100 ways; every byte of the formats."""
    check_equal(make('out/release/unit').returncode, 0, 'build of the unit tests')
    figures = []
    for group in ('crash_sweep*', 'bit_flip*', 'block_format*flipped*'):
        done = run(f'{TOP}/out/release/unit', f'-tc={group}', timeout=1800, wanted=None,
                   env={**os.environ, 'HAYLOFT_SWEEP_SEEDS': '100'})
        found = re.search(r'test cases:\s*(\d+) \|\s*(\d+) passed', done.stdout)
        cases, passed = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
        figures.append(figure(f'{group}: cases passed', passed, cases, 0 < cases == passed))
    return figures


def races():
    """ThreadSanitizer: the unit tests of what has threads, and kills under load."""
    check_equal(make('MODE=tsan', 'binaries', 'out/tsan/unit').returncode, 0, 'build of MODE=tsan')
    reports = os.path.join(TOP, 'out', 'tsan', 'race')
    for old in glob.glob(reports + '.*'):
        os.remove(old)
    environment = dict(os.environ, MODE='tsan', TSAN_OPTIONS=f'log_path={reports} '
                       f'suppressions={TOP}/tests/tsan.supp')
    threaded = ('rpc', 'loop', 'worker', 'gateway', 'async', 'sdk', 'leveldb', 'log_', 'acceptor',
                'admin', 'posix_device', 'supervisor')
    unit = run(f'{TOP}/out/tsan/unit', '-tc=' + ','.join(f'{name}*' for name in threaded),
               timeout=3000, wanted=None, env=environment)
    kill = run(os.path.join(TOP, 'tests', 'cluster', 'kill_test.py'), '--seconds', 30,
               'test_random_kills_under_load_lose_nothing', env=environment, timeout=600,
               wanted=None)
    return [equal('unit tests: exit code', unit.returncode, 0),
            equal('kills under load: exit code', kill.returncode, 0),
            equal('reports of races', glob.glob(reports + '.*'), [])]


def sim():
    """10,000 seeds without a failure; each planted bug found within 500 seeds."""
    check_equal(make('out/release/sim_test').returncode, 0, 'build of the simulator')
    binary = f'{TOP}/out/release/sim_test'
    first = random.randrange(1, 1 << 30)
    done = run(binary, '--seeds=10000', f'--from={first}', f'--jobs={JOBS}', timeout=3000,
               wanted=None)
    never = re.findall(r'never reached: (.*)', done.stdout)
    figures = [figure(f'10,000 seeds from {first}: exit code', done.returncode, 0,
                      done.returncode == 0), equal('probes never reached', never, [])]
    done = run(binary, '--mutants', f'--jobs={JOBS}', timeout=3000, wanted=None)
    found = re.findall(r'^\S+ +(yes|NO) ', done.stdout, re.M)
    figures.append(figure('planted bugs found within 500 seeds', found.count('yes'),
                          f'{len(found)}, at least 18', len(found) >= 18
                          and done.returncode == 0 and 'NO' not in found))
    return figures


def directory_model():
    """100,000 random sequences of uploads, deletes, crashes: the directory is as its model."""
    check_equal(make('out/release/unit').returncode, 0, 'build of the unit tests')
    done = run(f'{TOP}/out/release/unit', '-tc=directory: as a model*', timeout=1800, wanted=None,
               env={**os.environ, 'HAYLOFT_SEQUENCES': '100000'})
    return [equal('exit code', done.returncode, 0)]


def fuzz():
    """Every decoder, 10^6 executions each."""
    done = make('fuzz', timeout=3600)
    with open(os.path.join(TOP, 'out', 'fuzz', 'fuzz.json'), encoding='utf-8') as file:
        summary = json.load(file)
    return [equal('exit code', done.returncode, 0)] + [
        figure(f'{name}: executions', result['executions'], '>= 1000000, no crash',
               result['executions'] >= 1_000_000 and not result['crashed'])
        for name, result in summary.items()]


PARTS = {part.__name__: part for part in (images, fsync, kills, failpoints, sweep, races, sim,
                                        directory_model, fuzz)}
