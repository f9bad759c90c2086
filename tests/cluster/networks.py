"""A cluster whose machines are network namespaces, so that a test can cut what lies between them.

    namespace of the test: nameserver, gateway, router          10.77.0.1
          | veth m1          | veth m2          | veth m3 ...
    machine 1: 10.77.1.2    machine 2: 10.77.2.2  ...           a dataserver with its dsp each

`pairs.py` gives the nameservers machines of their own, and etcd, too.

The test runs in a network namespace of its own (`unshare --net`), so that nothing outside is
touched and all of it is gone when its processes are. Whatever a rule of the router drops is lost
without a word, as in a partition.
"""

import contextlib
import os
import signal
import subprocess
import sys

from harness import BIN, Cluster, arguments_of, check, run, wait_until

INSIDE = 'HAYLOFT_TEST_NETWORK'
ROUTER = '10.77.0.1'


def enter_own_network():
    """Starts this program again in a network namespace; returns False where that's not allowed."""
    if INSIDE in os.environ:
        run('ip', 'link', 'set', 'lo', 'up')
        run('ip', 'address', 'add', ROUTER + '/32', 'dev', 'lo')
        # A rule can only stop what comes for the router itself if it is asked before this one.
        run('ip', 'rule', 'add', 'pref', 100, 'lookup', 'local')
        run('ip', 'rule', 'del', 'pref', 0)
        run('sysctl', '-q', '-w', 'net.ipv4.ip_forward=1')
        return True
    tried = subprocess.run(['unshare', '--net', 'ip', 'link', 'add', 'v', 'type', 'veth'],
                           check=False, capture_output=True)
    if tried.returncode != 0:
        return False
    os.execvpe('unshare', ['unshare', '--net', sys.executable, *sys.argv],
               dict(os.environ, **{INSIDE: '1'}))
    return False


def both_ways(some, others):
    """Pairs for `deaf`: nothing passes between one of `some` and one of `others`."""
    return [pair for a in some for b in others for pair in ((a, b), (b, a))]


class NetworkCluster(Cluster):
    """`up` starts it on loopback first, which makes its disks, and then again over the network."""

    def __init__(self, machines, nameservers=1, **kwargs):
        super().__init__(dataservers=machines, disks=1, nameservers=nameservers,
                         directory_shards=0, **kwargs)
        self.machines = machines
        self.namespaces = machines
        self.holders = []    # of the machines' namespaces
        self.started = []
        self.nameserver = None  # all of them, with commas between

    def __exit__(self, kind, error, trace):
        if error is not None:
            self.print_logs()
        for process in [p['pid'] for p in self.processes('dsp')]:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        for process in self.started + self.holders:
            process.kill()
            process.wait()
        # A namespace takes its cable along, but late: the next cluster's has the same name.
        for i in range(1, len(self.holders) + 1):
            run('ip', 'link', 'del', f'm{i}', wanted=None)
        super().__exit__(None, None, None)

    def up(self, *words, **kwargs):
        super().up(*words, **kwargs)
        commands = {p['name']: arguments_of(p) for p in self.processes()}
        self.nameserver = ','.join(self.at_home(p['name'], p['address'])
                                   for p in self.processes('nameserver'))
        self.down()
        for i in range(1, self.namespaces + 1):
            self.add_machine(i)
        for name, command in sorted(commands.items(), reverse=True):
            if not name.startswith('dsp'):
                self.start(name, [self.moved(word, name) for word in command])
        wait_until(self.is_ready, 'the cluster is ready over the network')

    def is_ready(self):
        status = self.status_if_any()
        return status and sum(dsp['state'] == 'up' for dsp in status['dsps']) == self.machines and \
            status['blocks']['open'] == 2 * self.machines and \
            self.request('GET', '/readyz')[0] == 200

    def add_machine(self, i):
        holder = subprocess.Popen(['unshare', '--net', 'sleep', 'infinity'])
        self.holders.append(holder)
        own = os.readlink('/proc/self/ns/net')
        wait_until(lambda: os.readlink(f'/proc/{holder.pid}/ns/net') != own, 'a namespace', 10)
        run('ip', 'link', 'add', f'm{i}', 'type', 'veth', 'peer', 'name', 'net', 'netns',
            holder.pid)
        run('ip', 'address', 'add', f'10.77.{i}.1/24', 'dev', f'm{i}')
        run('ip', 'link', 'set', f'm{i}', 'up')
        for words in (('address', 'add', f'10.77.{i}.2/24', 'dev', 'net'),
                      ('link', 'set', 'net', 'up'), ('link', 'set', 'lo', 'up'),
                      ('route', 'add', 'default', 'via', f'10.77.{i}.1')):
            run('nsenter', '-t', holder.pid, '-n', 'ip', *words)

    @staticmethod
    def machine_of(name):
        """The number of the machine that a process has; 0: the router's side."""
        return int(name.rpartition('-')[2]) if name.startswith('dataserver') else 0

    def at_home(self, name, address):
        machine = self.machine_of(name)
        host = f'10.77.{machine}.2' if machine else ROUTER
        return f'{host}:{address.rpartition(":")[2]}'

    def moved(self, word, name):
        """An argument with the addresses that the process has in the network."""
        key, _, value = word.partition('=')
        if key == '--nameservers':
            return f'{key}={self.nameserver}'
        own = ('--listen', '--admin-listen') if name.startswith('nameserver') else \
            ('--dsp-listen', '--dsp-admin-listen')
        return f'{key}={self.at_home(name, value)}' if key in own else word

    def start(self, name, command):
        return self.start_on(self.machine_of(name), command)

    def start_on(self, machine, command):
        if machine:
            command = ['nsenter', '-t', str(self.holders[machine - 1].pid), '-n', *command]
        self.started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                             stdout=subprocess.DEVNULL,
                                             stderr=subprocess.DEVNULL))
        return self.started[-1]

    def hayloft(self, *words, **kwargs):
        return super().hayloft(words[0], '--cluster', self.nameserver, *words[1:], **kwargs)

    def status_if_any(self):
        return self.status() if self.hayloft('status', wanted=None).returncode == 0 else None

    # --- faults
    @contextlib.contextmanager
    def deaf(self, *pairs):
        """Nothing that machine A sends reaches B (a machine's number, or 0: the nameserver)."""
        rules = [['from', 'all', 'iif', f'm{a}', 'to', f'10.77.{b}.2' if b else ROUTER, 'blackhole',
                  'pref', 10] for a, b in pairs]
        for rule in rules:
            run('ip', 'rule', 'add', *rule)
        try:
            yield
        finally:
            for rule in rules:
                run('ip', 'rule', 'del', *rule)

    @contextlib.contextmanager
    def clogged(self, machine):
        """Nothing comes out of it or into it; several may be so at the same time."""
        inside = ('nsenter', '-t', self.holders[machine - 1].pid, '-n')
        if '100:' not in run(*inside, 'ip', 'rule').stdout:  # as enter_own_network
            run(*inside, 'ip', 'rule', 'add', 'pref', 100, 'lookup', 'local')
            run(*inside, 'ip', 'rule', 'del', 'pref', 0)

        def change(verb):
            for where, link in (((), f'm{machine}'), (inside, 'net')):
                run(*where, 'ip', 'rule', verb, 'from', 'all', 'iif', link, 'blackhole', 'pref', 9)
        change('add')
        try:
            yield
        finally:
            change('del')

    @contextlib.contextmanager
    def unplugged(self, machine):
        """Its cable is out: no connection breaks, none is answered."""
        inside = ('nsenter', '-t', self.holders[machine - 1].pid, '-n', 'ip')
        run(*inside, 'link', 'set', 'net', 'down')
        try:
            yield
        finally:
            run(*inside, 'link', 'set', 'net', 'up')
            run(*inside, 'route', 'replace', 'default', 'via', f'10.77.{machine}.1')


def check_gateway_is_lean(cluster, before):
    """Threads and descriptors of the gateway are about as many as before."""
    now = threads_and_files(cluster)
    check(now[0] == before[0] and now[1] <= before[1] + 20,
          f'threads and files of the gateway: {before} before, {now} now')


def threads_and_files(cluster):
    pid = next(p.pid for p in cluster.started if f'{BIN}/hayloft-gateway' in p.args[0])
    return len(os.listdir(f'/proc/{pid}/task')), len(os.listdir(f'/proc/{pid}/fd'))
