// Uploads what is chosen, dropped or pasted, a few files at a time, and lists what became of it.
//
//   waiting -> sending -> stored <-> deleted
//                 |  \
//                 |   -> failed, or refused for want of a key -> waiting
//                 +-> (503, 429) waiting until Retry-After is over, a bounded number of times
//
// What may be deleted is known by the token that came with its upload. Tokens and the upload key
// lie in sessionStorage: in this tab, until it is closed.

import {bytesText, element, sentence} from './common.js';

const IN_FLIGHT_MAX = 4;
const TRIES_MAX = 6;
const WAIT_SECONDS_MAX = 30;
const KEPT_FILES_MAX = 1000;
const ANNOUNCE_MS = 1000;
const FILES_KEY = 'hayloft.files';
const UPLOAD_KEY = 'hayloft.key';

const byId = (id) => document.getElementById(id);
const entries = [];  // in the order of the list
let inFlight = 0;

// --- what is kept of this session

function stored(name, otherwise) {
  try {
    return JSON.parse(sessionStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;  // storage is off, or holds something else
  }
}

function store(name, value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    // Off or full: the page works on, and forgets at its end.
  }
}

function keepFiles() {
  const kept = entries.filter((entry) => entry.answer).slice(-KEPT_FILES_MAX);
  store(FILES_KEY, kept.map(({name, answer, checked, state}) =>
      ({name, answer, checked, deleted: state === 'deleted'})));
}

// --- what is said to those who listen

let announceAt = 0;
let announceTimer = null;

function counted() {
  const asked = entries.filter((entry) => entry.file);
  const count = (...states) => asked.filter((entry) => states.includes(entry.state)).length;
  const done = count('stored', 'deleted');
  const failed = count('failed', 'refused');
  let text = `${done} of ${asked.length} uploaded`;
  if (failed > 0) text += `, ${failed} failed`;
  return text;
}

// Progress is told at most once a second: a screen reader shall not stumble over it.
function announceProgress() {
  if (announceTimer !== null) return;
  announceTimer = setTimeout(() => {
    announceTimer = null;
    announceAt = Date.now();
    byId('live').textContent = counted();
  }, Math.max(0, announceAt + ANNOUNCE_MS - Date.now()));
}

function announce(text) {
  clearTimeout(announceTimer);
  announceTimer = null;
  announceAt = Date.now();
  byId('live').textContent = text;
}

function showTotal() {
  let all = 0;
  let sent = 0;
  for (const {file, state, sentBytes} of entries) {
    if (!file) continue;
    all += file.size;
    sent += state === 'waiting' || state === 'sending' ? sentBytes : file.size;
  }
  byId('total').max = Math.max(1, all);
  byId('total').value = all > 0 ? sent : 0;
  byId('overall').hidden = !entries.some((entry) => entry.file);
}

// --- one file in the list

function button(text, name, act) {
  const made = element('button', {type: 'button'}, text);
  made.setAttribute('aria-label', name);
  made.addEventListener('click', act);
  return made;
}

function linkOf(entry) {
  return new URL(entry.answer.url, location.href);
}

function addEntry(name, file) {
  const parts = {
    thumb: element('div', {className: 'thumb'}),
    name: element('p', {className: 'name', textContent: name, title: name}),
    facts: element('p', {className: 'facts'}),
    told: element('p', {className: 'told'}),
    bar: element('progress', {max: 1, value: 0}),
    row: element('div', {className: 'row'}),
  };
  parts.bar.setAttribute('aria-label', `Upload of ${name}`);
  const item = element('li', {className: 'file'}, parts.thumb,
      element('div', {}, parts.name, parts.facts, parts.told, parts.bar, parts.row));
  const entry = {name, file, parts, item, state: 'waiting', tries: 0, sentBytes: 0, note: ''};
  entries.push(entry);
  byId('files').append(item);
  return entry;
}

function fillFacts(entry) {
  const {facts} = entry.parts;
  if (!entry.answer) {
    facts.textContent = bytesText(entry.file.size);
    return;
  }
  const {size, content_type: type, sha1} = entry.answer;
  const hash = element('code', {className: 'sha1'}, sha1);
  const lines = [`${bytesText(size)}, ${type}`, element('br'), 'SHA-1 ', hash];
  if (entry.checked) {
    const words = element('span', {className: 'unseen'}, 'checked');
    lines.push(' ', element('span', {className: 'good',
                                     title: 'The same as this browser computed'}, '✓', words));
  }
  facts.replaceChildren(...lines);
}

function fillThumb(entry) {
  const {thumb} = entry.parts;
  const ending = /\.(\w{1,5})$/.exec(entry.name);
  const word = element('span', {}, ending ? ending[1].toUpperCase() : 'file');
  if (!thumb.firstChild) thumb.append(word);
  const isImage = entry.answer?.content_type.startsWith('image/');
  if (!isImage || entry.state === 'deleted' || thumb.querySelector('img')) return;
  const image = element('img', {alt: '', decoding: 'async', loading: 'lazy'});
  image.addEventListener('error', () => thumb.replaceChildren(word));
  image.src = linkOf(entry).href;
  thumb.replaceChildren(image);
}

function fillRow(entry) {
  const {name} = entry;
  if (entry.state === 'stored') {
    const open = element('a', {href: linkOf(entry).href, target: '_blank', rel: 'noopener',
                               className: 'button'}, 'Open');
    open.setAttribute('aria-label', `Open ${name} in a new tab`);
    return [open, button('Copy link', `Copy link of ${name}`, () => copyLink(entry)),
            button('Delete', `Delete ${name}`, () => setDeleted(entry, true))];
  }
  if (entry.state === 'deleted') {
    return [button('Undo', `Undo deleting ${name}`, () => setDeleted(entry, false))];
  }
  if (entry.state === 'failed' && entry.file) {
    return [button('Try again', `Try again to upload ${name}`, () => queue(entry))];
  }
  return [];
}

function show(entry, state, note = '') {
  const hadFocus = entry.parts.row.contains(document.activeElement);
  Object.assign(entry, {state, note});
  const {bar, told, row} = entry.parts;
  entry.item.classList.toggle('deleted', state === 'deleted');
  bar.hidden = state !== 'waiting' && state !== 'sending';
  told.textContent = note;
  told.hidden = note === '';
  told.classList.toggle('bad', state === 'failed' || state === 'refused' || state === 'stored');
  fillFacts(entry);
  fillThumb(entry);
  row.replaceChildren(...fillRow(entry));
  row.hidden = !row.firstChild;
  // Whoever works by keyboard stays where he was: on what the file now offers last.
  if (hadFocus) row.lastElementChild?.focus();
}

// --- uploading

function queue(entry) {
  Object.assign(entry, {tries: 0, sentBytes: 0});
  show(entry, 'waiting');
  pump();
}

function pump() {
  for (const entry of entries) {
    if (inFlight >= IN_FLIGHT_MAX) break;
    if (entry.state === 'waiting' && !entry.timer) send(entry);
  }
  showTotal();
  announceProgress();
}

function send(entry) {
  const {file, parts: {bar}} = entry;
  ++inFlight;
  ++entry.tries;
  show(entry, 'sending');
  const request = new XMLHttpRequest();
  request.open('POST', '/v1/files');
  request.setRequestHeader('Content-Type', file.type || 'application/octet-stream');
  const key = entry.key = stored(UPLOAD_KEY, '');
  if (key !== '') request.setRequestHeader('Authorization', `Bearer ${key}`);
  request.upload.addEventListener('progress', (event) => {
    entry.sentBytes = Math.min(event.loaded, file.size);
    bar.max = Math.max(1, file.size);
    bar.value = entry.sentBytes;
    showTotal();
  });
  request.addEventListener('loadend', async () => {
    await onAnswer(entry, request);
    --inFlight;
    pump();
  });
  request.send(file);
}

function parsed(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

async function onAnswer(entry, request) {
  const {status} = request;
  const answer = parsed(request.responseText);
  if ((status === 201 || status === 200) && typeof answer.url === 'string') {
    entry.answer = answer;
    const sha1 = await sha1Of(entry.file);
    entry.checked = sha1 === answer.sha1;
    show(entry, 'stored', sha1 === null || entry.checked ? '' :
         'What was stored is not what was sent, or the file has changed meanwhile.');
    keepFiles();
    return;
  }
  const words = sentence(answer.message ?? (status === 0 ?
    'The connection broke: the gateway is away, the file is too large for it, or cannot be read' :
    `The gateway answered ${status}`));
  // 403 is also for pages of other sites, which no key would help.
  const wantsKey =
    status === 401 || (status === 403 && answer.error === 'forbidden' && entry.key !== '');
  if (wantsKey && entry.key !== stored(UPLOAD_KEY, '') && entry.tries < TRIES_MAX) {
    show(entry, 'waiting');  // another key was given meanwhile
  } else if (wantsKey) {
    show(entry, 'refused', words);
    askForKey();
  } else if ((status === 503 || status === 429) && entry.tries < TRIES_MAX) {
    waitAndRetry(entry, words, Number(request.getResponseHeader('Retry-After')));
  } else {
    show(entry, 'failed', words);
  }
}

function waitAndRetry(entry, words, seconds) {
  // More at each try, and not all at the same moment.
  const wanted = Math.max(seconds > 0 ? seconds : 1, entry.tries - 1);
  const wait = Math.min(wanted, WAIT_SECONDS_MAX) + Math.random();
  entry.sentBytes = entry.parts.bar.value = 0;
  entry.timer = setTimeout(() => {
    entry.timer = null;
    pump();
  }, wait * 1000);
  show(entry, 'waiting', `${words} Trying again in ${Math.ceil(wait)} s.`);
}

// Null where the browser does not compute it: on plain HTTP from another machine.
async function sha1Of(file) {
  if (!globalThis.crypto?.subtle) return null;
  try {
    const hash = await crypto.subtle.digest('SHA-1', await file.arrayBuffer());
    return Array.from(new Uint8Array(hash), (b) => b.toString(16).padStart(2, '0')).join('');
  } catch {
    return null;  // the file can no longer be read
  }
}

function askForKey() {
  if (!byId('key-form').hidden) return;
  byId('key-form').hidden = false;
  byId('key').focus();
}

// --- what can be done with what is stored

async function setDeleted(entry, deleted) {
  const {id, delete_token: token} = entry.answer;
  for (const each of entry.parts.row.querySelectorAll('button')) each.ariaDisabled = 'true';
  if (entry.busy) return;
  entry.busy = true;
  const path = `/v1/files/${encodeURIComponent(id)}`;
  let words = '';
  try {
    const headers = {'Hayloft-Delete-Token': token};
    const answer = deleted ? await fetch(path, {method: 'DELETE', headers}) :
                             await fetch(`${path}/undelete`, {method: 'POST', headers});
    if (!answer.ok) words = sentence(parsed(await answer.text()).message ?? `HTTP ${answer.status}`);
  } catch {
    words = 'The gateway does not answer.';
  }
  entry.busy = false;
  const done = words === '' ? deleted : !deleted;
  if (words !== '') words = `Could not ${deleted ? 'delete' : 'undelete'}: ${words}`;
  show(entry, done ? 'deleted' : 'stored', words);
  keepFiles();
  announce(words !== '' ? words : `${entry.name} is ${deleted ? 'deleted' : 'back'}`);
}

async function copyLink(entry) {
  const link = linkOf(entry).href;
  try {
    await navigator.clipboard.writeText(link);
    announce(`Link of ${entry.name} copied`);
  } catch {
    // No secure context, or not allowed: shown, so that it can be copied by hand.
    const {told} = entry.parts;
    told.textContent = link;
    told.hidden = false;
    getSelection().selectAllChildren(told);
    announce('The link is selected: copy it with your keyboard or menu');
  }
}

// --- where files come from

function addFiles(files) {
  for (const file of files) show(addEntry(file.name, file), 'waiting');
  pump();
}

byId('picker').addEventListener('change', () => {
  addFiles([...byId('picker').files]);
  byId('picker').value = '';  // the same file may be chosen again
});

byId('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  store(UPLOAD_KEY, byId('key').value.trim());
  byId('key').value = '';
  byId('key-form').hidden = true;
  byId('picker').focus();
  for (const entry of entries) {
    if (entry.state === 'refused') queue(entry);
  }
});

const hasFiles = (event) => event.dataTransfer?.types.includes('Files');
addEventListener('dragover', (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = 'copy';
  document.body.classList.add('dragging');
});
addEventListener('dragleave', (event) => {
  if (event.relatedTarget === null) document.body.classList.remove('dragging');
});
addEventListener('drop', (event) => {
  document.body.classList.remove('dragging');
  if (!hasFiles(event)) return;
  event.preventDefault();
  addFiles([...event.dataTransfer.files]);
});
addEventListener('paste', (event) => addFiles([...event.clipboardData.files]));
addEventListener('beforeunload', (event) => {
  if (entries.some(({state}) => state === 'waiting' || state === 'sending')) event.preventDefault();
});

for (const {name, answer, checked, deleted} of stored(FILES_KEY, [])) {
  show(Object.assign(addEntry(name, null), {answer, checked}), deleted ? 'deleted' : 'stored');
}
