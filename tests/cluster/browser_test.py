#!/usr/bin/python3
"""The pages for people in a real Chromium (Debian's, and therefore by Debian's Python).

What they looked like is left in out/screenshots/.
"""

import hashlib
import os
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor

from browser import Browser, Site, png_image
from fronts import OriginReads, counter
from harness import BIN, Cluster, check, check_equal, main, random_bytes, run

NAMED_LIKE_HTML = "<img src=x onerror=document.title='owned'>.png"
REBIND = '--host-resolver-rules=MAP evil.example 127.0.0.1'


def write_files(cluster, bodies):
    """Files {name: bytes} that a browser can be given; their paths."""
    folder = os.path.join(cluster.dir, 'given')
    os.makedirs(folder, exist_ok=True)
    for name, body in bodies.items():
        with open(os.path.join(folder, name), 'wb') as file:
            file.write(body)
    return [os.path.join(folder, name) for name in bodies]


def texts(browser, selector):
    return browser.run('return [...document.querySelectorAll(arguments[0])]'
                       '.map(each => each.textContent);', selector)


def announced(browser, text):
    browser.wait(f'document.getElementById("live").textContent.startsWith({text!r})',
                 lambda: f'"{text}", but {texts(browser, "#live, .told")[:5]}')


def check_names(browser):
    """Whoever does not see the page is told what each control is for."""
    controls = browser.controls()
    unnamed = [role for role, name in controls if not name]
    check(not unnamed, f'controls without a name: {unnamed}')
    return controls


def check_narrow(browser, name):
    """At 320 pixels nothing lies beside the page."""
    browser.resize(320, 700)
    browser.run('scrollTo(0, 0);')
    browser.screenshot(name)
    wide = browser.run('return document.documentElement.scrollWidth;')
    check(wide <= 320, f'{name} is {wide} pixels wide')


def tab_to(browser, name):
    """By the Tab key alone; the control that has the focus shows it."""
    for _ in range(30):
        browser.keys('Tab')
        at, outline = browser.run(
            'const at = document.activeElement;'
            'const shown = at.id === "picker" ? at.nextElementSibling : at;'
            'return [at.getAttribute("aria-label") ?? at.labels?.[0]?.textContent ?? '
            '        at.textContent, getComputedStyle(shown).outlineStyle];')
        check(outline != 'none', f'one sees that "{at}" has the focus')
        if at.strip() == name:
            return
    check(False, f'"{name}" is not to be reached by Tab; the last was "{at}"')


def test_fifty_images_by_drop():
    """All are stored and shown, with hashes and thumbnails; keys alone delete and undo."""
    with Cluster(disks=1) as cluster, Browser() as browser:
        cluster.up()
        images = {f'image-{i}.png': png_image(i) for i in range(49)}
        images[NAMED_LIKE_HTML] = png_image(49)
        paths = write_files(cluster, images)
        browser.open(f'http://{cluster.gateway}/')
        check(('button', 'Choose images') in check_names(browser), 'the picker')
        browser.drop('.drop', paths)
        announced(browser, '50 of 50 uploaded')
        check_equal(texts(browser, '.sha1'),
                    [hashlib.sha1(body).hexdigest() for body in images.values()], 'SHA-1')
        check_equal(texts(browser, '.facts .good'), ['✓checked'] * 50, 'as the browser has it')
        check_equal(texts(browser, '.file .name')[-1], NAMED_LIKE_HTML, 'a name is text')
        total = browser.run('const all = document.getElementById("total");'
                            'return [all.value, all.max];')
        check_equal(total, [sum(map(len, images.values()))] * 2, 'progress in all')
        browser.run('for (const each of document.querySelectorAll(".thumb img"))'
                    '  each.loading = "eager";')
        browser.wait('[...document.querySelectorAll(".thumb img")].filter('
                     'each => each.complete && each.naturalWidth === 160).length === 50',
                     'thumbnails')
        check_equal(browser.run('return document.title;'), 'Upload images – Hayloft', 'the title')
        browser.screenshot('upload-light')
        delete_by_keys(cluster, browser)
        browser.driver.refresh()  # what was uploaded from this tab is known still
        check_equal(len(texts(browser, '.file')), 50, 'files after a reload')
        check(('button', 'Delete image-1.png') in check_names(browser), 'its button')
        browser.prefer(prefers_color_scheme='dark', prefers_reduced_motion='reduce')
        browser.screenshot('upload-dark')
        check_narrow(browser, 'upload-narrow')
        browser.check_quiet()
        refused = browser.run('try { document.body.innerHTML = "<b>x</b>"; } '
                              'catch (error) { return error.name; }')
        check_equal(refused, 'TypeError', 'HTML out of text, were a script to try')
        check(browser.complaints(), 'what the policy forbids is seen on the console')


def delete_by_keys(cluster, browser):
    path = browser.run('return new URL(document.querySelector(".file a").href).pathname;')
    browser.run('scrollTo(0, 0); document.activeElement.blur();')
    tab_to(browser, 'Choose images')
    tab_to(browser, 'Delete image-0.png')
    browser.keys('Enter')
    announced(browser, 'image-0.png is deleted')
    check_equal(cluster.request('GET', path)[0], 410, 'it is deleted')
    focus = browser.run('return document.activeElement.textContent;')
    check_equal(focus, 'Undo', 'where the focus is')
    browser.screenshot('upload-deleted')
    browser.keys('Enter')
    announced(browser, 'image-0.png is back')
    check_equal(cluster.request('GET', path)[0], 200, 'it is back')


def test_refusals_are_told_and_tried_again():
    """A file that is refused shows why; what the cluster cannot take now is sent again later."""
    with Cluster(disks=1, sets=['gateway.upload_timeout_ms=500',
                                'gateway.upload_bytes_max=100000']) as cluster:
        cluster.up()
        with Browser() as browser:
            browser.open(f'http://{cluster.gateway}/')
            browser.drop('.drop', write_files(cluster, {'empty.png': b'',
                                                        'large.bin': random_bytes(200_000)}))
            announced(browser, '0 of 2 uploaded, 2 failed')
            empty, large = texts(browser, '.told')
            check('is empty.' in empty and 'too large: at most' in large, f'{empty!r}, {large!r}')
            check(('button', 'Try again to upload empty.png') in check_names(browser), 'a button')
            dsp = cluster.processes('dsp')[0]
            cluster.kill(dsp, signal.SIGSTOP)
            try:
                browser.drop('.drop', write_files(cluster, {'late.png': png_image(1)}))
                browser.wait('document.body.textContent.includes("Trying again in")', 'a retry')
                browser.screenshot('upload-errors')
            finally:
                cluster.kill(dsp, signal.SIGCONT)
            announced(browser, '1 of 3 uploaded, 2 failed')


def test_upload_key():
    """Asked for when it is needed, again when it is wrong; then what was refused goes through."""
    with tempfile.TemporaryDirectory(prefix='hayloft-test-') as top:
        file = os.path.join(top, 'upload.keys')
        right = run(f'{BIN}/hayloft', 'key', 'upload', 'shop', '--file', file).stdout.strip()
        with Cluster(disks=1, sets=[f'gateway.upload_keys={file}']) as cluster, \
                Browser() as browser:
            cluster.up()
            browser.open(f'http://{cluster.gateway}/')
            browser.drop('.drop', write_files(cluster, {'a.png': png_image(1),
                                                        'b.png': png_image(2)}))
            announced(browser, '0 of 2 uploaded, 2 failed')
            needed = 'An upload key is needed, as Authorization: Bearer, or a signed URL.'
            check_equal(texts(browser, '.told'), [needed] * 2, 'why')
            for key, wanted in (('wrong', '0 of 2 uploaded, 2 failed'),
                                (right, '2 of 2 uploaded')):
                browser.wait('document.activeElement.id === "key"', 'the key is asked for')
                names = [name for role, name in check_names(browser) if role == 'textbox']
                check_equal(names, ['This gateway takes uploads with a key only:'], 'its label')
                browser.screenshot('upload-key')
                browser.cdp('Input.insertText', text=key)
                browser.keys('Enter')
                announced(browser, wanted)
            check(browser.run('return document.getElementById("key-form").hidden;'), 'no more')


def test_status_page():
    """It says what the cluster says, and how old that is when the gateway has gone."""
    with Cluster(dataservers=2, disks=2, copies=2) as cluster, Browser() as browser:
        cluster.up()
        for i in range(3):
            cluster.upload(png_image(i))
        browser.open(f'http://{cluster.gateway}/status')
        browser.wait('document.getElementById("verdict").textContent.startsWith("All is well")',
                     lambda: f'all is well: {texts(browser, ".verdict")}')
        browser.wait('document.getElementById("facts").textContent.startsWith("Files3")',
                     lambda: f'three files: {texts(browser, ".tile")}')
        told = cluster.status()
        check_equal(texts(browser, '#dsps th'), [str(dsp['id']) for dsp in told['dsps']], 'disks')
        check_equal(texts(browser, '#dsps .state'), ['up'] * 4, 'their states')
        check_equal(texts(browser, '#dsps td:nth-child(3)'),
                    [dsp['machine'] for dsp in told['dsps']], 'their machines')
        check_equal(texts(browser, '#nameservers th'),
                    [each['address'] for each in told['nameservers']], 'nameservers')
        check('Uploads3' in ' '.join(label + figure for label, figure in zip(
            texts(browser, '#gateway .label'), texts(browser, '#gateway .figure'))), 'uploads')
        check_names(browser)
        browser.screenshot('status-light')
        browser.prefer(prefers_color_scheme='dark')
        browser.screenshot('status-dark')
        browser.prefer(prefers_color_scheme='light')
        check_narrow(browser, 'status-narrow')
        browser.check_quiet()
        cluster.kill(cluster.process('gateway-1'))
        browser.wait('document.getElementById("verdict").textContent.includes("is old")',
                     'the gateway is missed')
        check_equal(len(texts(browser, '#dsps tr')), 4, 'what is known stays')


ATTACK = '''
const gateway = arguments[0], id = arguments[1], token = arguments[2];
const quietly = {mode: 'no-cors', credentials: 'include'};
const tries = [
  fetch(gateway + '/v1/files', {...quietly, method: 'POST', body: 'stored for evil'}),
  fetch(gateway + '/v1/files', {method: 'POST', body: 'stored for evil'}),
  fetch(gateway + '/v1/files/' + id, {method: 'DELETE',
                                      headers: {'Hayloft-Delete-Token': token}}),
  fetch(gateway + '/v1/status').then(answer => answer.text()),
];
return (await Promise.allSettled(tries)).map(
    each => each.status === 'rejected' || each.value.type === 'opaque' ? 'kept' : 'read');
'''
FORM = '''<form id=form method=post enctype=multipart/form-data action="http://{}/v1/files">
<input name=f value=x></form>'''


def test_other_sites():
    """CSRF and DNS rebinding (S24): other sites' pages change and learn nothing."""
    with Cluster(disks=1) as cluster, Browser(REBIND) as browser:
        cluster.up()
        stored = cluster.upload(png_image(1))
        before = counter(cluster, 'uploads_total')
        with Site({'/': FORM.format(cluster.gateway)}) as site:
            browser.open(f'http://evil.example:{site.port}/')
            foreign = counter(cluster, 'foreign_total')
            check_equal(browser.promised(ATTACK, f'http://{cluster.gateway}', stored['id'],
                                         stored['delete_token']), ['kept'] * 4, 'what evil gets')
            # The DELETE's preflight is answered, and it is not sent.
            check_equal(counter(cluster, 'foreign_total') - foreign, 2, 'uploads refused')
            browser.run('document.getElementById("form").submit();')
            browser.wait('document.body.textContent.includes("foreign_page")', 'a form refused')
        check_equal(counter(cluster, 'uploads_total'), before, 'uploads')
        check_equal(cluster.request('GET', '/' + stored['id'])[0], 200, 'the file')
        for path in ('/', '/status', '/v1/status', '/pages/upload.js'):
            browser.open(f'http://evil.example:{cluster.port}{path}')
            body = browser.run('return document.body.textContent;')
            check('"wrong_host"' in body and len(body) < 300, f'{path} by a rebound name: {body}')
        # A read needs no name; from there nothing can be changed either.
        browser.open(f'http://evil.example:{cluster.port}/{stored["id"]}')
        got = browser.promised('const answer = await fetch("/v1/files", {method: "POST", '
                               'body: "x"}); return [answer.status];')
        check_equal(got, [421], 'an upload by a rebound name')
        check_equal(counter(cluster, 'uploads_total'), before, 'uploads')


def test_page_of_five_hundred_images():
    """All appear; a reload reads none again; asked whether they changed, none is sent again."""
    with Cluster(disks=1) as cluster, Browser() as browser:
        cluster.up()
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(lambda i: cluster.upload(png_image(i, 24, 18))['id'], range(500)))
        page = ''.join(f'<img width=24 src="http://{cluster.gateway}/{each}.png">' for each in ids)
        with Site({'/': '<link rel=icon href="data:,">' + page}) as site:
            shown = ('[...document.images].filter('
                     'each => each.complete && each.naturalWidth === 24).length === 500')
            with OriginReads(cluster) as reads:
                browser.open(f'http://127.0.0.1:{site.port}/')
                browser.wait(shown, '500 images')
            check_equal((reads.full, reads.revalidated), (500, 0), 'reads of the first time')
            browser.screenshot('five-hundred')
            with OriginReads(cluster) as reads:
                browser.driver.refresh()
                browser.wait(shown, '500 images again')
            check_equal(reads.full, 0, 'reads at a reload: they never change')
            with OriginReads(cluster) as reads:
                got = browser.promised(
                    'const all = [...document.images].map(each => '
                    '  fetch(each.src, {cache: "no-cache"}).then(answer => answer.blob()));'
                    'return (await Promise.all(all)).filter(each => each.size > 60).length;')
            check_equal(got, 500, 'images by fetch')
            check_equal((reads.full, reads.revalidated), (0, 500), 'they were asked for by tag')
        browser.check_quiet()


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])
