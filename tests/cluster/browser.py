"""A real Chromium without a screen, and images for it to show.

It has a profile of its own, which goes with it, and is ended with all of its processes.
"""

import contextlib
import http.server
import os
import shutil
import signal
import struct
import tempfile
import threading
import zlib

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from harness import TOP, alive, check, wait_until

SCREENSHOTS = os.path.join(TOP, 'out', 'screenshots')


def png_image(seed, width=160, height=120):
    """A PNG of its own colours: rings about a place that `seed` says."""
    centre_x, centre_y = seed * 37 % width, seed * 53 % height
    colour = [60 + seed * step % 196 for step in (71, 113, 157)]
    rows = b''
    for y in range(height):
        rows += b'\0'
        for x in range(width):
            ring = ((x - centre_x) ** 2 + (y - centre_y) ** 2) // 160 % 5
            rows += bytes(part * (ring + 3) // 7 for part in colour)

    def chunk(kind, body):
        whole = kind + body
        return struct.pack('>I', len(body)) + whole + struct.pack('>I', zlib.crc32(whole))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0,
                                                              0))
            + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


class Site:
    """Another web site: what `pages` holds, by path, on a port of its own."""

    def __init__(self, pages):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # pylint: disable=invalid-name
                body = pages.get(self.path, '').encode()
                self.send_response(200 if body else 404)
                self.send_header('Content-Type', 'text/html; charset=utf-8')
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def descendants(pid):
    """The processes below one, by what /proc says now."""
    parents = {}
    for name in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError), open(f'/proc/{name}/stat', encoding='utf-8') as file:
            parents[int(name)] = int(file.read().rpartition(')')[2].split()[1])
    found, new = set(), {pid}
    while new:
        found |= new
        new = {child for child, parent in parents.items() if parent in found} - found
    return found


class Browser:
    """`driver` is selenium's. Words are Chromium's own switches."""

    def __init__(self, *words, width=1100, height=900):
        self.profile = tempfile.mkdtemp(prefix='hayloft-browser-')
        options = webdriver.ChromeOptions()
        options.binary_location = '/usr/bin/chromium'
        options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
        options.set_capability('unhandledPromptBehavior', 'accept')
        switches = ['--headless=new', f'--user-data-dir={self.profile}', '--no-first-run',
                    '--disable-dev-shm-usage', '--disable-gpu', '--disable-component-update',
                    '--disable-background-networking', '--disable-sync',
                    f'--window-size={width},{height}', *words]
        if os.geteuid() == 0:
            switches.append('--no-sandbox')
        for switch in switches:
            options.add_argument(switch)
        self.service = Service('/usr/bin/chromedriver')
        try:
            self.driver = webdriver.Chrome(service=self.service, options=options)
            self.driver.set_page_load_timeout(30)
            self.driver.set_script_timeout(30)
        except BaseException:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        process = getattr(self.service, 'process', None)
        started = descendants(process.pid) if process is not None else set()
        with contextlib.suppress(Exception):
            self.driver.quit()
        with contextlib.suppress(Exception):
            self.service.stop()
        for pid in started:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, started)), 'the browser has ended')
        shutil.rmtree(self.profile, ignore_errors=True)

    # --- what a test asks of it
    def open(self, url):
        self.driver.get(url)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def promised(self, script, *arguments):
        """What the promise that `script` returns comes to, or [its error's name]."""
        return self.driver.execute_async_script(
            'const [done] = [...arguments].slice(-1);'
            f'(async (...words) => {{ {script} }})(...[...arguments].slice(0, -1))'
            '.then(done, error => done([String(error)]));', *arguments)

    def cdp(self, command, **arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def wait(self, condition, what):
        """Until the JavaScript expression is true; returns its value."""
        return wait_until(lambda: self.run(f'return {condition};'), what, 30)

    def drop(self, selector, paths):
        """As when files are dragged from the desktop to an element."""
        x, y = self.run('const r = document.querySelector(arguments[0]).getBoundingClientRect();'
                        'return [r.x + r.width / 2, r.y + r.height / 2];', selector)
        data = {'items': [], 'files': list(paths), 'dragOperationsMask': 1}
        for kind in ('dragEnter', 'dragOver', 'drop'):
            self.cdp('Input.dispatchDragEvent', type=kind, x=x, y=y, data=data)

    def keys(self, *names):
        """Real key presses: Tab, Enter."""
        codes = {'Tab': 9, 'Enter': 13}
        for name in names:
            key = {'key': name, 'code': name, 'windowsVirtualKeyCode': codes[name]}
            text = {'text': '\r'} if name == 'Enter' else {}
            self.cdp('Input.dispatchKeyEvent', type='keyDown', **key, **text)
            self.cdp('Input.dispatchKeyEvent', type='keyUp', **key)

    def complaints(self):
        """Errors on its console since the last call: failed loads, exceptions, broken policies."""
        return [entry['message'] for entry in self.driver.get_log('browser')
                if entry['level'] in ('SEVERE', 'WARNING')]

    def check_quiet(self):
        told = self.complaints()
        check(not told, f'the console: {told}')

    def controls(self):
        """(role, name) of each control in the accessibility tree."""
        nodes = self.cdp('Accessibility.getFullAXTree')['nodes']
        roles = ('button', 'link', 'textbox', 'progressbar', 'ProgressIndicator', 'checkbox',
                 'combobox')
        return [(node['role']['value'], node.get('name', {}).get('value', '').strip())
                for node in nodes
                if not node.get('ignored') and node.get('role', {}).get('value') in roles]

    def screenshot(self, name):
        os.makedirs(SCREENSHOTS, exist_ok=True)
        check(self.driver.save_screenshot(os.path.join(SCREENSHOTS, name + '.png')), name)

    def prefer(self, **features):
        """prefer(prefers_color_scheme='dark')"""
        self.cdp('Emulation.setEmulatedMedia', features=[
            {'name': name.replace('_', '-'), 'value': value} for name, value in features.items()])

    def resize(self, width, height=900):
        self.cdp('Emulation.setDeviceMetricsOverride', width=width, height=height,
                 deviceScaleFactor=1, mobile=False)
