// Files that are dropped, and a run's events drawn as they come. Everything else is HTML and htmx.
"use strict";

for (const form of document.querySelectorAll("[data-drop]")) {
  const input = form.querySelector("input[type=file]");
  const over = (on) => (event) => { event.preventDefault(); form.classList.toggle("over", on); };
  form.addEventListener("dragover", over(true));
  form.addEventListener("dragleave", over(false));
  form.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length) { input.files = event.dataTransfer.files; form.requestSubmit(); }
  });
}

// Okabe and Ito's colours; a dash beside each, for eyes and printers that see none.
const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8a8d94"];
const DASHES = [[], [8, 4], [2, 4], [10, 3, 2, 3], [], [8, 4], [2, 4]];
const MOST_POINTS = 2000;

class Curves {
  constructor(figure, words, points) {
    this.figure = figure; this.words = words; this.withPoints = points;
    this.trials = new Map(); this.plot = null; this.names = "";
  }
  clear() { this.trials.clear(); }
  add(trial, step, value) {
    if (value === null || value === undefined) return;
    if (!this.trials.has(trial)) this.trials.set(trial, new Map());
    this.trials.get(trial).set(step, value);
  }
  draw() {
    this.figure.hidden = this.trials.size === 0;
    if (this.figure.hidden) return;
    const names = [...this.trials.keys()].sort((a, b) => Number(a) - Number(b));
    let steps = [...new Set(names.flatMap((name) => [...this.trials.get(name).keys()]))].sort((a, b) => a - b);
    if (steps.length > MOST_POINTS) {
      const every = Math.ceil(steps.length / MOST_POINTS);
      steps = steps.filter((step, index) => index % every === 0 || index === steps.length - 1);
    }
    const data = [steps, ...names.map((name) => steps.map((step) => this.trials.get(name).get(step) ?? null))];
    if (this.plot && this.names === names.join()) { this.plot.setData(data); return; }
    if (this.plot) this.plot.destroy();
    this.names = names.join();
    this.plot = new uPlot(this.options(names), data, this.figure.querySelector(".plot"));
  }
  options(names) {
    const ink = getComputedStyle(document.body).color;
    const line = getComputedStyle(document.documentElement).getPropertyValue("--line");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    return {
      width: this.width(), height: 240, scales: { x: { time: false } },
      axes: [axis, { ...axis, size: 60 }],
      series: [{ label: this.words.step }, ...names.map((name, index) => ({
        label: name, stroke: COLOURS[index % COLOURS.length], width: 2, dash: DASHES[index % DASHES.length], spanGaps: true,
        points: { show: this.withPoints, size: 6 },
        value: (plot, value) => (value === null ? "–" : Number(value).toPrecision(4)),
      }))],
    };
  }
  width() { return Math.max(240, this.figure.clientWidth || 600); }
  resize() { if (this.plot) this.plot.setSize({ width: this.width(), height: 240 }); }
}

function follow(section) {
  const words = section.dataset;
  const figure = (name) => section.querySelector(`[data-chart=${name}]`);
  const charts = { loss: new Curves(figure("loss"), words, false), dev: new Curves(figure("dev"), words, true),
    rate: new Curves(figure("rate"), words, false) };
  const all = Object.values(charts);
  let due = false;
  const draw = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; all.forEach((chart) => chart.draw()); });
  };
  const source = new EventSource(words.feed);
  source.addEventListener("reset", () => all.forEach((chart) => chart.clear()));
  source.addEventListener("points", (event) => {
    for (const point of JSON.parse(event.data)) {
      const trial = String(point.trial);
      charts.loss.add(trial, point.step, point.loss);
      charts.rate.add(trial, point.step, point.learning_rate);
      charts.dev.add(trial, point.step, point.eval_metric);
    }
    section.querySelector(".waiting").hidden = true;
    draw();
  });
  source.addEventListener("status", (event) => showStatus(section, JSON.parse(event.data)));
  source.addEventListener("end", () => {
    source.close();
    section.querySelector(".waiting").hidden = true;
    if (words.state === "running") location.reload();
  });
  addEventListener("resize", () => all.forEach((chart) => chart.resize()));
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function showStatus(section, status) {
  const rows = status.phases.map((phase) => {
    const row = element("li");
    const bar = element("progress");
    bar.max = phase.total || 1; bar.value = phase.total ? phase.done : 0;
    bar.setAttribute("aria-label", phase.name);
    const count = phase.total ? `${phase.done}/${phase.total}` : String(phase.done);
    row.append(element("span", phase.name), bar, element("span", phase.eta ? `${count} · ${phase.eta}` : count));
    const figures = Object.entries(phase.figures).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(" · ");
    if (figures) row.append(element("span", figures, "of"));
    return row;
  });
  section.querySelector(".phases").replaceChildren(...rows);
  section.querySelector(".said").replaceChildren(...status.said.map((line) => element("li", line)));
}

for (const section of document.querySelectorAll("[data-feed]")) follow(section);

// An answer that is written: each system's text grows in its own column; a new message ends the one before.
let writing = null;
document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-write]");
  if (!form) return;
  event.preventDefault();
  if (writing) writing.abort();
  writing = new AbortController();
  for (const system of form.dataset.systems.split(" ")) write(form, system, writing.signal);
});

async function write(form, system, signal) {
  const place = document.querySelector(`[data-system="${system}"]`);
  place.textContent = "";
  const body = new URLSearchParams(new FormData(form));
  body.set("system", system);
  try {
    const answer = await fetch(form.dataset.write, { method: "POST", body, signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    if (!answer.ok) { place.textContent = `${answer.status}`; return; }
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) place.textContent += piece.value;
  } catch (error) {
    if (error.name !== "AbortError") place.textContent += ` (${error.message})`;
  }
}
