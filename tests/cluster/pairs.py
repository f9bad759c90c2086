"""Two nameservers and an etcd of three members, each on a machine of its own that can be cut off.

    machines 1 to 4: a dsp each      5, 6: nameserver-1 and -2      7, 8, 9: the members of etcd
    router's side: gateway, commands, the test

Who is active is told by the nameservers' own metrics, which the test can always reach: no fault
lies between it and them.
"""

import contextlib
import http.client
import json
import os
import signal
import time

from harness import Failure, check, metric, run, wait_until
from load import ERRORS, Threads, measured
from networks import NetworkCluster

DSPS, NAMESERVERS, ETCDS = (1, 2, 3, 4), (5, 6), (7, 8, 9)
GAUGES = ('epoch', 'active', 'in_sync', 'log_index', 'log_committed', 'dsps_reported')


class PairCluster(NetworkCluster):
    """A machine's number names a nameserver, too: 5 or 6."""

    def __init__(self, **kwargs):
        super().__init__(machines=len(DSPS), nameservers=2, copies=2, **kwargs)
        self.namespaces = ETCDS[-1]
        self.admin = {}    # of each nameserver
        self.members = {}  # of etcd: the running process

    @staticmethod
    def machine_of(name):
        if name.startswith('nameserver'):
            return NAMESERVERS[int(name[-1]) - 1]
        return NetworkCluster.machine_of(name)

    def add_machine(self, i):
        super().add_machine(i)
        if i in ETCDS:
            self.start_etcd(i)

    def start_etcd(self, i):
        client, peer = (f'http://10.77.{i}.2:{port}' for port in (2379, 2380))
        members = ','.join(f'm{m}=http://10.77.{m}.2:2380' for m in ETCDS)
        self.members[i] = self.start_on(i, [
            '/usr/bin/etcd', f'--name=m{i}', '--data-dir=' + os.path.join(self.dir, f'etcd-{i}'),
            '--listen-client-urls=' + client, '--advertise-client-urls=' + client,
            '--listen-peer-urls=' + peer, '--initial-advertise-peer-urls=' + peer,
            '--initial-cluster=' + members])

    def kill_etcd(self, i):
        process = self.members.pop(i)
        process.kill()
        process.wait()

    def etcd_leader(self):
        """The machine of the member that leads."""
        done = run('etcdctl', '--endpoints=' + etcd_urls(self.members), '-w', 'json',
                   'endpoint', 'status', env=dict(os.environ, ETCDCTL_API='3'))
        for told in json.loads(done.stdout):
            status = told['Status']
            if status['leader'] == status['header']['member_id']:
                return int(told['Endpoint'].split('.')[2])
        raise Failure(f'no member of etcd leads: {done.stdout}')

    def moved(self, word, name):
        if word.startswith('--coordinator-dir=') and name.startswith('nameserver'):
            return '--etcd=' + etcd_urls(ETCDS)
        return super().moved(word, name)

    def start(self, name, command):
        if name.startswith('nameserver'):
            self.admin[self.machine_of(name)] = next(
                word.partition('=')[2] for word in command if word.startswith('--admin-listen='))
        # etcd has no record yet: an operator says whose log it is that goes on.
        return super().start(name, command + ['--force-promote'] * (name == 'nameserver-1'))

    def is_ready(self):
        return super().is_ready() and self.why_not_whole() == '' and \
            self.gauges(self.active())['dsps_reported'] == len(DSPS) and \
            all(self.serves(dsp) for dsp in self.processes('dsp'))

    def serves(self, dsp):
        """It knows the sets of its blocks again, and has merged: without, it gives nothing."""
        return measured(self, dsp, 'blocks_not_serving') == 0

    def started_as(self, name):
        return next(each for each in self.started if f'--name={name}' in each.args)

    def signal(self, nameserver, number):
        name = f'nameserver-{NAMESERVERS.index(nameserver) + 1}'
        self.started_as(name).send_signal(number)

    def kill_dsp(self, i):
        """With its dataserver, so that it stays dead."""
        dataserver = self.started_as(f'dataserver-{i}')
        dataserver.kill()
        dataserver.wait()
        os.kill(self.process(f'dsp-{i}-1')['pid'], signal.SIGKILL)

    # --- who is active
    def gauges(self, nameserver):
        """Its metrics by name; None: it does not answer."""
        with contextlib.suppress(*ERRORS, http.client.HTTPException):
            text = self.request('GET', '/metrics', address=self.admin[nameserver],
                                timeout=1)[2].decode()
            if 'hayloft_nameserver_epoch ' in text:
                return {name: int(metric(text, 'hayloft_nameserver_' + name)) for name in GAUGES
                        if f'\nhayloft_nameserver_{name} ' in text}
        return None

    def active(self):
        """The active one, or 0. Where both say so, one after the other, the later epoch's."""
        found = [(told['epoch'], n) for n in NAMESERVERS
                 if (told := self.gauges(n)) and told['active']]
        return max(found)[1] if found else 0

    def why_not_whole(self):
        """Empty: one is active, and both are in sync."""
        told = {n: self.gauges(n) for n in NAMESERVERS}
        good = all(told.values()) and sum(each['active'] for each in told.values()) == 1 and \
            all(each['in_sync'] for each in told.values())
        return '' if good else f'not whole: {told}'

    def wait_whole(self, seconds=25):
        begun = time.monotonic()
        wait_until(lambda: self.why_not_whole() == '', self.why_not_whole, seconds)
        return time.monotonic() - begun


def etcd_urls(machines):
    return ','.join(f'http://10.77.{i}.2:2379' for i in sorted(machines))


class Watch(Threads):
    """Asks both nameservers in turn, all the time, which of them is active.

    `seen`: (asked at, nameserver, gauges or None). What an answer says was true at some time
    between this question and the next.
    """

    def __init__(self, cluster):
        super().__init__(self.run, 1)
        self.cluster = cluster
        self.seen = []

    def run(self, _):
        while not self.stopped.is_set():
            for nameserver in NAMESERVERS:
                self.seen.append((time.monotonic(), nameserver, self.cluster.gauges(nameserver)))
            self.stopped.wait(0.02)

    def last_active(self, nameserver):
        """When it was asked last of all times that it said to be active."""
        return max((at for at, n, told in self.seen if n == nameserver and told and
                    told['active']), default=0.0)

    def check_never_two(self):
        """Who is active before and after the other one is, in one epoch, was so meanwhile."""
        seen = list(self.seen)
        for before, between, after in zip(seen, seen[1:], seen[2:]):
            told = [each[2] for each in (before, between, after)]
            if all(told) and all(each['active'] for each in told):
                check(told[0]['epoch'] != told[2]['epoch'], f'two were active: {told}')
