"""Parts of the soak that measure: disk reads, memory of the index, starts, group commit, load."""

import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time

from cold_reads import IMAGES, ColdReads, disk_stat_of, reads_of
from harness import (BIN, TOP, Cluster, alive, check, check_equal, metric, random_bytes, run,
                     wait_until)
from soak_promises import figure, make, manifest_ids

MILLION = 1_000_000


def at_most(name, value, target):
    return figure(name, value, f'<= {target}', value <= target)


def at_least(name, value, target):
    return figure(name, value, f'>= {target}', value >= target)


# --- one disk read an image ---------------------------------------------------------------------
def drop_caches():
    run('sync')
    with open('/proc/sys/vm/drop_caches', 'w', encoding='utf-8') as file:
        file.write('3\n')


def one_read():
    """1,000 cold GETs over 20,000 images after drop_caches (needs root)."""
    with Cluster(directory_shards=0, dataservers=1, disks=1) as cluster:
        cluster.up()
        source = os.path.join(cluster.dir, 'in')
        os.mkdir(source)
        sizes = random.Random(1)
        for i in range(20_000):
            with open(os.path.join(source, str(i)), 'wb') as file:
                file.write(random_bytes(min(60_000, 1 + int(sizes.lognormvariate(9.0, 1.2)))))
        manifest = os.path.join(cluster.dir, 'm.tsv')
        cluster.hayloft('put', '-r', source, '--manifest', manifest, timeout=900)
        ids = list(manifest_ids(manifest).values())
        random.shuffle(ids)
        check_equal(len(ids), 20_000, 'images')
        stat, rounds = disk_stat_of(cluster.dir), []
        for round_ in range(3):  # the disk is shared: the least disturbed round counts
            drop_caches()
            mine = ids[round_ * 1100:(round_ + 1) * 1100]
            for file_id in mine[:100]:  # bring the programs themselves back into memory
                cluster.download(file_id)
            before = reads_of(stat)
            for file_id in mine[100:]:
                cluster.download(file_id)
            rounds.append(reads_of(stat) - before)
        return [at_most(f'disk reads of 1,000 cold GETs, least of {rounds}', min(rounds), 1050),
                at_least('disk reads, so that they were cold', min(rounds), 900)]


# --- cold reads, beside fio on the same places ----------------------------------------------------
def cold():
    """200,000 images read once each by HTTP, nothing in the page cache."""
    with ColdReads(IMAGES) as images:
        rounds = [images.round(number) for number in range(3)]
    return [at_least('bytes/s of cold GETs, of what fio reads, best of three',
                     round(max(each['share'] for each in rounds), 3), 0.85),
            at_most('disk reads an image, least of three',
                    round(min(each['reads'] for each in rounds), 3), 1.0),
            at_most('us of CPU an image, gateway and dsp, least of three',
                    round(min(each['cpu_us'] for each in rounds), 1), 35)]


# --- a million images on one dsp ----------------------------------------------------------------
def resident_bytes(process):
    with open(f'/proc/{process["pid"]}/status', encoding='utf-8') as file:
        return int(re.search(r'VmRSS:\s+(\d+)', file.read())[1]) * 1024


class BigDisk:
    """A cluster of one dsp whose disk was made with a million images, their bytes left out."""

    def __init__(self, unsealed, images=MILLION):
        # In memory where there is room: a million holes in files cost a file system with discard
        # minutes to give back. A start reads its footers from the page cache in any case.
        tempfile.tempdir = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
        self.cluster = Cluster(directory_shards=0, dataservers=1, disks=1)
        tempfile.tempdir = None
        self.unsealed = unsealed
        self.images = images

    def __enter__(self):
        try:
            self.make()
        except BaseException:
            self.cluster.__exit__(None, None, None)  # a with block that was not entered leaves none
            raise
        return self

    def make(self):
        cluster = self.cluster
        check_equal(make('out/release/bench/make_disk').returncode, 0, 'build of make_disk')
        cluster.up()
        cluster.down()
        disk = os.path.join(cluster.dir, 'dataserver-1', 'disk-1')
        shutil.rmtree(disk)
        os.mkdir(disk)
        with open(os.path.join(cluster.dir, 'options.json'), encoding='utf-8') as file:
            cluster_id = json.load(file)['cluster_id']
        run(f'{TOP}/out/release/bench/make_disk', disk, cluster_id, self.images, self.unsealed,
            timeout=600)
        self.disk = disk

    def __exit__(self, *error):
        self.cluster.__exit__(*error)

    def metrics(self):
        address = self.cluster.process('dsp-1-1')['http']
        return self.cluster.request('GET', '/metrics', address=address)[2].decode()

    def start_seconds(self):
        """From the start of the dsp's process until its admin port says that it is ready."""
        ready_at = []

        def first_answer():
            with open(os.path.join(self.cluster.dir, 'options.json'), encoding='utf-8') as file:
                address = f'127.0.0.1:{json.load(file)["ports"]["dsp-1-1.admin"]}'

            def ready():
                try:
                    return self.cluster.request('GET', '/readyz', address=address)[0] == 200
                except OSError:
                    return False
            wait_until(ready, 'the dsp is ready')
            ready_at.append(time.time())

        watcher = threading.Thread(target=first_answer)
        watcher.start()
        self.cluster.up()
        watcher.join()
        pid = self.cluster.process('dsp-1-1')['pid']
        with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
            ticks = int(file.read().rpartition(')')[2].split()[19])
        with open('/proc/uptime', encoding='utf-8') as file:
            booted = time.time() - float(file.read().split()[0])
        return round(ready_at[0] - booted - ticks / os.sysconf('SC_CLK_TCK'), 2)

    def kill_dsp_and_server(self):
        for role in ('dataserver', 'dsp'):
            for process in self.cluster.processes(role):
                self.cluster.kill(process)
        wait_until(lambda: not any(alive(p['pid']) for p in self.cluster.processes('dsp')), 'dead')


def index():
    """Memory of the index with 1,000,000 images of 16 KB mean, by /metrics and by RSS."""
    figures, resident, index_bytes = [], {}, {}
    # What a dsp costs with few images, LevelDB's buffers included, is not the index's.
    for images in (MILLION // 10, MILLION + MILLION // 10):
        with BigDisk(0, images) as big:
            big.cluster.up()  # reads the footers and fills LevelDB, from which the next one starts
            big.cluster.down()
            big.cluster.up()
            resident[images] = resident_bytes(big.cluster.process('dsp-1-1'))
            text = big.metrics()
            check_equal(metric(text, 'hayloft_dsp_needles_sealed'), images, 'images')
            index_bytes[images] = metric(text, 'hayloft_dsp_index_sealed_bytes')
    few, many = sorted(resident)
    figures.append(at_most('bytes an image in sealed blocks, by /metrics',
                           round(index_bytes[many] / many, 3), 1.9))
    by_metrics = (index_bytes[many] - index_bytes[few]) / MILLION
    by_rss = (resident[many] - resident[few]) / MILLION
    figures.append(at_most(f'{by_rss:.2f} bytes an image by growth of RSS over 1,000,000: '
                           'difference to /metrics', round(abs(by_rss - by_metrics), 3), 1.5))
    return figures + open_index()


def open_index():
    """The same of blocks that really take appends: tiny images, so that few blocks hold many."""
    with Cluster(directory_shards=0, dataservers=1, disks=1) as cluster:
        cluster.up()

        def measure(images):
            cluster.hayloft('bench', '--preload', images, '--seconds', 1, '--read-percent', 100,
                            '--size', 100, '--json', timeout=120)
            process = cluster.process('dsp-1-1')
            text = cluster.request('GET', '/metrics', address=process['http'])[2].decode()
            return [metric(text, 'hayloft_dsp_needles_open'),
                    metric(text, 'hayloft_dsp_needles_sealed'),
                    metric(text, 'hayloft_dsp_index_open_bytes'),
                    metric(text, 'hayloft_dsp_index_open_bytes') +
                    metric(text, 'hayloft_dsp_index_sealed_bytes'),
                    resident_bytes(process)]
        before, after = measure(20_000), measure(110_000)  # fewer than one block holds
        images = sum(after[:2]) - sum(before[:2])
        by_metrics, by_rss = ((after[i] - before[i]) / images for i in (3, 4))
        return [at_most('bytes an image in open blocks', round(after[2] / after[0], 3), 5),
                at_most(f'{by_rss:.2f} bytes an image by growth of RSS over {images:.0f} appends: '
                        'difference to /metrics', round(abs(by_rss - by_metrics), 3), 1.5)]


def quick_start():
    """A dsp with 1,000,000 images is ready soon after a clean stop, a kill, a lost LevelDB."""
    figures = []
    with BigDisk(unsealed=2) as big:
        big.start_seconds()
        wait_until(lambda: metric(big.metrics(), 'hayloft_dsp_blocks_closed') == 0, 'all sealed')
        big.cluster.down()
        figures.append(at_most('s to start after a clean stop', big.start_seconds(), 0.5))
        big.cluster.hayloft('bench', '--seconds', 2, '--json')
        big.kill_dsp_and_server()
        figures.append(at_most('s to start after kill -9', big.start_seconds(), 3.0))
        big.cluster.down()
        shutil.rmtree(os.path.join(big.disk, 'leveldb'))
        figures.append(at_most('s to start without LevelDB', big.start_seconds(), 3.0))
        check_equal(metric(big.metrics(), 'hayloft_dsp_needles_sealed') >= MILLION, True, 'images')
    return figures


# --- load ---------------------------------------------------------------------------------------
def bench(cluster, *words, core=None):
    pinned = ['taskset', '-c', str(core)] if core is not None else []
    done = run(*pinned, f'{BIN}/hayloft', 'bench', '--json', '--dir', cluster.dir, *words,
               timeout=600)
    return json.loads(done.stdout)


def syncs_of(cluster):
    address = cluster.process('dsp-1-1')['http']
    text = cluster.request('GET', '/metrics', address=address)[2].decode()
    found = re.search(r'^hayloft_dsp_(commits|syncs)_total (\d+)', text, re.M)
    return int(found[2]) if found else None


def group_commit():
    """64 uploaders of 16 KiB against one, gateway and dsp on core 0, the load on core 1."""
    check(os.cpu_count() >= 2, 'two cores are there')
    with Cluster(directory_shards=0, dataservers=1, disks=1, sets=['gateway.loops=1']) as cluster:
        cluster.up()
        for process in cluster.processes():
            run('taskset', '-a', '-c', '-p', 0, process['pid'])
        bench(cluster, '--seconds', 2, '--size', 16384, core=1)  # warm up
        ones, manys, per_sync = [], [], []
        for _ in range(3):
            one = bench(cluster, '--seconds', 5, '--size', 16384, '--concurrency', 1, core=1)
            before = syncs_of(cluster)
            many = bench(cluster, '--seconds', 5, '--size', 16384, '--concurrency', 64, core=1)
            after = syncs_of(cluster)
            ones.append(round(one['uploads']['per_s']))
            manys.append(round(many['uploads']['per_s']))
            if before is not None:
                per_sync.append(round(many['uploads']['count'] / max(1, after - before), 1))
        one, many = sorted(ones)[1], sorted(manys)[1]
        return [at_least(f'images a second, 64 uploaders, median of {manys}', many, 10_000),
                at_least(f'times one uploader, median of {ones}', round(many / one, 1), 4),
                figure('images a sync, 64 uploaders', per_sync, 'stated', True)]


def mixed():
    """hayloft bench, 64 connections, 90 % reads of a mix of sizes; every byte is compared."""
    with Cluster(directory_shards=0, dataservers=3, disks=2) as cluster:
        cluster.up()
        report = bench(cluster, '--seconds', 30, '--read-percent', 90, '--preload', 20_000)
        return [figure('wrong bytes', report['mismatches'], 0, report['mismatches'] == 0),
                figure('errors', report['reads']['errors'] + report['uploads']['errors'], 0,
                       report['reads']['errors'] + report['uploads']['errors'] == 0),
                figure('reads a second, p50 and p99 in us',
                       [round(report['reads']['per_s']), report['reads']['p50_us'],
                        report['reads']['p99_us']], 'stated', True)]


def benchmarks():
    """Google Benchmark for append, read, index, parse, frame."""
    done = make('bench', timeout=900)
    with open(os.path.join(TOP, 'out', 'bench.txt'), 'w', encoding='utf-8') as file:
        file.write(done.stdout)
    count = len(re.findall(r'^BM_', done.stdout, re.M))
    return [figure('exit code', done.returncode, 0, done.returncode == 0),
            at_least('benchmarks run, see out/bench.txt', count, 5)]


def build():
    """A full release build without a compiler cache."""
    folder = os.path.join(TOP, 'out', 'clone')
    shutil.rmtree(folder, ignore_errors=True)
    run('git', 'clone', '-q', TOP, folder)
    start = time.monotonic()
    done = subprocess.run(['make', '-C', folder, f'-j{os.cpu_count()}', 'all'], check=False,
                          capture_output=True, env=dict(os.environ, CCACHE_DISABLE='1'))
    seconds = round(time.monotonic() - start)
    shutil.rmtree(folder)
    return [figure('exit code', done.returncode, 0, done.returncode == 0),
            at_most(f's for a release build on {os.cpu_count()} cores', seconds, 240)]


PARTS = {part.__name__: part for part in (one_read, cold, index, quick_start, group_commit,
                                          mixed, benchmarks, build)}
