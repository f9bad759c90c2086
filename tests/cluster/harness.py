"""What the tests of whole processes share: a cluster in a folder of its own, and talking to it.

Every test gets its own folder beneath TMPDIR, free ports, and ends only processes that its own
cluster.json names. Nothing sleeps for a fixed time: what is awaited has a deadline.
"""

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
MODE = os.environ.get('MODE', 'release')
BIN = os.path.join(TOP, 'out', MODE, 'bin')
PATIENCE_S = 60 if MODE == 'release' else 150


class Failure(AssertionError):
    """A promise that did not hold."""


def check(condition, what):
    if not condition:
        raise Failure(what() if callable(what) else what)


def check_equal(got, wanted, what):
    check(got == wanted, f'{what}: got {got!r}, wanted {wanted!r}')


def wait_until(condition, what, seconds=PATIENCE_S):
    """Returns the first true value of condition(), asked every 20 ms."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < end,
              lambda: f'not within {seconds} s: {what() if callable(what) else what}')
        time.sleep(0.02)


def run(*command, timeout=PATIENCE_S * 2, wanted=0, text=True, **kwargs):
    """Runs a command to its end and checks its exit code (wanted=None: any)."""
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=timeout,
                          text=text, check=False, **kwargs)
    if wanted is not None:
        check(done.returncode == wanted,
              f'{" ".join(map(str, command))} exited with {done.returncode}, not {wanted}:\n'
              f'{done.stdout[-2000:]}\n{done.stderr[-2000:]}')
    return done


def free_port():
    """A port that is free now, with the three behind it: further gateways take those. Below the
    range from which the system gives ports to connections."""
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.ExitStack() as taken, contextlib.suppress(OSError):
            for each in range(port, port + 4):
                listener = taken.enter_context(socket.socket())
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(('127.0.0.1', each))
            return port


def cpu_us(pid):
    """User and system time of a process and all of its threads: its CPU clock, in us."""
    return time.clock_gettime((~pid << 3) | 2) * 1e6


def arguments_of(process):
    with open(f'/proc/{process["pid"]}/cmdline', encoding='utf-8') as file:
        return file.read().rstrip('\0').split('\0')


def option_of(process, name):
    """The value of an option of its command line."""
    return next(word.partition('=')[2] for word in arguments_of(process)
                if word.startswith(name + '='))


def admin_address(process):
    """Where a process tells its metrics."""
    return option_of(process, '--admin-listen')


def alive(pid):
    """Also one whose first thread is gone while others still have its sockets and locks."""
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
            fields = file.read().rpartition(')')[2].split()
    except OSError:
        return False
    state, threads = fields[0], int(fields[17])
    return state not in 'ZX' or (state == 'Z' and threads > 1)


def random_bytes(size, seed=None):
    return (random.Random(seed) if seed is not None else random).randbytes(size)


class Cluster:
    """A cluster of `hayloft cluster up` in a temporary folder.

    directory_shards: 0 where equal bytes are to be files of their own, or where what is measured or
    broken is another part; None is what users get.
    cache_bytes: of a gateway; 0, because most tests are about what reads find on the disks; None is
    what users get.
    """

    def __init__(self, dataservers=1, disks=2, gateways=1, copies=1, sets=(), environment=None,
                 nameservers=2, coordinator='file', directory_shards=None, cache_bytes=0):
        self.dir = tempfile.mkdtemp(prefix='hayloft-test-')
        self.port = free_port()
        self.gateway = f'127.0.0.1:{self.port}'
        self.shape = ['--dataservers', dataservers, '--disks', disks, '--gateways', gateways,
                      '--copies', copies, '--nameservers', nameservers,
                      '--coordinator', coordinator, '--port', self.port]
        if directory_shards is not None:
            self.shape += ['--directory-shards', directory_shards]
        if cache_bytes is not None:
            sets = [f'gateway.cache_bytes={cache_bytes}', *sets]
        self.sets = [word for setting in sets for word in ('--set', setting)]
        self.environment = dict(os.environ, **(environment or {}))
        self.killed = []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            self.print_logs()
        with contextlib.suppress(Exception):
            run(f'{BIN}/hayloft', 'cluster', 'down', '--dir', self.dir, wanted=None)
        for process in self.processes():
            with contextlib.suppress(OSError):
                os.kill(process['pid'], signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def print_logs(self):
        folder = os.path.join(self.dir, 'log')
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            with open(os.path.join(folder, name), encoding='utf-8', errors='replace') as file:
                print(f'--- {name}', *file.read().splitlines()[-15:], sep='\n')

    # --- commands
    def hayloft(self, *words, **kwargs):
        return run(f'{BIN}/hayloft', words[0], '--dir', self.dir, *words[1:],
                   env=self.environment, **kwargs)

    def up(self, *words, **kwargs):
        # What starts needs the ports of what was killed.
        wait_until(lambda: not any(map(alive, self.killed)), 'what was killed is gone')
        self.killed.clear()
        return run(f'{BIN}/hayloft', 'cluster', 'up', '--dir', self.dir, *self.shape, *self.sets,
                   *words, env=self.environment, **kwargs)

    def down(self, **kwargs):
        return run(f'{BIN}/hayloft', 'cluster', 'down', '--dir', self.dir, **kwargs)

    def status(self):
        return json.loads(self.hayloft('status', '--json').stdout)

    # --- processes
    def processes(self, role=None):
        try:
            with open(os.path.join(self.dir, 'cluster.json'), encoding='utf-8') as file:
                found = json.load(file)['processes']
        except FileNotFoundError:
            return []
        return [process for process in found if role in (None, process['role'])]

    def process(self, name):
        found = [process for process in self.processes() if process['name'] == name]
        check(found, f'{name} is in cluster.json')
        return found[0]

    def kill(self, process, number=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process['pid'], number)
        if number == signal.SIGKILL:
            self.killed.append(process['pid'])

    def log(self, name):
        with open(os.path.join(self.dir, 'log', name + '.log'), encoding='utf-8') as file:
            return file.read()

    # --- HTTP
    def request(self, method, path, body=None, headers=None, address=None, timeout=30):
        """(status, headers, body) of one request on a connection of its own."""
        connection = http.client.HTTPConnection(address or self.gateway, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def upload(self, body, content_type='image/png'):
        """The JSON of an upload that must succeed."""
        status, _, answer = self.request('POST', '/v1/files', body,
                                         {'Content-Type': content_type})
        check(status in (200, 201), lambda: f'upload: {status} {answer[:300]!r}')
        return json.loads(answer)

    def download(self, file_id):
        status, _, body = self.request('GET', '/' + file_id)
        check(status == 200, lambda: f'GET {file_id}: {status} {body[:300]!r}')
        return body


def metric(text, name):
    """Sum of a metric over its labels."""
    values = [float(line.rsplit(' ', 1)[1]) for line in text.splitlines()
              if line.startswith((name + ' ', name + '{'))]
    check(values, f'the metric {name} is there')
    return sum(values)


def main(tests):
    """Runs the given functions, or those named on the command line; prints the closing line."""
    # A shell ignores it for what it runs in the background, and so would all that is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    names = [word for word in sys.argv[1:] if not word.startswith('-')]
    passed = failed = 0
    for test in tests:
        if names and test.__name__ not in names:
            continue
        start = time.monotonic()
        try:
            test()
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f'FAILED {test.__name__}: {(test.__doc__ or "").strip()}')
            traceback.print_exc(file=sys.stdout)
        else:
            passed += 1
            print(f'ok {test.__name__} ({time.monotonic() - start:.1f} s)', flush=True)
    print(f'{passed} passed, {failed} failed')
    sys.exit(1 if failed else 0)
