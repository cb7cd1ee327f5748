"use strict";
// data: {course, questions: [{name, text, points}], students: [{key, label, answers: {name: text}}], marks: {key: {name: [points, comment]}}}
const data = JSON.parse(document.getElementById("data").textContent), at = id => document.getElementById(id);
const place = "labkit marking " + data.course, empty = ["", ""];
let marks = {}, current = 0, unsaved = 0, kept = true;

const mark = (key, name) => (marks[key] || {})[name] || (data.marks[key] || {})[name] || empty;
const valid = (text, most) => text === "" || (/^\d+([.,]\d+)?$/.test(text) && +text.replace(",", ".") <= most);

function set(key, name, points, comment) {
  (marks[key] = marks[key] || {})[name] = [points, comment];
  unsaved += 1;
  keep();
}

function keep() {
  try { localStorage.setItem(place, JSON.stringify(marks)); kept = true; } catch { kept = false; }
  tell();
}

function tell(words) {
  const where = kept ? "kept in this browser" : "NOT kept: this browser stores nothing for this page; save often";
  at("state").textContent = words || (unsaved ? `${unsaved} changes not yet in a file, ${where}` : "");
  const rows = data.questions.map(question => {
    const written = data.students.filter(student => question.name in student.answers);
    const given = data.students.map(student => mark(student.key, question.name)[0]).filter(text => text !== "" && valid(text, question.points));
    const sum = given.reduce((total, text) => total + +text.replace(",", "."), 0);
    return [question.name, question.points, written.length, given.length, given.length ? (sum / given.length).toFixed(2) : "–"];
  });
  at("totals").replaceChildren(...rows.map(cells => {
    const row = document.createElement("tr");
    cells.forEach((text, place) => { const cell = row.insertCell(); cell.textContent = text; cell.className = place ? "n" : ""; });
    return row;
  }));
  if (!rows.length) return;
  const [, points, written, given, mean] = rows[current];
  at("sum").textContent = `${points} points; ${written} answers, ${given} of ${data.students.length} marked, mean ${mean}`;
}

function card(student, question, number) {
  const box = document.createElement("article"), [points, comment] = mark(student.key, question.name);
  const name = at("anonymous").checked ? `answer ${number + 1}` : student.label, text = student.answers[question.name];
  const title = document.createElement("h3"), pre = document.createElement("pre"), bdi = document.createElement("bdi");
  box.tabIndex = -1;
  box.setAttribute("aria-label", name);
  bdi.textContent = name;
  title.append(bdi);
  pre.textContent = text === undefined ? "nothing written" : text;
  pre.className = text === undefined ? "open" : "";
  pre.tabIndex = 0;
  pre.dir = "auto";
  const input = document.createElement("input"), area = document.createElement("textarea"), line = document.createElement("p");
  input.type = "text";
  input.inputMode = "decimal";
  input.value = points;
  input.setAttribute("aria-label", `points of ${name}`);
  area.value = comment;
  area.rows = 2;
  area.placeholder = "comment";
  area.setAttribute("aria-label", `comment for ${name}`);
  const change = () => {
    const right = valid(input.value.trim(), question.points);
    input.setCustomValidity(right ? "" : `a number from 0 to ${question.points}`);
    input.title = input.validationMessage;
    box.classList.toggle("marked", right && input.value.trim() !== "");
    return right;
  };
  const store = () => { if (change()) set(student.key, question.name, input.value.trim().replace(",", "."), area.value); else tell(`${name}: points are a number from 0 to ${question.points}`); };
  input.addEventListener("input", store);
  area.addEventListener("input", store);
  box.points = value => { input.value = value; store(); };
  box.comment = () => area.focus();
  line.append(input, ` of ${question.points} points`);
  box.append(title, pre, line, area);
  change();
  return box;
}

const ORDERS = {
  listed: () => 0,
  unmarked: name => (a, b) => (mark(a.key, name)[0] !== "") - (mark(b.key, name)[0] !== ""),
  short: name => (a, b) => a.answers[name].length - b.answers[name].length,
  text: name => (a, b) => a.answers[name].toLowerCase().localeCompare(b.answers[name].toLowerCase()),
};

function show(number) {
  if (!data.questions.length) { at("text").textContent = "There are no written questions."; return; }
  current = (number + data.questions.length) % data.questions.length;
  const question = data.questions[current], order = ORDERS[at("order").value](question.name);
  const students = [...data.students.keys()].map(place => ({ ...data.students[place], place }));
  const written = students.filter(student => question.name in student.answers), none = students.filter(student => !(question.name in student.answers));
  if (order) written.sort(order);
  at("question").value = current;
  at("text").textContent = question.text;
  at("answers").replaceChildren(...[...written, ...none].map(student => card(student, question, student.place)));
  tell();
}

const cards = () => [...at("answers").children];
function go(box) { if (box) { box.focus(); box.scrollIntoView({ block: "nearest" }); } }

function key(event) {
  const typing = event.target.matches("textarea, input, select"), box = event.target.closest("article"), all = cards(), here = all.indexOf(box);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && typing) { (box || document.body).focus(); event.target.blur(); go(box); return; }
  if (typing) return;
  const most = data.questions.length ? data.questions[current].points : 0, value = box ? box.querySelector("input").value : "";
  const keys = {
    n: () => show(current + 1), p: () => show(current - 1), j: () => go(all[Math.min(here + 1, all.length - 1)]), k: () => go(all[Math.max(here - 1, 0)]),
    u: () => go([...all.slice(here + 1), ...all.slice(0, here + 1)].find(one => !one.classList.contains("marked"))),
    h: () => box && box.points(String(Math.min(+(value || 0) + 0.5, most))), x: () => box && box.points(""), c: () => box && box.comment(), s: save,
  };
  const act = /^\d$/.test(event.key) && box ? () => box.points(String(Math.min(+event.key, most))) : keys[event.key];
  if (act) { event.preventDefault(); act(); }
}

const quoted = text => `"${String(text).replaceAll('"', '""')}"`;
function save() {
  const rows = [["pseudonym", "question", "points", "comment"]];
  for (const student of data.students) for (const question of data.questions) {
    const [points, comment] = mark(student.key, question.name);
    if (points !== "" || comment !== "") rows.push([student.key, question.name, points, comment]);
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff" + rows.map(row => row.map(quoted).join(",") + "\r\n").join("")], { type: "text/csv" }));
  link.download = "marks.csv";
  link.click();
  unsaved = 0;
  tell(`${rows.length - 1} marks saved as marks.csv`);
}

// Rows of a CSV file, quoted cells with line ends and all.
function rowsOf(text) {
  const rows = [[]];
  for (const [, cell, end] of text.replace(/^\ufeff/, "").matchAll(/("(?:[^"]|"")*"|[^,\r\n]*)(,|\r?\n|$)/g)) {
    rows.at(-1).push(cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell);
    if (end && end !== ",") rows.push([]);
    if (!end) break;
  }
  return rows.filter(row => row.length > 1);
}

async function load() {
  const [head, ...rows] = rowsOf(await at("load").files[0].text()), names = data.questions.map(question => question.name);
  const keys = data.students.map(student => student.key), fits = row => keys.includes(row[0]) && names.includes(row[1]) && row.length === 4;
  if (String(head) !== "pseudonym,question,points,comment") { tell("this is no marks.csv of this page"); return; }
  rows.filter(fits).forEach(([who, name, points, comment]) => { (marks[who] = marks[who] || {})[name] = [points, comment]; });
  keep();
  show(current);
  tell(`${rows.filter(fits).length} marks loaded` + (rows.every(fits) ? "" : `, ${rows.filter(row => !fits(row)).length} rows are of other students or questions`));
}

try { marks = JSON.parse(localStorage.getItem(place)) || {}; } catch { marks = {}; }
data.questions.forEach((question, place) => at("question").add(new Option(question.name, place)));
at("question").addEventListener("change", () => show(+at("question").value));
at("order").addEventListener("change", () => show(current));
at("anonymous").addEventListener("change", () => show(current));
at("next").addEventListener("click", () => show(current + 1));
at("previous").addEventListener("click", () => show(current - 1));
at("save").addEventListener("click", save);
at("load").addEventListener("change", load);
document.addEventListener("keydown", key);
addEventListener("beforeunload", event => { if (unsaved && !kept) event.preventDefault(); });
show(0);
