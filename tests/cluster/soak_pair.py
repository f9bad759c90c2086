"""`make soak`: two nameservers, one of which takes over."""

import statistics

from pair_test import CRASH_S, STOP_S, takeovers
from soak_copies import at_most
from soak_promises import figure

RUNS = 20


def judged(coordinator):
    crash_s, stop_s = takeovers(coordinator, RUNS, RUNS)
    return [at_most('kill -9 of the active: seconds until another serves, at most',
                    round(max(crash_s), 2), CRASH_S[coordinator]),
            figure('the same, median', round(statistics.median(crash_s), 2), f'of {RUNS}', True),
            at_most('SIGSTOP: the same, at most', round(max(stop_s), 2), STOP_S),
            figure('the same, median', round(statistics.median(stop_s), 2), f'of {RUNS}', True)]


def takeovers_file():
    """The active nameserver is killed or stopped, 20 times each, under load; a lease file."""
    return judged('file')


def takeovers_etcd():
    """The same with etcd."""
    return judged('etcd')


def stopped_a_minute():
    """F33: the active nameserver is stopped for 60 s under load, and does nothing afterwards."""
    return [at_most(f'SIGSTOP for 60 s, {coordinator}: seconds until another serves',
                    round(max(takeovers(coordinator, 0, 2, stopped_s=60)[1]), 2), STOP_S)
            for coordinator in ('file', 'etcd')]


PARTS = {'takeovers_file': takeovers_file, 'takeovers_etcd': takeovers_etcd,
         'stopped_a_minute': stopped_a_minute}
