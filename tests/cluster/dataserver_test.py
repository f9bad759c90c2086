#!/usr/bin/env python3
"""The dataserver with real dsps, without the rest of a cluster."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request

from harness import BIN, alive, check, check_equal, free_port, main, run, wait_until

CLUSTER_ID = '00112233445566778899aabbccddeeff'


class Machine:
    """One dataserver of two disks in a temporary folder."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='hayloft-test-')
        self.data = os.path.join(self.dir, 'dataserver-1')
        self.admin = f'127.0.0.1:{free_port()}'
        self.ports = [free_port() for _ in range(4)]
        with open(os.path.join(self.dir, 'secret'), 'w', encoding='utf-8') as file:
            file.write('0123456789abcdef' * 4 + '\n')
        os.chmod(file.name, 0o600)
        for disk in ('disk-1', 'disk-2'):
            self.format(disk)
        self.process = None
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            print(self.log())
        pids = {process['pid'] for process in self.dsps().values()}
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in pids | {process['pid'] for process in self.dsps().values()}:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def format(self, disk, cluster_id=CLUSTER_ID):
        folder = os.path.join(self.data, disk)
        os.makedirs(folder)
        run(f'{BIN}/hayloft-dsp', '--format', f'--data={folder}', f'--cluster-id={cluster_id}')

    def start(self):
        a, b, c, d = (f'127.0.0.1:{port}' for port in self.ports)
        self.process = subprocess.Popen(
            [f'{BIN}/hayloft-dataserver', '--name=dataserver-1', f'--data={self.data}',
             f'--cluster-id={CLUSTER_ID}', '--disks=disk-1,disk-2', f'--dsp-listen={a},{b}',
             f'--dsp-admin-listen={c},{d}', f'--admin-listen={self.admin}', '--hang-ms=2000',
             '--nameservers=127.0.0.1:1', f'--cluster-key-file={self.dir}/secret',
             f'--cluster-file={self.dir}/cluster.json', f'--log-file={self.dir}/log'],
            stdin=subprocess.DEVNULL)

    def log(self):
        with open(os.path.join(self.dir, 'log'), encoding='utf-8') as file:
            return file.read()

    def dsps(self):
        try:
            with open(os.path.join(self.dir, 'cluster.json'), encoding='utf-8') as file:
                return {process['name']: process for process in json.load(file)['processes']}
        except FileNotFoundError:
            return {}

    def records(self):
        with open(os.path.join(self.data, 'dsps.json'), encoding='utf-8') as file:
            return {dsp['name']: dsp for dsp in json.load(file)['dsps']}

    def ready(self):
        try:
            with urllib.request.urlopen(f'http://{self.admin}/readyz', timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def wait_ready(self):
        wait_until(self.ready, 'the dataserver is ready')
        return self.dsps()


def test_starts_a_dsp_for_each_disk_and_restarts_a_killed_one():
    """One killed dsp comes back under its address; the other never notices."""
    with Machine() as machine:
        before = machine.wait_ready()
        check_equal(sorted(before), ['dsp-1-1', 'dsp-1-2'], 'dsps')
        for name, dsp in before.items():
            check_equal(dsp['parent'], 'dataserver-1', 'parent')
            check(dsp['data'].startswith(machine.data + '/'), 'data lies beneath its dataserver')
            check_equal(os.getsid(dsp['pid']), dsp['pid'], f'{name} has a session of its own')
        os.kill(before['dsp-1-1']['pid'], signal.SIGKILL)
        wait_until(lambda: machine.dsps().get('dsp-1-1', before['dsp-1-1'])['pid'] !=
                   before['dsp-1-1']['pid'], 'the killed dsp is started again')
        after = machine.wait_ready()
        check_equal(after['dsp-1-1']['address'], before['dsp-1-1']['address'], 'address')
        check_equal(after['dsp-1-2']['pid'], before['dsp-1-2']['pid'], 'pid of the other dsp')


def test_a_dsp_outlives_a_killed_dataserver_and_is_adopted():
    """The next dataserver takes the running processes over, and watches them."""
    with Machine() as machine:
        before = machine.wait_ready()
        machine.process.kill()
        machine.process.wait()
        check(all(alive(dsp['pid']) for dsp in before.values()), 'the dsps go on')
        machine.start()
        after = machine.wait_ready()
        check_equal({n: d['pid'] for n, d in after.items()},
                    {n: d['pid'] for n, d in before.items()}, 'adopted processes')
        os.kill(after['dsp-1-2']['pid'], signal.SIGKILL)
        wait_until(lambda: machine.dsps().get('dsp-1-2', after['dsp-1-2'])['pid'] !=
                   after['dsp-1-2']['pid'], 'an adopted dsp is started again after a crash')


def test_a_dsp_is_adopted_also_without_any_record():
    """dsps.json damaged, cluster.json gone: what serves the disk is found among the processes."""
    with Machine() as machine:
        before = machine.wait_ready()
        machine.process.kill()
        machine.process.wait()
        with open(os.path.join(machine.data, 'dsps.json'), 'w', encoding='utf-8') as file:
            file.write('{"dsps":')
        os.remove(os.path.join(machine.dir, 'cluster.json'))
        machine.start()
        after = machine.wait_ready()
        check_equal({n: d['pid'] for n, d in after.items()},
                    {n: d['pid'] for n, d in before.items()}, 'adopted processes')


def test_a_disk_in_use_is_tried_again():
    """A lock that another process holds is no wrong configuration: it may let go."""
    with Machine() as machine:
        before = machine.wait_ready()
        with open(os.path.join(machine.data, 'disk-1', 'LOCK'), 'rb') as lock:
            os.kill(before['dsp-1-1']['pid'], signal.SIGKILL)
            wait_until(lambda: take(lock), 'the lock is free')
            wait_until(lambda: 'value=75' in machine.log(), 'the dsp says that it is in use')
        wait_until(lambda: machine.dsps().get('dsp-1-1', before['dsp-1-1'])['pid'] !=
                   before['dsp-1-1']['pid'], 'it is started again')
        machine.wait_ready()


def take(lock):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def test_f65_a_stopped_dsp_is_killed_and_started_again():
    """A process that makes no progress (SIGSTOP) is as good as dead."""
    with Machine() as machine:
        before = machine.wait_ready()
        os.kill(before['dsp-1-1']['pid'], signal.SIGSTOP)
        wait_until(lambda: machine.dsps().get('dsp-1-1', before['dsp-1-1'])['pid'] !=
                   before['dsp-1-1']['pid'], 'the hung dsp is replaced')
        check(not alive(before['dsp-1-1']['pid']), 'the hung one is gone')
        check('dsp_hung' in machine.log(), 'the log says why')


def test_sigterm_stops_all_in_order():
    """Exit 0 for all; nothing stays in cluster.json."""
    with Machine() as machine:
        before = machine.wait_ready()
        machine.process.send_signal(signal.SIGTERM)
        check_equal(machine.process.wait(timeout=20), 0, 'exit code')
        check(not any(alive(dsp['pid']) for dsp in before.values()), 'the dsps are gone')
        check_equal(machine.dsps(), {}, 'entries in cluster.json')
        check('how=signal' not in machine.log(), 'all left by themselves')


def test_f51_an_emptied_disk_is_not_formatted_and_stops_one_dsp_only():
    """A folder without superblock is a mount that failed; SIGUSR1 takes it up once it is back."""
    with Machine() as machine:
        before = machine.wait_ready()
        disk = os.path.join(machine.data, 'disk-1')
        os.rename(disk, disk + '.away')
        os.mkdir(disk)
        os.kill(before['dsp-1-1']['pid'], signal.SIGKILL)
        wait_until(lambda: machine.records()['dsp-1-1']['state'] == 'retired', 'it is given up')
        check_equal(machine.records()['dsp-1-1']['reason'], 'configuration', 'reason')
        check_equal(os.listdir(disk), [], 'what was written into the empty folder')
        check_equal(machine.dsps()['dsp-1-2']['pid'], before['dsp-1-2']['pid'], 'the other dsp')
        os.rmdir(disk)
        os.rename(disk + '.away', disk)
        machine.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: machine.records()['dsp-1-1']['state'] == 'running', 'it is taken up')
        machine.wait_ready()


def test_f51_f50_a_disk_of_another_cluster_or_a_clone_is_refused():
    """Nothing of a foreign disk is touched, nor of the second of two with one id."""
    with Machine() as machine:
        before = machine.wait_ready()
        disks = [os.path.join(machine.data, name) for name in ('disk-1', 'disk-2')]
        for kind in ('foreign', 'clone'):
            machine.process.send_signal(signal.SIGTERM)
            machine.process.wait(timeout=20)
            shutil.rmtree(disks[0])
            if kind == 'foreign':
                machine.format('disk-1', cluster_id='ff' * 16)
            else:
                shutil.copytree(disks[1], disks[0])
            images = [image(disk) for disk in disks]
            machine.start()
            wait_until(lambda: any(record['state'] == 'retired'
                                   for record in machine.records().values()), 'one is refused')
            wait_until(machine.ready, 'the other disk is served')
            states = [machine.records()[name]['state'] for name in ('dsp-1-1', 'dsp-1-2')]
            check_equal(sorted(states), ['retired', 'running'], 'states')
            if kind == 'foreign':
                check_equal(states[0], 'retired', 'the foreign one')
            refused = states.index('retired')
            check(image(disks[refused]) == images[refused], f'the {kind} disk is as it was')
        check(machine.dsps()['dsp-1-2' if refused == 0 else 'dsp-1-1']['pid'] not in
              [dsp['pid'] for dsp in before.values()], 'a new process')


def image(folder):
    files = {}
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), 'rb') as file:
                files[os.path.join(path, name)] = file.read()
    return files


def test_a_start_tells_its_progress():
    """Recovery may take long: it answers meanwhile, so that it is no hang."""
    with Machine() as machine:
        machine.wait_ready()
        machine.process.send_signal(signal.SIGTERM)
        machine.process.wait(timeout=20)
        a, _, c, _ = (f'127.0.0.1:{port}' for port in machine.ports)
        command = ['strace', '-f', '-o', '/dev/null', '-e', 'trace=fdatasync,fsync',
                   '-e', 'inject=fdatasync,fsync:delay_enter=1000000',
                   f'{BIN}/hayloft-dsp', '--name=dsp-1-1', f'--data={machine.data}/disk-1',
                   f'--cluster-id={CLUSTER_ID}', f'--listen={a}', f'--admin-listen={c}',
                   '--nameservers=127.0.0.1:1', f'--cluster-key-file={machine.dir}/secret',
                   f'--log-file={machine.dir}/slow.log']
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
            wait_until(lambda: metric(c, 'starting') == 1, 'it answers while it recovers')
            check(metric(c, 'disk_progress_ms') < 2000, 'each step is progress')
            wait_until(lambda: metric(c, 'starting') == 0, 'it is recovered')
            for pid in children(process.pid):  # strace itself does not listen
                os.kill(pid, signal.SIGKILL)


def children(pid):
    with open(f'/proc/{pid}/task/{pid}/children', encoding='utf-8') as file:
        return [int(word) for word in file.read().split()]


def metric(address, name):
    try:
        with urllib.request.urlopen(f'http://{address}/metrics', timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f'hayloft_dsp_{name} '):
                    return float(line.split()[1])
    except OSError:
        pass
    return None


def test_f53_a_second_dataserver_and_bad_options_are_refused_with_one_line():
    """78 and one line of cause."""
    with Machine() as machine:
        machine.wait_ready()
        base = machine.process.args
        for wrong in (base, [base[0]], base + ['--no-such-option=1'], base + ['--hang-ms=1'],
                      base + ['--log-level=loud'],
                      base + [f'--admin-listen=127.0.0.1:{machine.ports[0]}']):
            done = run(*wrong, wanted=78, stdin=subprocess.DEVNULL)
            check_equal(done.stderr.count('\n'), 1, f'lines of {done.stderr!r}')
        check(machine.ready(), 'the first one goes on')


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])
