#!/usr/bin/env python3
"""tests/run.py: of each kind of step, what failed is shown and not buried."""

import os
import subprocess
import sys
import tempfile
import unittest

TESTS = os.path.abspath(os.path.join(os.path.dirname(__file__), '..'))
sys.path.insert(0, TESTS)
import run  # noqa: E402  pylint: disable=wrong-import-position

RULE = '=' * 79
DOCTEST = f'''[doctest] doctest version is "2.4.9"
{RULE}
tests/unit/a_test.cc:6:
TEST CASE:  a: two are wrong
  of which one in a part

tests/unit/a_test.cc:7: ERROR: CHECK( 1==2 ) is NOT correct!
  values: CHECK( 1 == 2 )
  logged: i := 3

tests/unit/a_test.cc:8: FATAL ERROR: REQUIRE( x ) is NOT correct!
  values: REQUIRE( false )

{RULE}
tests/unit/a_test.cc:20:
TEST CASE:  b: says much and passes

tests/unit/a_test.cc:21: MESSAGE: {'much' * 5}

''' + f'tests/unit/a_test.cc:22: WARNING: WARN( 1==2 ) is NOT correct!\n\n{RULE}\n' * 40 + f'''
{RULE}
tests/unit/a_test.cc:30:
TEST CASE:  c: throws

tests/unit/a_test.cc:30: ERROR: test case THREW exception: out of hay

{RULE}
[doctest] test cases:   9 |   7 passed | 2 failed | 0 skipped
'''
CLUSTER = '''ok test_one (1.0 s)
--- gateway-1
2026-01-01 I ready
FAILED test_two: Two.
Traceback (most recent call last):
  File "x.py", line 1, in main
harness.Failure: GET: got 500, wanted 200
''' + 'ok test_more (0.1 s)\n' * 100 + '2 passed, 1 failed\n'
UNITTEST = f'''..F
{RULE[:70]}
FAIL: test_three (x.Y)
{'-' * 70}
Traceback (most recent call last):
AssertionError: 3 != 4

{'-' * 70}
Ran 3 tests in 0.1s

FAILED (failures=1)
''' + 'chatter\n' * 100


class Report(unittest.TestCase):
    def test_doctest_cases_come_with_their_names_and_without_those_that_passed(self):
        self.assertEqual(run.report('unit', DOCTEST), [
            'tests/unit/a_test.cc:6:', 'TEST CASE:  a: two are wrong', '  of which one in a part',
            'tests/unit/a_test.cc:7: ERROR: CHECK( 1==2 ) is NOT correct!',
            '  values: CHECK( 1 == 2 )', '  logged: i := 3',
            'tests/unit/a_test.cc:8: FATAL ERROR: REQUIRE( x ) is NOT correct!',
            '  values: REQUIRE( false )',
            'tests/unit/a_test.cc:30:', 'TEST CASE:  c: throws',
            'tests/unit/a_test.cc:30: ERROR: test case THREW exception: out of hay'])

    def test_a_case_behind_log_lines_is_still_found(self):
        noisy = DOCTEST.replace('TEST CASE:  c', 'W noise\nTEST CASE:  c')
        self.assertIn('TEST CASE:  c: throws', run.report('unit', noisy))

    def test_other_kinds_of_steps(self):
        for output, wanted in (
                (CLUSTER, 'harness.Failure: GET: got 500, wanted 200'),
                (CLUSTER, 'FAILED test_two: Two.'), (UNITTEST, 'FAIL: test_three (x.Y)'),
                (UNITTEST, 'AssertionError: 3 != 4'),
                ('lost: 5\nreplay: sim --seed=7\n' + 'x\n' * 90, 'lost: 5'),
                ('lost: 5\nreplay: sim --seed=7\n' + 'x\n' * 90, 'replay: sim --seed=7'),
                ('a.cc:3:4: error: no such thing\n' + 'x\n' * 90, 'a.cc:3:4: error: no such thing'),
                ('==7==ERROR: AddressSanitizer: heap\n #0 f\n\n' + 'x\n' * 90, ' #0 f'),
                ('common/x.cc:801: 801 lines\n' + 'x\n' * 90, 'common/x.cc:801: 801 lines')):
            shown = run.report('step', output)
            self.assertIn(wanted, shown)
            self.assertNotIn('ok test_more (0.1 s)', shown)
            self.assertLess(len(shown), 12)

    def test_it_is_bounded_and_says_what_was_left_out(self):
        many = DOCTEST.split('[doctest] test cases')[0] * 30
        shown = run.report('unit', many)
        self.assertLessEqual(len(shown), run.LINES_MAX + 1)
        self.assertRegex(shown[-1], r'^\.\.\. and \d+ more in out/test/unit\.log$')

    def test_what_is_not_understood_is_shown_by_its_end(self):
        self.assertEqual(run.report('step', ''.join(f'{i}\n' for i in range(100))),
                         [str(i) for i in range(40, 100)])

    def test_the_last_line_sums_up_and_the_failures_stand_before_it(self):
        with tempfile.TemporaryDirectory() as folder:
            script = os.path.join(folder, 'fails')
            with open(script, 'w', encoding='utf-8') as file:
                file.write(f'#!/bin/sh\ncat <<END\n{CLUSTER}END\nexit 1\n')
            os.chmod(script, 0o755)
            code = ('import sys; sys.path.insert(0, sys.argv[1]); import run; '
                    'run.LOGS = sys.argv[2]; '
                    'run.CHECK[:] = [("bad", [sys.argv[3]], {}), ("good", ["true"], {})]; '
                    'sys.argv[1:] = ["check"]; sys.exit(run.main())')
            done = subprocess.run([sys.executable, '-c', code, TESTS, folder, script],
                                  capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        self.assertEqual((done.returncode, lines[-1]), (1, '3 passed, 1 failed'))
        self.assertEqual(done.stdout.count('harness.Failure'), 2)
        closing = lines.index('--- failed in bad:')
        self.assertLess(max(i for i, line in enumerate(lines) if line.startswith('good ')), closing)
        self.assertIn('    harness.Failure: GET: got 500, wanted 200', lines[closing:])

    def test_clusters_that_run_side_by_side_do_not_share_ports(self):
        network = ['sh', '-c',
                   'ip -br address show lo up | grep -q 127.0.0.1 && readlink /proc/self/ns/net']
        steps, at_a_time = run.side_by_side([(name, network, {})
                                             for name in ('cluster-a', 'cluster-b')])
        if at_a_time == 1:
            return  # not allowed here: one after the other
        seen = {subprocess.run(command, capture_output=True, text=True, check=True).stdout
                for _, command, _ in steps}
        self.assertEqual(len(seen | {os.readlink('/proc/self/ns/net') + '\n'}), 3)

    def test_what_is_no_cluster_runs_as_it_is(self):
        steps = [('unit-a', ['true'], {}), ('lint', ['true'], {})]
        self.assertEqual(run.side_by_side(steps), (steps, os.cpu_count()))

    def test_a_cluster_alone_has_a_network_of_its_own_too(self):
        steps, at_a_time = run.side_by_side([('cluster-a', ['true'], {}), ('lint', ['true'], {})])
        if at_a_time > 1:
            self.assertEqual([command for _, command, _ in steps], [run.APART + ['true'], ['true']])


if __name__ == '__main__':
    unittest.main()
