"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Curves. Plotly's pseudo-HTML must not see names of folders.
const escaped = (name) => name.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const KINDS = {
  faint: { mode: "lines", opacity: Math.max(0.06, 0.3 / data.looks.length), line: { width: 1, dash: "solid" }, hoverinfo: "skip" },
  band: { mode: "lines", opacity: 0.18, line: { width: 0, dash: "solid" }, fill: "toself", hoverinfo: "skip" },
  seed: { mode: "lines", opacity: 0.5, line: { width: 1 } },
  line: { mode: "lines", line: { width: 2 } },
  dotted: { mode: "lines", line: { width: 1.5, dash: "1px,3px" }, hoverinfo: "skip" },
  points: { mode: "lines+markers", line: { width: 2 }, marker: { size: 5 } },
  steps: { mode: "lines", line: { width: 2, shape: "hvh" } },
};
const boxes = [...document.querySelectorAll("input[data-variant]")];

function traces(chart) {
  return chart.traces.map(({ variant, name, kind, x, y }) => {
    const look = data.looks[variant];
    const dash = look.dash ? look.dash.split(" ").map((length) => length + "px").join(",") : "solid";
    return {
      ...KINDS[kind], x, y, name: escaped(name), showlegend: false,
      visible: boxes.length === 0 || boxes[variant].checked,
      line: { dash, ...KINDS[kind].line, color: style(look.color) },
      fillcolor: style(look.color),
      hovertemplate: "%{fullData.name}<br>%{x}: %{y}<extra></extra>",
    };
  });
}

function draw(element, chart) {
  const axis = { color: style("--text"), gridcolor: style("--line"), zerolinecolor: style("--line"), automargin: true };
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif" },
    margin: { l: 10, r: 10, t: 10, b: 10 }, hovermode: "closest",
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    xaxis: { ...axis, title: { text: chart.x } },
    yaxis: { ...axis, title: { text: chart.y }, type: chart.log ? "log" : "linear", tickformat: "~g", nticks: 6 },
  };
  const config = {
    responsive: true, displaylogo: false,
    modeBarButtons: [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]], // without the one that sends the chart away
    toImageButtonOptions: { format: "svg" },
  };
  return Plotly.react(element, traces(chart), layout, config);
}

async function drawCharts() {
  const elements = [...document.querySelectorAll(".chart")];
  if (elements.length === 0) return;
  try {
    const characters = atob(document.getElementById("plotly").textContent);
    const packed = new Uint8Array(characters.length);
    for (let i = 0; i < packed.length; i++) packed[i] = characters.charCodeAt(i);
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(unpacked).text();
    document.head.append(script);
  } catch (error) {
    elements[0].textContent = `This browser can't draw the curves (${error.message}); a newer one can.`;
    return;
  }
  // Each when it comes into view: of many runs all at once would hold up the page.
  const seen = new Set();
  const redraw = (number) => draw(elements[number], data.charts[number]);
  function drawOnce(number) {
    if (seen.has(number)) return;
    seen.add(number);
    redraw(number);
  }
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) drawOnce(elements.indexOf(target));
  }, { rootMargin: "100px" });
  elements.forEach((element) => observer.observe(element));
  addEventListener("beforeprint", () => elements.forEach((_, number) => drawOnce(number)));
  const redrawAll = () => seen.forEach(redraw);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) { // paper is light
    matchMedia(query).addEventListener("change", redrawAll);
  }
  boxes.forEach((box) => box.addEventListener("change", redrawAll));
  document.querySelectorAll("button[data-draw]").forEach((button) => button.addEventListener("click", () => {
    boxes.forEach((box) => { box.checked = button.dataset.draw === "all"; });
    redrawAll();
  }));
}

// Players: one position for all signals of a mixture, and one signal heard at a time.
let playing = null;

function stop() {
  if (playing) playing.pause();
}

function setUp(example) {
  const range = example.querySelector("input[type=range]");
  const time = example.querySelector(".time");
  const [, duration] = time.textContent.match(/of (.*)/);
  const audios = [...example.querySelectorAll("audio")];
  let position = 0;

  function show(seconds) {
    position = Math.min(seconds, range.max);
    range.value = position;
    range.setAttribute("aria-valuetext", `${position.toFixed(1)} of ${duration}`);
    time.textContent = `${position.toFixed(1)} of ${duration}`;
    example.classList.add("started");
    example.style.setProperty("--played", position / range.max);
  }

  function seek(seconds) {
    show(seconds);
    if (playing && audios.includes(playing)) playing.currentTime = position;
  }

  function play(audio) {
    stop();
    audio.currentTime = position < range.max - 0.05 ? position : 0;
    playing = audio;
    audio.play();
  }

  for (const audio of audios) {
    const figure = audio.closest("figure");
    const button = figure.querySelector("button");
    const follow = () => {
      if (playing !== audio || audio.paused) return;
      show(audio.currentTime);
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches) requestAnimationFrame(follow);
    };
    audio.addEventListener("play", () => { button.setAttribute("aria-pressed", "true"); follow(); });
    audio.addEventListener("timeupdate", follow);
    audio.addEventListener("pause", () => {
      button.setAttribute("aria-pressed", "false");
      if (playing === audio) {
        show(audio.currentTime);
        playing = null;
      }
    });
    button.addEventListener("click", () => (playing === audio ? stop() : play(audio)));
    figure.querySelector(".spectrogram").addEventListener("click", (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      seek((range.max * (event.clientX - box.left)) / box.width);
    });
  }
  range.addEventListener("input", () => seek(range.valueAsNumber));
}

document.querySelectorAll(".example").forEach(setUp);
addEventListener("load", drawCharts);
