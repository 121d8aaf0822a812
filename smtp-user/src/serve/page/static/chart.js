// Draws the series of a host with uPlot, from the figures that are in the page: #charts has them as JSON.
//
// The table below has the same figures for who has no script or no eyes. A gap (null) stays empty and is
// hatched; nothing is drawn across it.

const CHARTS = [
  { figure: "connections", title: "Connections an hour", day: "Connections a day", bars: true },
  { figure: "servers", title: "Distinct servers an hour", day: "Distinct servers a day", bars: true },
  { figure: "bytes_per_packet", title: "Mean packet to servers, bytes", day: "Mean packet to servers, bytes", bars: false },
];
const HEIGHT = 150;
const DAY = 86400;

let plots = [];
let drawn = "";

/** A colour of the style sheet. */
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// What has no severity only tells small from large.
const SEVERITY = { null: "dim", notice: "accent", warning: "warn", critical: "bad" };

/** Short numbers for an axis. */
function short(value) {
  if (value === null || value === undefined) return "";
  if (value >= 1e6) return `${+(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${+(value / 1e3).toFixed(1)}k`;
  return String(+value.toFixed(1));
}

/** Whether times are shown in the zone of the browser instead of UTC. */
function isLocal() {
  return document.getElementById("zone-name").textContent !== "UTC";
}

function two(number) {
  return String(number).padStart(2, "0");
}

function date(seconds) {
  const at = new Date(1000 * seconds);
  return isLocal()
    ? { day: `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`, clock: `${two(at.getHours())}:${two(at.getMinutes())}` }
    : { day: at.toISOString().slice(0, 10), clock: at.toISOString().slice(11, 16) };
}

/** Stripes for times that were not counted. */
function stripes(context, ratio) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.round(8 * ratio);
  const pen = tile.getContext("2d");
  pen.strokeStyle = colour("line");
  pen.lineWidth = 1.5 * ratio;
  pen.beginPath();
  for (const shift of [-tile.width, 0, tile.width]) {
    pen.moveTo(shift, tile.height);
    pen.lineTo(shift + tile.width, 0);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}

/** What is behind the figures: gaps. */
function behind(chart) {
  return (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = stripes(ctx, devicePixelRatio);
    chart.connections.forEach((count, place) => {
      if (count !== null) return;
      const from = plot.valToPos(chart.times[place], "x", true);
      const to = plot.valToPos(chart.times[place] + chart.tier_seconds, "x", true);
      ctx.fillRect(from, bbox.top, to - from, bbox.height);
    });
    ctx.restore();
  };
}

/** What is before them: limits, and when verdicts were opened. */
function before(chart, figure) {
  return (plot) => {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.lineWidth = ratio;
    ctx.setLineDash([5 * ratio, 4 * ratio]);
    for (const limit of chart.limits.filter((limit) => limit.figure === figure)) {
      const y = plot.valToPos(limit.value, "y", true);
      if (y < bbox.top || y > bbox.top + bbox.height) continue;
      ctx.strokeStyle = ctx.fillStyle = colour(SEVERITY[limit.severity]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      const name = limit.severity ?? "small below";
      // Limits may be near each other: their names are at both ends.
      const right = limit.severity === "warning";
      ctx.textAlign = right ? "right" : "left";
      ctx.fillText(`${name} ${limit.value}`, right ? bbox.left + bbox.width - 4 * ratio : bbox.left + 4 * ratio, y - 3 * ratio);
    }
    ctx.setLineDash([]);
    for (const verdict of chart.verdicts) {
      const x = Math.round(plot.valToPos(verdict.at, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.strokeStyle = ctx.fillStyle = colour(SEVERITY[verdict.severity]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.beginPath();
      ctx.moveTo(x - 5 * ratio, bbox.top);
      ctx.lineTo(x + 5 * ratio, bbox.top);
      ctx.lineTo(x, bbox.top + 8 * ratio);
      ctx.fill();
    }
    ctx.restore();
  };
}

function options(chart, { figure, title, day, bars }, width) {
  const isDay = chart.tier_seconds === DAY;
  const limits = chart.limits.filter((limit) => limit.figure === figure).map((limit) => limit.value);
  const axis = {
    stroke: colour("dim"),
    grid: { stroke: colour("line"), width: 1 },
    ticks: { stroke: colour("line"), width: 1 },
    font: "11px system-ui, sans-serif",
  };
  return {
    title: isDay ? day : title,
    width,
    height: HEIGHT,
    cursor: { sync: { key: "host" }, points: { size: 6 }, drag: { x: true, y: false } },
    legend: { live: true },
    scales: {
      x: { time: true, range: () => [chart.times[0], chart.times[chart.times.length - 1] + chart.tier_seconds] },
      y: { range: (plot, low, high) => [0, Math.max(1, high ?? 0, ...limits) * 1.12] },
    },
    axes: [
      { ...axis, values: (plot, splits, place, space, step) => splits.map((at) => {
        const { day: of, clock } = date(at);
        return step >= DAY || clock === "00:00" ? of.slice(5) : clock;
      }) },
      { ...axis, size: 48, values: (plot, splits) => splits.map(short) },
    ],
    series: [
      { label: "from", value: (plot, at) => {
        if (at === null || at === undefined) return "\u2013";
        const { day: of, clock } = date(at);
        return isDay ? of : `${of} ${clock}`;
      } },
      {
        label: figure.replaceAll("_", " "),
        stroke: colour("accent"),
        fill: bars ? colour("accent-back") : undefined,
        width: bars ? 1 : 1.5,
        spanGaps: false,
        // Bars begin where their bucket does; a line has its points in the middle of it.
        paths: bars ? uPlot.paths.bars({ size: [0.86, 100], align: 1 }) : undefined,
        points: { show: !bars, size: 4, fill: colour("accent") },
        value: (plot, value, series, place) => {
          if (place === null || place === undefined) return "\u2013";
          if (value !== null && value !== undefined) return value.toLocaleString("en");
          return chart.connections[place] === null ? "not counted" : "none";
        },
      },
    ],
    hooks: { drawClear: [behind(chart)], draw: [before(chart, figure)] },
    tzDate: (at) => (isLocal() ? new Date(1000 * at) : uPlot.tzDate(new Date(1000 * at), "Etc/UTC")),
  };
}

/** Draws what the page has, if that is not drawn already. */
function draw() {
  const data = document.getElementById("chart")?.dataset.chart;
  const place = document.getElementById("charts");
  if (!place || data === undefined || typeof uPlot === "undefined") return;
  const width = place.clientWidth;
  const now = [data, width, colour("accent"), isLocal()].join();
  if (now === drawn || width === 0) return;
  drawn = now;
  for (const plot of plots) plot.destroy();
  plots = [];
  const chart = JSON.parse(data);
  const boxes = CHARTS.map((kind) => {
    const box = document.createElement("div");
    const values = chart[kind.figure];
    const most = Math.max(0, ...values.filter((value) => value !== null));
    const title = chart.tier_seconds === DAY ? kind.day : kind.title;
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", `${title}: at most ${most.toLocaleString("en")}. The table below has the figures.`);
    return box;
  });
  place.replaceChildren(...boxes);
  if (chart.times.length === 0) return;
  CHARTS.forEach((kind, place) => {
    plots.push(new uPlot(options(chart, kind, width), [chart.times, chart[kind.figure]], boxes[place]));
  });
}

const again = new MutationObserver(draw);
for (const id of ["chart", "zone-name"]) {
  const node = document.getElementById(id);
  if (node) again.observe(node, { attributes: true, childList: true, characterData: true, subtree: id === "zone-name" });
}
addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
