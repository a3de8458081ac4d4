// Curves over time by uPlot, in the page's own colours, with a key that shows the newest values, or those under the pointer.

import { $, make, say } from "./dom.js";

const HEIGHT = 170;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A chart in `figure`; `series` are `{name, colour, format, fill}`, their colours named as the style sheet names them. */
export class Chart {
  #figure;
  #series;
  #axis;
  #plot = null;
  #data;
  #under = null;

  constructor(figure, series, axis) {
    this.#figure = figure;
    this.#series = series;
    this.#axis = axis;
    this.#data = [[], ...series.map(() => [])];
    $(".key", figure).append(...series.map(({ name }) => make("span", {}, make("i"), `${name} `, make("b"))));
    this.#draw();
    new ResizeObserver(() => this.#plot.setSize(this.#size())).observe($(".plot", figure));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** Columns: seconds since 1970, then one of values for each series. */
  show(columns) {
    this.#data = columns;
    this.#plot.setData(columns);
    this.#fillKey();
  }

  #size() {
    return { width: Math.max($(".plot", this.#figure).clientWidth, 50), height: HEIGHT };
  }

  #draw() {
    this.#plot?.destroy();
    const axis = { stroke: colour("muted"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
    const font = "12px system-ui, sans-serif";
    this.#plot = new uPlot(
      {
        ...this.#size(),
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { size: 6 } },
        padding: [8, 8, 0, 0],
        scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
        axes: [
          { ...axis, font, space: 70, size: 28, values: [[60, "{HH}:{mm}"], [1, "{HH}:{mm}:{ss}"]] },
          { ...axis, font, size: 52, space: 34, values: (_, ticks) => ticks.map((tick) => this.#axis(tick)) },
        ],
        series: [
          {},
          ...this.#series.map(({ colour: name, fill }) => ({
            stroke: colour(name),
            fill: fill && `${colour(name)}22`,
            width: 2,
            points: { show: false },
          })),
        ],
        hooks: {
          setCursor: [
            (plot) => {
              this.#under = plot.cursor.idx ?? null;
              this.#fillKey();
            },
          ],
        },
      },
      this.#data,
      $(".plot", this.#figure),
    );
    [...this.#figure.querySelectorAll(".key i")].forEach((mark, index) => {
      mark.style.background = colour(this.#series[index].colour);
    });
    this.#fillKey();
  }

  #fillKey() {
    const at = this.#under ?? this.#data[0].length - 1;
    [...this.#figure.querySelectorAll(".key b")].forEach((value, index) => {
      say(value, this.#series[index].format(this.#data[index + 1][at]));
    });
  }
}
